package catalog_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	_ "keyward.dev/proto/gen/keyward/sync/v1"
)

// documents are the packages whose messages people write.
func documents(name protoreflect.FullName) bool {
	for _, p := range []string{"keyward.config.v1", "keyward.policy.v1", "keyward.credential.v1"} {
		if name.Parent() == protoreflect.FullName(p) {
			return true
		}
	}
	return false
}

func eachField(visit func(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions)) {
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if documents(mt.Descriptor().FullName()) {
			for i := range mt.Descriptor().Fields().Len() {
				fd := mt.Descriptor().Fields().Get(i)
				o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
				visit(fd, o)
			}
		}
		return true
	})
}

func isSecretType(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == (&configv1.Secret{}).ProtoReflect().Descriptor().FullName()
}

var secretive = regexp.MustCompile(`(?i)(secret|password|passphrase|token|private_key|api_key|credential)$`)

func TestWhatIsNamedLikeASecretIsOne(t *testing.T) {
	t.Parallel()
	eachField(func(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions) {
		text := fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind
		if text && secretive.MatchString(string(fd.Name())) {
			t.Errorf("%s is named like a secret but is no Secret", fd.FullName())
		}
		if isSecretType(fd) && o.GetStorage() == optionsv1.Storage_STORAGE_UNSPECIFIED {
			t.Errorf("%s is a Secret and does not say how it is stored", fd.FullName())
		}
	})
}

func TestListsThatHoldSecretsAreKeyed(t *testing.T) {
	t.Parallel()
	var holds func(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool
	holds = func(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
		if seen[md.FullName()] {
			return false
		}
		seen[md.FullName()] = true
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if isSecretType(fd) || fd.Message() != nil && holds(fd.Message(), seen) {
				return true
			}
		}
		return false
	}
	eachField(func(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions) {
		if fd.IsList() && fd.Message() != nil && holds(fd.Message(), map[protoreflect.FullName]bool{}) && o.GetListKey() == "" {
			t.Errorf("%s is a list with secrets and has no list_key", fd.FullName())
		}
	})
}

func TestFieldOptionsFitTheirField(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	eachField(func(fd protoreflect.FieldDescriptor, o *optionsv1.FieldOptions) {
		if o.GetReference() != "" {
			if k, ok := c.Kind(o.GetReference()); !ok || fd.Kind() != protoreflect.StringKind || fd.IsMap() || k.Parent != "" {
				t.Errorf("%s: reference %q does not work", fd.FullName(), o.GetReference())
			}
		}
		if o.GetScalarOk() && !fd.IsList() {
			t.Errorf("%s: scalar_ok is for lists", fd.FullName())
		}
		if o.GetUnique() && (!fd.IsList() || fd.Message() != nil) {
			t.Errorf("%s: unique is for lists of single values", fd.FullName())
		}
		if key := o.GetListKey(); key != "" {
			if !fd.IsList() || fd.Message() == nil || fd.Message().Fields().ByName(protoreflect.Name(key)) == nil {
				t.Errorf("%s: list_key %q is no field of its elements", fd.FullName(), key)
			}
		}
		if _, isResource := c.KindOf(emptyOf(t, fd.ContainingMessage())); (o.GetOutputOnly() || o.GetControlPlane() || o.GetWithheld()) && !isResource &&
			fd.FullName() != "keyward.config.v1.CertificateVersion.info" { // admission compares and removes it
			t.Errorf("%s: output_only, control_plane and withheld are for fields of resources", fd.FullName())
		}
		want := protoreflect.StringKind
		switch o.GetFormat() {
		case optionsv1.Format_FORMAT_UNSPECIFIED:
			return
		case optionsv1.Format_FORMAT_SIZE:
			want = protoreflect.Uint64Kind
		case optionsv1.Format_FORMAT_PERCENT:
			want = protoreflect.Uint32Kind
		}
		if fd.Kind() != want {
			t.Errorf("%s: format %v is for fields of kind %v", fd.FullName(), o.GetFormat(), want)
		}
	})
}

func emptyOf(t *testing.T, md protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.Zero().Interface()
}

func TestTypesSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for _, p := range c.Policies() {
		if p.Type == "" || p.Phase == 0 || p.Combine == 0 || len(p.BindableOn) == 0 || p.Body == 0 {
			t.Errorf("policy %q leaves something open: %+v", p.Type, p)
		}
	}
	for _, k := range c.Kinds() {
		if k.Name == "" || k.Singular == "" {
			t.Errorf("kind %+v has no words", k)
		}
		if !k.Singleton && k.Type.Descriptor().Fields().ByName("name") == nil {
			t.Errorf("kind %s has no name", k.Name)
		}
		for _, f := range []protoreflect.Name{"description", "labels", "uid", "revision", "etag", "created_at", "updated_at"} {
			if k.Type.Descriptor().Fields().ByName(f) == nil {
				t.Errorf("kind %s has no field %s", k.Name, f)
			}
		}
	}
}

func TestEveryRPCSaysWhoMayCallIt(t *testing.T) {
	t.Parallel()
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(fd.Package()), "keyward.") {
			return true
		}
		for i := range fd.Services().Len() {
			methods := fd.Services().Get(i).Methods()
			for j := range methods.Len() {
				p, _ := proto.GetExtension(methods.Get(j).Options(), optionsv1.E_Permission).(*optionsv1.Permission)
				if p.GetRole() == 0 || p.GetScope() == 0 && p.GetRole() != optionsv1.Role_ROLE_ANYONE {
					t.Errorf("%s does not say who may call it", methods.Get(j).FullName())
				}
			}
		}
		return true
	})
}

var (
	protoField = regexp.MustCompile(`^\s+(?:optional |repeated )?[A-Za-z][\w.<>, ]* (\w+) = \d+\b`)
	comment    = regexp.MustCompile(`^\s*//`)
)

// TestEveryFieldIsExplained reads the .proto files: comments are the reference people get, and generated code has none.
func TestEveryFieldIsExplained(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../proto/keyward/*/v1/*.proto")
	checked := 0
	for _, file := range files {
		pkg := filepath.Base(filepath.Dir(filepath.Dir(file)))
		if pkg != "config" && pkg != "policy" && pkg != "credential" {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, depth := "", 0
		for line := range strings.Lines(string(raw)) {
			if m := protoField.FindStringSubmatch(line); m != nil && depth > 0 {
				checked++
				if !comment.MatchString(before) {
					t.Errorf("%s: field %s has no comment", filepath.Base(file), m[1])
				}
			}
			depth += strings.Count(line, "{") - strings.Count(line, "}")
			before = line
		}
	}
	if checked < 80 {
		t.Errorf("only %d fields were found", checked)
	}
}
