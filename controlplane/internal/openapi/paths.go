package openapi

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/internal/adminapi/operation"
)

// findInputs marks the messages that requests are made of.
func (g *generator) findInputs(ops []operation.Operation) {
	var mark func(md protoreflect.MessageDescriptor)
	mark = func(md protoreflect.MessageDescriptor) {
		if g.inputs[string(md.FullName())] {
			return
		}
		g.inputs[string(md.FullName())] = true
		for i := range md.Fields().Len() {
			if m := md.Fields().Get(i).Message(); m != nil {
				mark(m)
			}
		}
	}
	for i := range ops {
		if ops[i].Form == operation.Message && ops[i].Body {
			mark(ops[i].RPC.Input())
		}
	}
}

func (g *generator) paths(ops []operation.Operation) object {
	paths := object{}
	for i := range ops {
		op := &ops[i]
		path := op.Path.String()
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(op.Method)] = g.operation(op)
	}
	return paths
}

func (g *generator) operation(op *operation.Operation) object {
	out := object{
		"operationId": op.ID,
		"description": g.comments.Of(op.RPC),
		"tags":        list{tag(op)},
		"parameters":  g.parameters(op),
	}
	perm, _ := proto.GetExtension(op.RPC.Options(), optionsv1.E_Permission).(*optionsv1.Permission)
	out["x-keyward-permission"] = object{"role": word(perm.GetRole().String(), "ROLE_"), "scope": word(perm.GetScope().String(), "SCOPE_")}
	if perm.GetRole() == optionsv1.Role_ROLE_ANYONE {
		out["security"] = list{}
	}
	if body := g.requestBody(op); body != nil {
		out["requestBody"] = body
	}
	out["responses"] = g.responses(op)
	return out
}

func tag(op *operation.Operation) string {
	if op.Kind != nil {
		return op.Kind.Name
	}
	return strings.ToLower(strings.TrimSuffix(string(op.RPC.Parent().Name()), "Service"))
}

func word(value, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(value, prefix)), "_", "-")
}

func (g *generator) parameters(op *operation.Operation) list {
	out := list{}
	labels := op.Path.Labels()
	for i, name := range op.Path.Vars() {
		schema := object{"type": "string", "pattern": namePattern}
		if fd := op.RPC.Input().Fields().ByName(protoreflect.Name(name)); fd != nil && fd.Kind() == protoreflect.Int64Kind {
			schema = object{"type": "integer", "minimum": 0}
		}
		if op.Several && name == "name" {
			schema = object{"type": "string", "pattern": severalPattern, "description": "A name or id, or several with commas between them."}
		}
		out = append(out, object{"name": labels[i], "in": "path", "required": true, "schema": schema})
	}
	for _, fd := range op.QueryFields() {
		p := object{"name": string(fd.Name()), "in": "query", "schema": g.single(fd)}
		if text := g.comments.Of(fd); text != "" {
			p["description"] = text
		}
		out = append(out, p)
	}
	return append(out, conditions(op)...)
}

func conditions(op *operation.Operation) list {
	header := func(name, text string) object {
		return object{"name": name, "in": "header", "description": text, "schema": object{"type": "string"}}
	}
	ifMatch := header("If-Match", "Only if the stored resource has this entity tag; `*`: only if there is one.")
	switch op.Form {
	case operation.GetResource:
		return list{header("If-None-Match", "Answer 304 if the resource still has this entity tag.")}
	case operation.PutResource:
		return list{ifMatch, header("If-None-Match", "`*`: only if there is none.")}
	case operation.PatchResource, operation.DeleteResource:
		return list{ifMatch}
	default:
		return nil
	}
}

func (g *generator) requestBody(op *operation.Operation) object {
	body := func(schema object, types ...string) object {
		content := object{}
		for _, t := range types {
			content[t] = object{"schema": schema}
		}
		return object{"required": true, "content": content}
	}
	switch op.Form {
	case operation.PutResource:
		return body(g.message(op.Kind.Type.Descriptor()), catalog.JSON, catalog.YAML)
	case operation.PatchResource:
		return body(object{"type": "object", "description": "A JSON Merge Patch (RFC 7396) on the normalised form."}, catalog.MergePatch)
	case operation.Apply:
		return body(ref(fileSchema), catalog.YAML, catalog.JSON)
	case operation.Message:
		if op.Body {
			b := body(g.message(op.RPC.Input()), catalog.JSON, catalog.YAML)
			b["required"] = false
			content, _ := b["content"].(object)
			for mediaType := range op.Files {
				content[mediaType] = object{"schema": object{"type": "string", "description": "The file as it is."}}
			}
			return b
		}
	}
	return nil
}

func (g *generator) responses(op *operation.Operation) object {
	out := object{"4XX": object{"$ref": "#/components/responses/Problem"}, "5XX": object{"$ref": "#/components/responses/Problem"}}
	answer := func(status int, text string, content object) {
		a := object{"description": text, "headers": headers(op)}
		if content != nil {
			a["content"] = content
		}
		out[strconv.Itoa(status)] = a
	}
	inJSON := func(schema object) object { return object{catalog.JSON: object{"schema": schema}} }
	switch op.Form {
	case operation.GetResource:
		one := g.message(op.Kind.Type.Descriptor())
		if op.Several {
			one = object{"anyOf": list{one, page(one)}}
		}
		answer(http.StatusOK, "The resource", inJSON(one))
		answer(http.StatusNotModified, "Not changed", nil)
	case operation.ListResources:
		answer(http.StatusOK, "A page, ordered by name", inJSON(page(g.message(op.Kind.Type.Descriptor()))))
	case operation.PutResource:
		answer(http.StatusOK, "Replaced, or as it was", inJSON(g.message(op.Kind.Type.Descriptor())))
		answer(http.StatusCreated, "Created", inJSON(g.message(op.Kind.Type.Descriptor())))
	case operation.PatchResource:
		answer(http.StatusOK, "Changed, or as it was", inJSON(g.message(op.Kind.Type.Descriptor())))
	case operation.DeleteResource:
		answer(http.StatusNoContent, "Removed", nil)
	case operation.Export:
		answer(http.StatusOK, "The group as a document", object{catalog.YAML: object{"schema": ref(fileSchema)}, catalog.JSON: object{"schema": ref(fileSchema)}})
	default:
		answer(op.Success, "Done", inJSON(g.message(op.RPC.Output())))
		if op.Success == http.StatusCreated {
			answer(http.StatusOK, "As it was", inJSON(g.message(op.RPC.Output())))
		}
	}
	return out
}

func page(item object) object {
	return object{
		"type":                 "object",
		"additionalProperties": false,
		"required":             list{"resources", "at_revision"},
		"properties": object{
			"resources":       object{"type": "array", "items": item},
			"next_page_token": object{"type": "string", "description": "Absent on the last page."},
			"at_revision":     object{"type": "integer", "minimum": 0},
		},
	}
}

func headers(op *operation.Operation) object {
	text := func(description string) object {
		return object{"description": description, "schema": object{"type": "string"}}
	}
	out := object{}
	if op.RPC.Parent().Name() == "ResourceService" {
		out["Keyward-Revision"] = text("Revision of the group that the answer was made at, or that the write made.")
	}
	switch op.Form {
	case operation.GetResource, operation.PutResource, operation.PatchResource:
		out["ETag"] = text("Entity tag for If-Match.")
	}
	switch op.Form {
	case operation.PutResource, operation.PatchResource, operation.DeleteResource:
		out["Keyward-Warning"] = text("What is not wrong but worth knowing; may occur several times.")
	}
	return out
}
