package openapi

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
)

const (
	severalPattern  = "^[A-Za-z0-9][A-Za-z0-9._@-]*(,[A-Za-z0-9][A-Za-z0-9._@-]*)*$"
	namePattern     = "^[A-Za-z0-9]([A-Za-z0-9._@-]{0,126}[A-Za-z0-9])?$"
	durationPattern = `^(0|([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h))+)$`
	sizePattern     = "^[0-9]{1,20}(B|KiB|MiB|GiB|TiB)?$"
	percentPattern  = `^[0-9]{1,3}(\.[0-9]{1,4})?%$`

	// fileSchema is the schema of whole documents, as apply takes and export answers.
	fileSchema = "File"

	secretName    = "keyward.config.v1.Secret"
	anyName       = "google.protobuf.Any"
	durationName  = "google.protobuf.Duration"
	timestampName = "google.protobuf.Timestamp"
)

// message returns a reference to the schema of a message, making it if need be.
func (g *generator) message(md protoreflect.MessageDescriptor) object {
	name := schemaName(md)
	if _, made := g.schemas[name]; !made {
		g.schemas[name] = object{} // ends recursion
		g.schemas[name] = g.messageSchema(md)
	}
	return ref(name)
}

// schemaName is the message's own name, with what it configures in front where two messages could share one.
func schemaName(md protoreflect.MessageDescriptor) string {
	name := string(md.Name())
	switch md.ParentFile().Package() {
	case "keyward.policy.v1":
		return "Policy." + name
	case "keyward.credential.v1":
		return "Credential." + name
	default:
		return name
	}
}

func (g *generator) messageSchema(md protoreflect.MessageDescriptor) object {
	long := g.objectSchema(md)
	document, _ := proto.GetExtension(md.Options(), optionsv1.E_Document).(*optionsv1.DocumentOptions)
	if short := md.Fields().ByName(protoreflect.Name(document.GetScalarField())); short != nil {
		forms := list{g.field(short), long}
		return described(object{"anyOf": forms}, g.comments.Of(md))
	}
	return described(long, g.comments.Of(md))
}

// objectSchema is the long form of a message.
func (g *generator) objectSchema(md protoreflect.MessageDescriptor) object {
	properties, required := object{}, list{}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		properties[string(fd.Name())] = described(g.field(fd), g.comments.Of(fd))
		if g.required(fd) {
			required = append(required, string(fd.Name()))
		}
	}
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	if by := g.configOf(md, properties); len(by) > 0 {
		out["allOf"] = by
	}
	return out
}

// required reports whether a field is always there. In documents that is what validation asks for, apart from what the
// place of a resource says too; in answers of the API what cannot be absent.
func (g *generator) required(fd protoreflect.FieldDescriptor) bool {
	md := fd.ContainingMessage()
	if g.isDocument(md) {
		fromPlace := fd.Name() == "name" || options(fd).GetReference() != "" && isResource(md) && parentReference(fd)
		return rules(fd).GetRequired() && (!isResource(md) || !fromPlace)
	}
	return !g.inputs[string(md.FullName())] && !fd.HasPresence()
}

func (g *generator) isDocument(md protoreflect.MessageDescriptor) bool {
	return !strings.HasPrefix(string(md.FullName()), "keyward.admin.")
}

func isResource(md protoreflect.MessageDescriptor) bool {
	return proto.HasExtension(md.Options(), optionsv1.E_Resource)
}

// parentReference reports whether a field of a resource names its owner.
func parentReference(fd protoreflect.FieldDescriptor) bool {
	o, _ := proto.GetExtension(fd.ContainingMessage().Options(), optionsv1.E_Resource).(*optionsv1.ResourceOptions)
	return o.GetParent() != "" && options(fd).GetReference() == o.GetParent()
}

func options(fd protoreflect.FieldDescriptor) *optionsv1.FieldOptions {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	return o
}

func rules(fd protoreflect.FieldDescriptor) *validate.FieldRules {
	r, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
	return r
}

// configOf ties the configuration of a binding or credential to its type.
func (g *generator) configOf(md protoreflect.MessageDescriptor, properties object) list {
	typ, config := md.Fields().ByName("type"), md.Fields().ByName("config")
	if typ == nil || config == nil || config.Message() == nil || config.Message().FullName() != anyName {
		return nil
	}
	var words, out list
	add := func(word string, mt protoreflect.MessageType) {
		words = append(words, word)
		out = append(out, object{
			"if":   object{"properties": object{"type": object{"const": word}}, "required": list{"type"}},
			"then": object{"properties": object{"config": g.message(mt.Descriptor())}},
		})
	}
	if isResource(md) {
		for _, c := range g.catalog.Credentials() {
			add(c.Type, c.Config)
		}
	} else {
		for _, p := range g.catalog.Policies() {
			add(p.Type, p.Config)
		}
	}
	properties["type"] = described(object{"enum": words}, g.comments.Of(typ))
	return out
}

// field is the schema of a field: of one value, a list or a map.
func (g *generator) field(fd protoreflect.FieldDescriptor) object {
	var out object
	r := rules(fd)
	switch {
	case fd.IsMap():
		out = object{"type": "object", "additionalProperties": g.single(fd.MapValue())}
		if r.GetMap().HasMaxPairs() {
			out["maxProperties"] = r.GetMap().GetMaxPairs()
		}
	case fd.IsList():
		out = g.array(fd, r.GetRepeated())
	default:
		out = g.single(fd)
	}
	if options(fd).GetOutputOnly() {
		out["readOnly"] = true
	}
	return out
}

func (g *generator) array(fd protoreflect.FieldDescriptor, r *validate.RepeatedRules) object {
	item := g.single(fd)
	if r.GetItems() != nil {
		constrain(item, r.GetItems())
	}
	array := object{"type": "array", "items": item}
	if r.HasMinItems() {
		array["minItems"] = r.GetMinItems()
	}
	if r.HasMaxItems() {
		array["maxItems"] = r.GetMaxItems()
	}
	if options(fd).GetUnique() {
		array["uniqueItems"] = true
	}
	if !options(fd).GetScalarOk() {
		return array
	}
	return object{"anyOf": list{array, item}}
}

// single is the schema of one value of a field.
func (g *generator) single(fd protoreflect.FieldDescriptor) object {
	if fd.Kind() == protoreflect.MessageKind {
		return g.messageValue(fd)
	}
	out := scalar(fd)
	if o := options(fd); o != nil && o.Default != nil {
		out["default"] = defaultOf(fd, o.GetDefault())
	}
	if !fd.IsList() {
		constrain(out, rules(fd))
	}
	return out
}

func (g *generator) messageValue(fd protoreflect.FieldDescriptor) object {
	switch fd.Message().FullName() {
	case durationName:
		out := object{"type": "string", "pattern": durationPattern}
		if o := options(fd); o != nil && o.Default != nil {
			out["default"] = o.GetDefault()
		}
		return out
	case timestampName:
		return object{"type": "string", "format": "date-time"}
	case secretName:
		return ref("Secret")
	case anyName:
		if fd.ContainingMessage().Fields().ByName("type") != nil {
			return object{"type": "object"} // configOf says the rest
		}
		return ref("Resource")
	default:
		return g.message(fd.Message())
	}
}

func scalar(fd protoreflect.FieldDescriptor) object {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.EnumKind:
		return object{"enum": enumWords(fd.Enum())}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return object{"type": "integer", "format": fd.Kind().String()}
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if options(fd).GetFormat() == optionsv1.Format_FORMAT_SIZE {
			return object{"anyOf": list{object{"type": "integer", "minimum": 0}, object{"type": "string", "pattern": sizePattern}}}
		}
		if options(fd).GetFormat() == optionsv1.Format_FORMAT_PERCENT {
			return object{"type": "string", "pattern": percentPattern}
		}
		return object{"type": "integer", "minimum": 0}
	default:
		return text(options(fd).GetFormat())
	}
}

// text is the schema of a string of a format. What a pattern cannot say is left to the server.
func text(format optionsv1.Format) object {
	out := object{"type": "string"}
	switch format {
	case optionsv1.Format_FORMAT_NAME:
		out["pattern"] = namePattern
	case optionsv1.Format_FORMAT_HEADER_NAME:
		out["pattern"] = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"
	case optionsv1.Format_FORMAT_METHOD:
		out["pattern"] = "^[!#$%&'*+.^_`|~0-9A-Z-]{1,128}$"
	case optionsv1.Format_FORMAT_PATH:
		out["pattern"] = "^/"
	case optionsv1.Format_FORMAT_URL:
		out["format"], out["pattern"] = "uri", "^[hH][tT][tT][pP][sS]?://"
	case optionsv1.Format_FORMAT_REGEX:
		out["description"] = "A regular expression of RE2 syntax."
	case optionsv1.Format_FORMAT_CIDR:
		out["description"] = "An IP address or CIDR range."
	case optionsv1.Format_FORMAT_HOST_PORT:
		out["description"] = "host:port, IPv6 in brackets."
	case optionsv1.Format_FORMAT_SUBJECT:
		out["description"] = "A host name, an IP address or a URI."
	case optionsv1.Format_FORMAT_HOST:
		out["description"] = "A host name or IP address, without a port."
	case optionsv1.Format_FORMAT_SHA256:
		out["pattern"] = "^([0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}|[A-Za-z0-9+/]{43}=?)$"
	case optionsv1.Format_FORMAT_SAN:
		out["pattern"] = "^([uU][rR][iI]|[dD][nN][sS]|[eE][mM][aA][iI][lL]):."
	case optionsv1.Format_FORMAT_DN:
		out["description"] = "A distinguished name as RFC 4514 writes it."
	case optionsv1.Format_FORMAT_TLS_VERSION:
		return object{"enum": list{"1.2", "1.3", "TLSv1.2", "TLSv1.3", 1.2, 1.3, 771, 772}}
	case optionsv1.Format_FORMAT_PROTOCOL:
		out["pattern"] = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}(/[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128})?$"
	}
	return out
}

func enumWords(ed protoreflect.EnumDescriptor) list {
	prefix := strings.TrimSuffix(string(ed.Values().ByNumber(0).Name()), "UNSPECIFIED")
	var words list
	for i := range ed.Values().Len() {
		if v := ed.Values().Get(i); v.Number() != 0 {
			words = append(words, word(string(v.Name()), prefix))
		}
	}
	return words
}

// defaultOf writes a default as the type it has in JSON.
func defaultOf(fd protoreflect.FieldDescriptor, text string) any {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return text == "true"
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	}
	return text
}

// described adds a description; beside a reference it stands on its own.
func described(schema object, text string) object {
	if _, has := schema["description"]; text == "" || has {
		return schema
	}
	out := object{"description": text}
	maps.Copy(out, schema)
	return out
}

// fixedSchemas are those that follow from the catalog rather than from one message.
func (g *generator) fixedSchemas() {
	one := func(key string, schema object) object {
		return object{"type": "object", "properties": object{key: schema}, "required": list{key}, "additionalProperties": false}
	}
	g.schemas["Secret"] = object{
		"description": "A value that is never shown again. A string is the plaintext, one in braces a reference; {set: true}, or leaving the field out, keeps what is stored; null clears it; {hash: …} gives the hash of a password. Read back as {set: true} or {ref: …}.",
		"anyOf": list{
			object{"type": "string", "minLength": 1},
			object{"type": "null"},
			one("set", object{"const": true}), one("ref", object{"type": "string"}), one("plaintext", object{"type": "string", "minLength": 1}),
			one("hash", object{"type": "string", "minLength": 1, "description": "Hash of a password."}),
		},
	}
	g.schemas["Problem"] = problemSchema()
	var kinds list
	file := object{"group": object{"type": "string", "pattern": namePattern}}
	for _, k := range g.catalog.Kinds() {
		resource := g.message(k.Type.Descriptor())
		kinds = append(kinds, resource)
		inFile := g.inFile(k)
		if k.Singleton {
			file[k.Name] = inFile
		} else {
			file[k.Name] = object{"type": "array", "items": inFile}
		}
	}
	g.schemas["Resource"] = object{"description": "A resource of any kind.", "anyOf": kinds}
	g.schemas[fileSchema] = object{
		"description": "A whole group as people write it in a file.", "type": "object", "properties": file, "additionalProperties": false,
	}
}

// inFile is the form of a resource in a file, where what it owns may stand inside it.
func (g *generator) inFile(k *catalog.Kind) object {
	owned := slices.DeleteFunc(g.catalog.Kinds(), func(o *catalog.Kind) bool { return o.Parent != k.Name })
	if len(owned) == 0 {
		return g.message(k.Type.Descriptor())
	}
	schema := g.objectSchema(k.Type.Descriptor())
	properties, _ := schema["properties"].(object)
	for _, o := range owned {
		properties[o.Name] = object{"type": "array", "items": g.message(o.Type.Descriptor())}
	}
	name := schemaName(k.Type.Descriptor()) + "InFile"
	g.schemas[name] = schema
	return ref(name)
}

func problemSchema() object {
	str, integer := object{"type": "string"}, object{"type": "integer"}
	return object{
		"description": "RFC 9457 problem details.",
		"type":        "object",
		"required":    list{"type", "title", "status", "code"},
		"properties": object{
			"type": str, "title": str, "status": integer, "detail": str, "code": object{"enum": problemCodes()},
			"violations": object{"type": "array", "items": object{
				"type": "object", "required": list{"path", "reason"}, "additionalProperties": false,
				"properties": object{"path": str, "reason": str, "resource": str, "line": integer, "column": integer},
			}},
		},
		"additionalProperties": false,
	}
}
