package explain

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/proto/descriptors"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// policies lists the policy types.
func (o *Options) policies() error {
	c, err := o.Factory.Catalog()
	if err != nil {
		return err
	}
	g := render.NewGrid(o.Factory.IO, "TYPE", "PHASE", "ON SEVERAL LEVELS")
	for _, p := range c.Policies() {
		g.Add(p.Type, word(p.Phase, "PHASE_"), combination(p.Combine))
	}
	return g.Print()
}

func combination(c optionsv1.Combine) string {
	if c == optionsv1.Combine_COMBINE_ALL {
		return "all apply"
	}
	return "the most specific wins"
}

// word is an enum value as documents write it.
func word(e interface{ String() string }, prefix string) string {
	return enumWord(e.String(), prefix)
}

func enumWord(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}

// writer keeps the first error, so that the printing reads straight.
type writer struct {
	io       *terminal.Streams
	comments descriptors.Comments
	err      error
}

func (o *Options) writer() (*writer, error) {
	comments, err := descriptors.Load()
	if err != nil {
		return nil, fmt.Errorf("read descriptions: %w", err)
	}
	return &writer{io: o.Factory.IO, comments: comments}, nil
}

func (w *writer) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.io.Out, format+"\n", args...)
	}
}

// lineWidth is what reads well on a terminal.
const lineWidth = 100

// about prints what the definition says about something, a little to the right of it.
func (w *writer) about(d protoreflect.Descriptor, depth int) {
	indent := strings.Repeat("  ", depth)
	for paragraph := range strings.Lines(strings.TrimSpace(w.comments.Of(d))) {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && len(indent)+len(line)+1+len(word) > lineWidth {
				w.line("%s%s", indent, w.io.Paint(terminal.Faint, line))
				line = ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		if line != "" {
			line = indent + w.io.Paint(terminal.Faint, line)
		}
		w.line("%s", line)
	}
}

// maxDepth ends messages that contain themselves.
const maxDepth = 8

// fields lists the fields that can be written, those of inner messages indented below them.
func (w *writer) fields(md protoreflect.MessageDescriptor) {
	w.line("")
	w.about(md, 1)
	w.line("")
	w.line("fields:")
	w.inner(md, 1)
}

func (w *writer) inner(md protoreflect.MessageDescriptor, depth int) {
	if depth > maxDepth {
		return
	}
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		opts, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
		if opts.GetOutputOnly() {
			continue
		}
		w.line("%s%-*s %s", strings.Repeat("  ", depth), max(1, 26-2*depth), fd.Name(), describe(fd, opts))
		w.about(fd, depth+2)
		if m := expand(fd); m != nil {
			w.inner(m, depth+1)
		}
	}
}

// expand answers the message whose fields are worth showing below a field, nil for scalars and well-known types.
func expand(fd protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	if fd.Message() == nil || !strings.HasPrefix(string(fd.Message().FullName()), "keyward.") {
		return nil
	}
	switch fd.Message().Name() {
	case "Secret", "Binding":
		return nil
	default:
		return fd.Message()
	}
}

func describe(fd protoreflect.FieldDescriptor, opts *optionsv1.FieldOptions) string {
	parts := []string{typeWord(fd, opts)}
	if fd.Enum() != nil {
		parts = append(parts, "one of "+strings.Join(enumWords(fd.Enum()), ", "))
	}
	if opts.GetReference() != "" {
		parts = append(parts, "names one of "+opts.GetReference())
	}
	if opts != nil && opts.Default != nil && opts.GetDefault() != "{}" {
		parts = append(parts, "default "+opts.GetDefault())
	}
	if opts.GetStorage() == optionsv1.Storage_STORAGE_KEYED_HASH || opts.GetStorage() == optionsv1.Storage_STORAGE_PASSWORD_HASH {
		parts = append(parts, "only a hash of it is kept")
	}
	return strings.Join(parts, "; ")
}

func typeWord(fd protoreflect.FieldDescriptor, opts *optionsv1.FieldOptions) string {
	if fd.IsMap() {
		return mapWord(fd.MapValue())
	}
	one := scalarWord(fd, opts)
	switch {
	case fd.IsList() && opts.GetScalarOk():
		return one + ", or a list of them"
	case fd.IsList():
		return "list of " + one
	default:
		return one
	}
}

func mapWord(value protoreflect.FieldDescriptor) string {
	if value.Message() != nil {
		return "mapping of names to mappings"
	}
	return "mapping of strings"
}

func scalarWord(fd protoreflect.FieldDescriptor, opts *optionsv1.FieldOptions) string {
	if opts.GetFormat() != optionsv1.Format_FORMAT_UNSPECIFIED {
		return strings.ReplaceAll(enumWord(opts.GetFormat().String(), "FORMAT_"), "-", " ")
	}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return messageWord(fd.Message())
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind:
		return "text"
	case protoreflect.EnumKind:
		return "word"
	default:
		return "number"
	}
}

func messageWord(md protoreflect.MessageDescriptor) string {
	switch md.FullName() {
	case "google.protobuf.Duration":
		return "duration"
	case "google.protobuf.Timestamp":
		return "time"
	case "google.protobuf.Any":
		return "mapping that depends on type"
	case "keyward.config.v1.Secret":
		return "secret"
	case "keyward.config.v1.Binding":
		return "policy binding {type, name, enabled, locked, mode, config}"
	}
	if doc, ok := proto.GetExtension(md.Options(), optionsv1.E_Document).(*optionsv1.DocumentOptions); ok && doc.GetScalarField() != "" {
		return "mapping, or a bare " + doc.GetScalarField()
	}
	return "mapping"
}

func enumWords(ed protoreflect.EnumDescriptor) []string {
	prefix := strings.TrimSuffix(string(ed.Values().Get(0).Name()), "UNSPECIFIED")
	var words []string
	for i := 1; i < ed.Values().Len(); i++ {
		words = append(words, enumWord(string(ed.Values().Get(i).Name()), prefix))
	}
	return words
}
