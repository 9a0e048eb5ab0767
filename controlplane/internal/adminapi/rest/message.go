package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/operation"
)

// message serves an RPC whose own messages are the bodies.
func (c *call) message(ctx context.Context) error {
	in, err := newMessage(c.op.RPC.Input())
	if err != nil {
		return err
	}
	if err := c.decodeMessage(in); err != nil {
		return err
	}
	out, err := newMessage(c.op.RPC.Output())
	if err != nil {
		return err
	}
	if err := c.invoke(ctx, in, out); err != nil {
		return err
	}
	body, err := c.encodeMessage(out)
	if err != nil {
		return err
	}
	status := c.op.Success
	if made, ok := out.(interface{ GetChanged() bool }); ok && status == http.StatusCreated && !made.GetChanged() {
		status = http.StatusOK
	}
	c.answer(status, body)
	return nil
}

func (c *call) decodeMessage(in proto.Message) error {
	if !c.op.Body {
		return c.query(in)
	}
	if field, ok := c.file(); ok {
		return c.decodeFile(in, field)
	}
	if err := c.noQuery(); err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	if len(body) > 0 { // no body at all stands for an empty one
		contentType, err := c.contentType(catalog.JSON, catalog.YAML)
		if err != nil {
			return err
		}
		if err := c.decode(in, body, contentType); err != nil {
			return err
		}
	}
	return c.fillFromPath(in)
}

// file answers the field that the whole body stands for, if it is a file.
func (c *call) file() (field string, ok bool) {
	mediaType, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	field, ok = c.op.Files[mediaType]
	return field, ok && err == nil
}

// decodeFile fills the request from a file and the query. A file that is no text goes in Base64.
func (c *call) decodeFile(in proto.Message, field string) error {
	mediaType, err := c.contentType(slices.Collect(maps.Keys(c.op.Files))...)
	if err != nil {
		return err
	}
	if err := c.queryOnly(in); err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	text := string(body)
	if mediaType == operation.PKCS12File {
		text = base64.StdEncoding.EncodeToString(body)
	} else if !utf8.Valid(body) {
		return problem.Errorf(problem.Malformed, "the body is not text")
	}
	fd := in.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field))
	in.ProtoReflect().Set(fd, protoreflect.ValueOfMessage((&configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}).ProtoReflect()))
	return c.fillFromPath(in)
}

// fillFromPath sets what the path says; a body that says otherwise is wrong.
func (c *call) fillFromPath(in proto.Message) error {
	var vs []problem.Violation
	m := in.ProtoReflect()
	for i, name := range c.op.Path.Vars() {
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		want, err := scalar(fd, c.vars[name])
		if err != nil {
			return problem.Errorf(problem.NotFound, "%s in the path: %w", c.op.Path.Labels()[i], err)
		}
		if m.Has(fd) && !m.Get(fd).Equal(want) {
			vs = append(vs, problem.Violation{Path: name, Reason: "is not what the path says"})
		}
		m.Set(fd, want)
	}
	return problem.Violated(vs)
}

// query fills the request from path and query.
func (c *call) query(in proto.Message) error {
	if err := c.noBody(); err != nil {
		return err
	}
	if err := c.queryOnly(in); err != nil {
		return err
	}
	return c.fillFromPath(in)
}

// queryOnly fills a message from the query of an operation that may have a body beside it.
func (c *call) queryOnly(in proto.Message) error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return problem.Errorf(problem.Malformed, "the query is malformed")
	}
	doc, err := queryDocument(values, c.op.QueryFields())
	if err != nil {
		return err
	}
	return c.decode(in, doc, catalog.JSON)
}

func (c *call) decode(in proto.Message, body []byte, contentType string) error {
	return problem.Violated(c.cfg.Catalog.DecodeMessage(in, body, contentType))
}

// noQuery refuses parameters on operations that have none: a mistyped dry_run must not store anything.
func (c *call) noQuery() error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return problem.Errorf(problem.Malformed, "the query is malformed")
	}
	_, err = queryDocument(values, nil)
	return err
}

// noBody refuses a body where none belongs.
func (c *call) noBody() error {
	var one [1]byte
	if n, _ := c.r.Body.Read(one[:]); n > 0 {
		return problem.Errorf(problem.Malformed, "%s on this path takes no body", c.r.Method)
	}
	return nil
}

// queryDocument writes query parameters as the JSON document they stand for, so that they are read, and their mistakes
// told, like everything else.
func queryDocument(values url.Values, fields []protoreflect.FieldDescriptor) ([]byte, error) {
	var vs []problem.Violation
	doc := make(map[string]json.RawMessage, len(values))
	known := make(map[string]protoreflect.FieldDescriptor, len(fields))
	for _, fd := range fields {
		known[string(fd.Name())] = fd
	}
	for name, all := range values {
		fd := known[name]
		switch {
		case fd == nil:
			vs = append(vs, problem.Violation{Path: printable(name), Reason: "unknown query parameter", Code: problem.Malformed})
		case len(all) > 1:
			vs = append(vs, problem.Violation{Path: name, Reason: "written twice", Code: problem.Malformed})
		default:
			doc[name] = jsonOf(fd, all[0])
		}
	}
	if len(vs) > 0 {
		return nil, problem.Violated(problem.Sort(vs))
	}
	return json.Marshal(doc)
}

// jsonOf writes a parameter's text as the JSON type of its field; text that does not fit stays a string, which the
// decoder then refuses with the reason.
func jsonOf(fd protoreflect.FieldDescriptor, text string) json.RawMessage {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if text == "true" || text == "false" {
			return json.RawMessage(text)
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
			return json.RawMessage(text)
		}
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return quoted
}

// scalar reads a path variable.
func scalar(fd protoreflect.FieldDescriptor, text string) (protoreflect.Value, error) {
	if fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(text), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return protoreflect.Value{}, fmt.Errorf("not a number")
	}
	return protoreflect.ValueOfInt64(n), nil
}

// newMessage makes a message of the generated type.
func newMessage(md protoreflect.MessageDescriptor) (proto.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		return nil, fmt.Errorf("message type %s: %w", md.FullName(), err)
	}
	return mt.New().Interface(), nil
}
