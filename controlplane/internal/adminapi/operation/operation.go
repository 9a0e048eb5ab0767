// Package operation lists what can be done over REST, worked out from descriptors: a literal path for each kind of
// resource, and what google.api.http rules say of all other RPCs. The REST handler routes by this list and the OpenAPI
// document is generated from it, so neither can know a path that the other does not. It does no I/O.
package operation

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
)

// Media types of files with a certificate.
const (
	PEMFile    = "application/x-pem-file"
	PKCS12File = "application/x-pkcs12"
)

// Form says how an operation's bodies are made.
type Form uint8

const (
	// Message has the RPC's own request and response message.
	Message Form = iota
	// GetResource answers a document of one kind.
	GetResource
	// ListResources answers documents of one kind.
	ListResources
	// PutResource takes and answers a document of one kind.
	PutResource
	// PatchResource takes a merge patch and answers a document of one kind.
	PatchResource
	// DeleteResource takes and answers nothing.
	DeleteResource
	// Apply takes a whole document.
	Apply
	// Export answers a whole document.
	Export
)

// Operation is one method on one path.
type Operation struct {
	// ID is unique, e.g. "listServices".
	ID     string
	Method string
	Path   Template
	RPC    protoreflect.MethodDescriptor
	Form   Form
	// Kind is set for the forms about one kind.
	Kind *catalog.Kind
	// Body says that Form Message takes its request from the body; else fields that are no path variables come from the
	// query.
	Body bool
	// Files says which media types of a body stand for one field of the request; the other fields come from the query then.
	Files map[string]string
	// Several says that the name in the path can be several, with commas between them; the answer is a list then.
	Several bool
	// Success is the status of a good answer; a PUT that creates answers 201 as well, and what answers 201 without having
	// changed anything 200.
	Success int
}

// List returns all operations, ordered by path and method.
func List(kinds []*catalog.Kind) ([]Operation, error) {
	var ops []Operation
	for _, file := range []protoreflect.FileDescriptor{adminv1.File_keyward_admin_v1_admin_proto, adminv1.File_keyward_admin_v1_authority_proto, adminv1.File_keyward_admin_v1_keyring_proto, adminv1.File_keyward_admin_v1_resource_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				more, err := ofMethod(methods.Get(j), kinds)
				if err != nil {
					return nil, err
				}
				ops = append(ops, more...)
			}
		}
	}
	slices.SortFunc(ops, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Path.String(), b.Path.String()), cmp.Compare(a.Method, b.Method))
	})
	for i := 1; i < len(ops); i++ {
		if ops[i].Path.String() == ops[i-1].Path.String() && ops[i].Method == ops[i-1].Method {
			return nil, fmt.Errorf("two operations for %s %s", ops[i].Method, ops[i].Path)
		}
	}
	return ops, nil
}

func ofMethod(m protoreflect.MethodDescriptor, kinds []*catalog.Kind) ([]Operation, error) {
	if rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule); ok && rule != nil {
		op, err := ofRule(m, rule)
		return []Operation{op}, err
	}
	if m.Parent().FullName() == "keyward.admin.v1.ResourceService" {
		if ops := ofResources(m, kinds); ops != nil {
			return ops, nil
		}
	}
	return nil, fmt.Errorf("method %s has no REST path", m.FullName())
}

func ofRule(m protoreflect.MethodDescriptor, rule *annotations.HttpRule) (Operation, error) {
	op := Operation{ID: lowerFirst(string(m.Name())), RPC: m, Form: Message, Success: http.StatusOK}
	var path string
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		op.Method, path = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		op.Method, path = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		op.Method, path = http.MethodDelete, p.Delete
	default:
		return op, fmt.Errorf("method %s: this kind of http rule is not supported", m.FullName())
	}
	switch rule.GetBody() {
	case "":
	case "*":
		op.Body = true
	default:
		return op, fmt.Errorf("method %s: body must be `*` or absent", m.FullName())
	}
	op.Path = parse(path)
	if m.Name() == "AddCertificate" {
		op.Success, op.Files = http.StatusCreated, map[string]string{PEMFile: "pem", PKCS12File: "pkcs12"}
	}
	for _, v := range op.Path.Vars() {
		if fd := m.Input().Fields().ByName(protoreflect.Name(v)); fd == nil {
			return op, fmt.Errorf("method %s: path variable %s is no field", m.FullName(), v)
		}
	}
	return op, nil
}

func ofResources(m protoreflect.MethodDescriptor, kinds []*catalog.Kind) []Operation {
	switch m.Name() {
	case "Apply":
		return []Operation{{ID: "apply", Method: http.MethodPost, Path: parse("/v1/groups/{group}:apply"), RPC: m, Form: Apply, Success: http.StatusOK}}
	case "Export":
		return []Operation{{ID: "export", Method: http.MethodGet, Path: parse("/v1/groups/{group}:export"), RPC: m, Form: Export, Success: http.StatusOK}}
	}
	var ops []Operation
	for _, k := range kinds {
		if op, ok := ofKind(m, k); ok {
			ops = append(ops, op)
		}
	}
	return ops
}

func ofKind(m protoreflect.MethodDescriptor, k *catalog.Kind) (Operation, bool) {
	op := Operation{RPC: m, Kind: k, Success: http.StatusOK}
	collection, singular := "/v1/groups/{group}/"+k.Name, pascal(k.Singular)
	if k.Parent != "" {
		collection = "/v1/groups/{group}/" + k.Parent + "/{parent}/" + k.Name
	}
	item := collection + "/{name}"
	if k.Singleton {
		item = collection
	}
	switch m.Name() {
	case "Get":
		op.ID, op.Method, op.Form, op.Path = "get"+singular, http.MethodGet, GetResource, parse(item)
		op.Several = k.Name == certs.Kind
	case "List":
		op.ID, op.Method, op.Form, op.Path = "list"+pascal(k.Name), http.MethodGet, ListResources, parse(collection)
		return op, !k.Singleton
	case "Put":
		op.ID, op.Method, op.Form, op.Path = "put"+singular, http.MethodPut, PutResource, parse(item)
	case "Patch":
		op.ID, op.Method, op.Form, op.Path = "patch"+singular, http.MethodPatch, PatchResource, parse(item)
	case "Delete":
		op.ID, op.Method, op.Form, op.Path = "delete"+singular, http.MethodDelete, DeleteResource, parse(item)
		return op, !k.Singleton
	default:
		return op, false
	}
	return op, true
}

// pascal turns "consumer-groups" into "ConsumerGroups" and "CA certificate" into "CaCertificate".
func pascal(words string) string {
	var b strings.Builder
	for _, w := range strings.FieldsFunc(words, func(r rune) bool { return r == '-' || r == ' ' }) {
		b.WriteString(strings.ToUpper(w[:1]) + strings.ToLower(w[1:]))
	}
	return b.String()
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// QueryFields lists the request fields that come from the query: what neither the path, the body nor a header fills.
func (op *Operation) QueryFields() []protoreflect.FieldDescriptor {
	if op.Form == Message && op.Body {
		return op.besideFile()
	}
	input := op.RPC.Input()
	if op.Form == Apply {
		input = input.Fields().ByName("header").Message()
	}
	taken := op.Path.Vars()
	if op.Form != Message {
		taken = append(taken, "kind", "parent", "name", "names", "resource", "merge_patch", "if_match", "if_none_match", "clear", "content_type")
	}
	if op.Kind != nil && op.Kind.Name != certs.Kind && op.Kind.Name != certs.KindCA {
		taken = append(taken, "expiring_within")
	}
	var out []protoreflect.FieldDescriptor
	for i := range input.Fields().Len() {
		if fd := input.Fields().Get(i); !slices.Contains(taken, string(fd.Name())) {
			out = append(out, fd)
		}
	}
	return out
}

// besideFile lists the fields that the query can fill where the body is a file: text, apart from what the path says.
func (op *Operation) besideFile() []protoreflect.FieldDescriptor {
	var out []protoreflect.FieldDescriptor
	for i := range op.RPC.Input().Fields().Len() {
		fd := op.RPC.Input().Fields().Get(i)
		if len(op.Files) > 0 && fd.Kind() == protoreflect.StringKind && !slices.Contains(op.Path.Vars(), string(fd.Name())) {
			out = append(out, fd)
		}
	}
	return out
}
