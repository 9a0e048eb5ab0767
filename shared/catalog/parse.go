package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"keyward.dev/shared/problem"
)

// Media types of documents.
const (
	YAML = "application/yaml"
	JSON = "application/json"
	// MergePatch is the media type of patches (RFC 7396).
	MergePatch = "application/merge-patch+json"
)

const (
	// maxDepth bounds the nesting of documents; the deepest legal document needs about a dozen levels.
	maxDepth = 64
	// DefaultMaxBytes bounds a whole document.
	DefaultMaxBytes = 64 << 20
)

// syntaxError is a document that cannot be read at all: there is no tree to find violations in.
type syntaxError struct {
	reason    string
	line, col int
}

func (e *syntaxError) violation() problem.Violation {
	return problem.Violation{Reason: e.reason, Line: e.line, Column: e.col, Code: problem.Malformed}
}

// parse reads a document of a media type. No media type means YAML, which JSON nearly always is, too.
func parse(body []byte, contentType string) (*node, *syntaxError) {
	if len(body) > DefaultMaxBytes {
		return nil, &syntaxError{reason: fmt.Sprintf("the document has more than %d bytes", DefaultMaxBytes)}
	}
	if !utf8.Valid(body) {
		return nil, &syntaxError{reason: "the document is not UTF-8"}
	}
	if isJSON(contentType) {
		return parseJSON(body)
	}
	return parseYAML(body)
}

// Supported reports whether documents of a media type can be read.
func Supported(contentType string) bool {
	t := mediaType(contentType)
	return t == "" || isJSON(contentType) || t == YAML || t == "application/x-yaml" || t == "text/yaml" || t == "text/x-yaml"
}

func isJSON(contentType string) bool {
	t := mediaType(contentType)
	return t == JSON || strings.HasSuffix(t, "+json")
}

func mediaType(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return strings.ToLower(strings.TrimSpace(contentType))
	}
	return t
}

func parseYAML(body []byte) (*node, *syntaxError) {
	loader, err := yaml.NewLoader(bytes.NewReader(body), yaml.WithV4Defaults())
	if err != nil {
		return nil, yamlError(err)
	}
	var doc yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return &node{kind: kindNull, line: 1, col: 1}, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	var more yaml.Node
	if err := loader.Load(&more); err == nil {
		return nil, &syntaxError{"a file holds one document; this is a second one", more.Line, more.Column}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return fromYAML(&doc, 0)
}

// yamlError keeps the messages that speak of syntax; those of later stages repeat text of the document, which may be
// secret (a value that begins with * is an alias to YAML).
func yamlError(err error) *syntaxError {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return &syntaxError{reason: "this is not YAML"}
	}
	switch {
	case e.Stage == yaml.ReaderStage || e.Stage == yaml.ScannerStage || e.Stage == yaml.ParserStage:
		return &syntaxError{"this is not YAML: " + e.Message, e.Mark.Line, e.Mark.Column}
	case strings.Contains(e.Message, "anchor"):
		return &syntaxError{"aliases are not supported; quote a value that begins with *", e.Mark.Line, e.Mark.Column}
	default:
		return &syntaxError{"this is not YAML that can be read", e.Mark.Line, e.Mark.Column}
	}
}

func fromYAML(y *yaml.Node, depth int) (*node, *syntaxError) {
	refuse := func(reason string) (*node, *syntaxError) { return nil, &syntaxError{reason, y.Line, y.Column} }
	n := &node{line: y.Line, col: y.Column}
	switch {
	case depth > maxDepth:
		return refuse("nested too deeply")
	case y.Kind == yaml.AliasNode:
		return refuse("aliases are not supported; write the value again")
	case y.Anchor != "":
		return refuse("anchors are not supported; write the value again")
	case y.Style&yaml.TaggedStyle != 0:
		return refuse("tags are not supported; quote a value to make it a string")
	case y.Kind == yaml.DocumentNode && len(y.Content) == 1:
		return fromYAML(y.Content[0], depth)
	case y.Kind == yaml.ScalarNode:
		n.kind, n.text = yamlScalar(y), y.Value
		return n, nil
	case y.Kind == yaml.SequenceNode:
		n.kind = kindList
	case y.Kind == yaml.MappingNode:
		n.kind = kindMap
	default:
		return n, nil // an empty document
	}
	return n, fromYAMLContent(n, y, depth)
}

func fromYAMLContent(n *node, y *yaml.Node, depth int) *syntaxError {
	children := make([]*node, 0, len(y.Content))
	for _, c := range y.Content {
		child, err := fromYAML(c, depth+1)
		if err != nil {
			return err
		}
		children = append(children, child)
	}
	if n.kind == kindList {
		n.items = children
		return nil
	}
	for i := 0; i+1 < len(children); i += 2 {
		k := children[i]
		if y.Content[i].ShortTag() == "!!merge" {
			return &syntaxError{"merge keys are not supported; write the fields again", k.line, k.col}
		}
		n.entries = append(n.entries, entry{key: k, node: children[i+1]})
	}
	return nil
}

func yamlScalar(y *yaml.Node) nodeKind {
	switch y.ShortTag() {
	case "!!null":
		return kindNull
	case "!!bool":
		return kindBool
	case "!!int":
		return kindInt
	case "!!float":
		return kindFloat
	case "!!timestamp":
		return kindTime
	default:
		return kindString
	}
}

// jsonParser reads JSON by tokens, which keeps duplicate keys and positions that the usual decoder loses.
type jsonParser struct {
	dec  *json.Decoder
	body []byte
	// at, line and lineStart remember how far positions were counted: offset, its line, offset of the line's start.
	at, line, lineStart int
}

func parseJSON(body []byte) (*node, *syntaxError) {
	p := &jsonParser{dec: json.NewDecoder(bytes.NewReader(body)), body: body, line: 1}
	p.dec.UseNumber()
	// The token reader alone is lenient about commas; this pass is not, and knows the place.
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, p.syntax(err)
	}
	return p.value(0)
}

// syntax never repeats text of the document.
func (p *jsonParser) syntax(err error) *syntaxError {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok && int(e.Offset) < len(p.body) {
		line, col := p.position(max(int(e.Offset)-1, 0))
		return &syntaxError{"this is not JSON", line, col}
	}
	return &syntaxError{reason: "this is not JSON: it ends too early"}
}

// next returns line and column of the next token.
func (p *jsonParser) next() (line, col int) {
	off := int(p.dec.InputOffset())
	for off < len(p.body) && strings.IndexByte(" \t\r\n,:", p.body[off]) >= 0 {
		off++
	}
	return p.position(off)
}

// position returns line and column of an offset not before the last one asked for.
func (p *jsonParser) position(off int) (line, col int) {
	for ; p.at < off; p.at++ {
		if p.body[p.at] == '\n' {
			p.line, p.lineStart = p.line+1, p.at+1
		}
	}
	return p.line, off - p.lineStart + 1
}

func (p *jsonParser) value(depth int) (*node, *syntaxError) {
	n := &node{}
	n.line, n.col = p.next()
	if depth > maxDepth {
		return nil, &syntaxError{"nested too deeply", n.line, n.col}
	}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, &syntaxError{"this is not JSON", n.line, n.col}
	}
	switch t := tok.(type) {
	case nil:
		n.kind = kindNull
	case bool:
		n.kind, n.text = kindBool, fmt.Sprint(t)
	case json.Number:
		n.kind, n.text = kindInt, t.String()
		if strings.ContainsAny(n.text, ".eE") {
			n.kind = kindFloat
		}
	case string:
		n.kind, n.text = kindString, t
	case json.Delim:
		return n, p.composite(n, t, depth)
	}
	return n, nil
}

func (p *jsonParser) composite(n *node, open json.Delim, depth int) *syntaxError {
	n.kind = kindMap
	if open == '[' {
		n.kind = kindList
	}
	for p.dec.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if n.kind == kindList {
			n.items = append(n.items, v)
			continue
		}
		e := entry{key: v}
		if e.node, err = p.value(depth + 1); err != nil {
			return err
		}
		n.entries = append(n.entries, e)
	}
	if _, err := p.dec.Token(); err != nil {
		return &syntaxError{"this is not JSON", n.line, n.col}
	}
	return nil
}
