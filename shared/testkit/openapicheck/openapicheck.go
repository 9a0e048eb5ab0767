// Package openapicheck holds requests and answers against an OpenAPI 3.1 document, so that tests notice when the document
// and the server disagree. It is for tests only: put Transport around an HTTP client, or hand recorded exchanges to Check.
package openapicheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const location = "openapi.json"

// Exchange is one request with its answer.
type Exchange struct {
	Method, Path string
	RequestType  string
	Request      []byte
	Status       int
	ResponseType string
	Response     []byte
}

// Checker knows a document. It is safe for concurrent use.
type Checker struct {
	paths []path

	mu       sync.Mutex
	compiler *jsonschema.Compiler          // guarded by mu
	compiled map[string]*jsonschema.Schema // guarded by mu
	covered  map[string]bool               // guarded by mu: operation ids that were seen
	faults   []error                       // guarded by mu: what Transport found
}

// path is a template with its operations.
type path struct {
	template   string
	segments   []string
	operations map[string]operation
}

type operation struct {
	ID          string              `json:"operationId"`
	RequestBody body                `json:"requestBody"`
	Responses   map[string]response `json:"responses"`
}

type body struct {
	Content map[string]json.RawMessage `json:"content"`
}

type response struct {
	Ref     string                     `json:"$ref"`
	Content map[string]json.RawMessage `json:"content"`
}

// New reads a document. Every schema in it must compile.
func New(document []byte) (*Checker, error) {
	var doc struct {
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	c := &Checker{compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}, covered: map[string]bool{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(location, value); err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	for name := range doc.Components.Schemas {
		if _, err := c.schema("/components/schemas/" + name); err != nil {
			return nil, err
		}
	}
	for template, operations := range doc.Paths {
		c.paths = append(c.paths, path{template, strings.Split(template, "/"), operations})
	}
	return c, nil
}

// Validate holds a JSON or YAML document against a named schema.
func (c *Checker) Validate(schema, contentType string, document []byte) error {
	return c.validate("/components/schemas/"+schema, contentType, document)
}

// Check holds one exchange against the document. The body of a request that the server refused need not fit.
func (c *Checker) Check(x Exchange) error {
	template, op := c.find(x.Method, x.Path)
	if op == nil {
		if x.Status == http.StatusNotFound || x.Status == http.StatusMethodNotAllowed {
			return nil // not in the document, and not served
		}
		return fmt.Errorf("%s %s is answered %d, but not in the document", x.Method, x.Path, x.Status)
	}
	c.mu.Lock()
	c.covered[op.ID] = true
	c.mu.Unlock()
	base := "/paths/" + escape(template) + "/" + strings.ToLower(x.Method)
	var faults []error
	if x.Status < 400 && len(x.Request) > 0 {
		faults = append(faults, c.content("request of "+op.ID, base+"/requestBody", op.RequestBody.Content, x.RequestType, x.Request))
	}
	at, declared := responseOf(op, x.Status)
	if !declared {
		return fmt.Errorf("%s is answered %d, which the document does not have", op.ID, x.Status)
	}
	what := fmt.Sprintf("answer %d of %s", x.Status, op.ID)
	if r := op.Responses[at]; r.Ref != "" {
		faults = append(faults, c.problem(what, x))
	} else if len(x.Response) > 0 || len(r.Content) > 0 {
		faults = append(faults, c.content(what, base+"/responses/"+at, r.Content, x.ResponseType, x.Response))
	}
	return errors.Join(faults...)
}

// Uncovered lists the operations that no checked exchange used.
func (c *Checker) Uncovered() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, p := range c.paths {
		for _, op := range p.operations {
			if !c.covered[op.ID] {
				out = append(out, op.ID)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (c *Checker) problem(what string, x Exchange) error {
	if t, _, _ := mime.ParseMediaType(x.ResponseType); t != "application/problem+json" {
		return fmt.Errorf("%s: media type %q, want application/problem+json", what, x.ResponseType)
	}
	if err := c.validate("/components/schemas/Problem", "application/json", x.Response); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (c *Checker) content(what, base string, content map[string]json.RawMessage, contentType string, doc []byte) error {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || content[mediaType] == nil {
		return fmt.Errorf("%s: media type %q is not in the document", what, contentType)
	}
	if err := c.validate(base+"/content/"+escape(mediaType)+"/schema", mediaType, doc); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (c *Checker) validate(pointer, contentType string, doc []byte) error {
	switch {
	case !strings.Contains(contentType, "yaml") && !strings.Contains(contentType, "json"): // a file: a string to schemas
		var err error
		if doc, err = json.Marshal(string(doc)); err != nil {
			return fmt.Errorf("quote a file: %w", err)
		}
	case strings.Contains(contentType, "yaml"):
		var value any
		if err := yaml.Unmarshal(doc, &value); err != nil {
			return fmt.Errorf("read YAML: %w", err)
		}
		var err error
		if doc, err = json.Marshal(value); err != nil {
			return fmt.Errorf("read YAML: %w", err)
		}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	schema, err := c.schema(pointer)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func (c *Checker) schema(pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.compiled[pointer]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile(location + "#" + pointer)
	if err != nil {
		return nil, fmt.Errorf("compile schema %s: %w", pointer, err)
	}
	c.compiled[pointer] = s
	return s, nil
}

// find returns the operation for a path, preferring literals to variables.
func (c *Checker) find(method, requestPath string) (template string, found *operation) {
	segments, best := strings.Split(requestPath, "/"), -1
	for _, p := range c.paths {
		specific, ok := p.match(segments)
		if op, has := p.operations[strings.ToLower(method)]; ok && has && specific > best {
			template, found, best = p.template, &op, specific
		}
	}
	return template, found
}

func (p *path) match(segments []string) (specific int, ok bool) {
	if len(segments) != len(p.segments) {
		return 0, false
	}
	for i, want := range p.segments {
		got := segments[i]
		if variable, verb, isVar := strings.Cut(want, "}"); isVar && strings.HasPrefix(variable, "{") {
			name, hasVerb := strings.CutSuffix(got, verb)
			if !hasVerb || name == "" || strings.Contains(name, ":") {
				return 0, false
			}
			continue
		}
		if got != want {
			return 0, false
		}
		specific++
	}
	return specific, true
}

func responseOf(op *operation, status int) (key string, ok bool) {
	for _, key := range []string{strconv.Itoa(status), strconv.Itoa(status/100) + "XX", "default"} {
		if _, ok := op.Responses[key]; ok {
			return key, true
		}
	}
	return "", false
}

// escape writes a JSON pointer segment for a URL fragment.
func escape(segment string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(segment)
}

// Transport checks everything that goes through next; Faults tells what it found.
func (c *Checker) Transport(next http.RoundTripper) http.RoundTripper {
	return transport{checker: c, next: next}
}

// Faults returns what the transports have found.
func (c *Checker) Faults() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

type transport struct {
	checker *Checker
	next    http.RoundTripper
}

// RoundTrip sends the request on and checks it and its answer.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := Exchange{Method: r.Method, Path: r.URL.Path, RequestType: r.Header.Get("Content-Type")}
	if r.Body != nil {
		var err error
		if x.Request, err = io.ReadAll(r.Body); err != nil {
			return nil, fmt.Errorf("record request: %w", err)
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(x.Request))
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if x.Response, err = io.ReadAll(resp.Body); err != nil {
		return nil, fmt.Errorf("record answer: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return nil, fmt.Errorf("record answer: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(x.Response))
	x.Status, x.ResponseType = resp.StatusCode, resp.Header.Get("Content-Type")
	if x.Path != "/openapi.json" && r.Method != http.MethodHead {
		if err := t.checker.Check(x); err != nil {
			t.checker.mu.Lock()
			t.checker.faults = append(t.checker.faults, err)
			t.checker.mu.Unlock()
		}
	}
	return resp, nil
}
