// Command reference writes the parts of the documentation that the protos' comments and options say: reference.md, with
// every kind, policy and credential type, and on the page of each policy its parameters, where the page has the marks for
// them. `make generate` runs it:  reference DOCS-DIRECTORY
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/proto/descriptors"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference DOCS-DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(docs string) error {
	cat, err := catalog.New()
	if err != nil {
		return err
	}
	comments, err := descriptors.Load()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "reference.md"), reference(cat, comments), 0o644); err != nil {
		return err
	}
	return pages(filepath.Join(docs, "policies"), cat, comments)
}

// reference is the whole of reference.md.
func reference(cat *catalog.Catalog, comments descriptors.Comments) []byte {
	w := newWriter(comments)
	w.line("# Reference")
	w.line("")
	w.line("Generated from the contract in `proto`; `keyward explain KIND` and `keyward explain policy TYPE` print the same.")
	w.line("Names are snake_case, durations are written `250ms`, `60s`, `5m`, sizes `64KiB`, enums as words. What is left out takes")
	w.line("its default. `…, or a list` means that a single value may be written for a list of one.")
	w.line("")
	w.line("Every resource also has `uid`, `revision`, `etag`, `created_at` and `updated_at`, which the server sets; they may be written")
	w.line("back as they were read.")
	w.line("")
	w.line("## Kinds")
	for _, k := range cat.Kinds() {
		w.section("### `"+k.Name+"`", k.Type.Descriptor())
	}
	w.line("## Policies")
	w.line("")
	w.line("A policy is bound by `{type, name, enabled, locked, mode, config}` in the `policies` of settings, a service, a route, a")
	w.line("consumer group or a consumer. Policies run by phase, in a phase from settings to consumer, then as written.")
	w.line("")
	w.line("| type | phase | on several levels | bound on | body |")
	w.line("|---|---|---|---|---|")
	for _, p := range cat.Policies() {
		w.line("| [`%s`](#%s) | %s | %s | %s | %s |", p.Type, p.Type, word(p.Phase), combine(p.Combine), sites(p.BindableOn), word(p.Body))
	}
	for _, p := range cat.Policies() {
		w.section("### `"+p.Type+"`", p.Config.Descriptor())
	}
	w.line("## Credentials")
	for _, c := range cat.Credentials() {
		w.section("### `"+c.Type+"` credential", c.Config.Descriptor())
	}
	w.line("## Parts")
	w.parts()
	return w.out.Bytes()
}

// writer writes sections and remembers the messages that are yet to be explained.
type writer struct {
	out      bytes.Buffer
	comments descriptors.Comments
	seen     map[protoreflect.FullName]bool
	queue    []protoreflect.MessageDescriptor
}

func newWriter(comments descriptors.Comments) *writer {
	return &writer{comments: comments, seen: map[protoreflect.FullName]bool{}}
}

// parts explains the messages that were met.
func (w *writer) parts() {
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.section("### "+string(next.Name()), next)
	}
}

func (w *writer) line(format string, args ...any) {
	if len(args) == 0 {
		w.out.WriteString(format + "\n")
		return
	}
	fmt.Fprintf(&w.out, format+"\n", args...)
}

func (w *writer) section(title string, md protoreflect.MessageDescriptor) {
	w.line("")
	w.line("%s", title)
	w.line("")
	w.line("%s", w.comments.Of(md))
	w.line("")
	w.fields(md)
}

func (w *writer) fields(md protoreflect.MessageDescriptor) {
	w.line("| field | value | default | meaning |")
	w.line("|---|---|---|---|")
	for i := range md.Fields().Len() {
		w.field(md.Fields().Get(i))
	}
}

func (w *writer) field(fd protoreflect.FieldDescriptor) {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	if o.GetOutputOnly() {
		return // the same for every kind, told once
	}
	meaning := strings.ReplaceAll(w.comments.Of(fd), "\n", " ")
	value := w.value(fd, o)
	def := ""
	if o.GetDefault() != "" && o.GetDefault() != "{}" {
		def = "`" + o.GetDefault() + "`"
	}
	w.line("| `%s` | %s | %s | %s |", fd.Name(), value, def, strings.ReplaceAll(meaning, "|", "\\|"))
}

func (w *writer) value(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions) string {
	if fd.IsMap() {
		return "map of " + w.single(fd.MapValue(), nil)
	}
	v := w.single(fd, o)
	switch {
	case fd.IsList() && o.GetScalarOk() && fd.Enum() != nil:
		return v + "<br>or a list of these"
	case fd.IsList() && o.GetScalarOk():
		return v + ", or a list"
	case fd.IsList():
		return "list of " + v
	default:
		return v
	}
}

func (w *writer) single(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions) string {
	if o.GetReference() != "" {
		return "name of one of `" + o.GetReference() + "`"
	}
	if f := o.GetFormat(); f != optionsv1.Format_FORMAT_UNSPECIFIED {
		return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(f.String(), "FORMAT_")), "_", " ")
	}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return w.message(fd)
	case protoreflect.EnumKind:
		return w.enum(fd.Enum())
	case protoreflect.BoolKind:
		return "`true`, `false`"
	case protoreflect.StringKind:
		return "text"
	default:
		return "number"
	}
}

func (w *writer) message(fd protoreflect.FieldDescriptor) string {
	md := fd.Message()
	switch md.FullName() {
	case "google.protobuf.Duration":
		return "duration"
	case "google.protobuf.Timestamp":
		return "time (RFC 3339)"
	case "google.protobuf.Any":
		return "the type's fields"
	case "keyward.config.v1.Secret":
		return "secret"
	}
	if !w.seen[md.FullName()] {
		w.seen[md.FullName()] = true
		w.queue = append(w.queue, md)
	}
	return fmt.Sprintf("[%s](#%s)", md.Name(), strings.ToLower(string(md.Name())))
}

func (w *writer) enum(ed protoreflect.EnumDescriptor) string {
	var words []string
	for i := range ed.Values().Len() {
		if v := ed.Values().Get(i); v.Number() != 0 {
			words = append(words, "`"+valueWord(ed, v)+"`: "+strings.ReplaceAll(w.comments.Of(v), "\n", " "))
		}
	}
	return strings.Join(words, "<br>")
}

// valueWord is an enum value as documents write it: without the enum's name, in kebab case.
func valueWord(ed protoreflect.EnumDescriptor, v protoreflect.EnumValueDescriptor) string {
	prefix := strings.TrimSuffix(string(ed.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix)), "_", "-")
}

func word(e protoreflect.Enum) string {
	ed := e.Descriptor()
	return valueWord(ed, ed.Values().ByNumber(e.Number()))
}

func combine(c optionsv1.Combine) string {
	if c == optionsv1.Combine_COMBINE_ALL {
		return "all apply"
	}
	return "the most specific wins"
}

func sites(list []optionsv1.Site) string {
	words := make([]string, 0, len(list))
	for _, s := range list {
		words = append(words, strings.ReplaceAll(word(s), "-", " "))
	}
	return strings.Join(words, ", ")
}
