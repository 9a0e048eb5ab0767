package compile_test

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
)

// fill sets random fields, so that fields that come later are tried, too.
func (w world) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
		if o.GetOutputOnly() || fd.Name() == "policies" || fd.Name() == "labels" || fd.Name() == "authn" || w.IntN(3) > 0 {
			continue
		}
		switch {
		case fd.IsMap():
			w.fill(m.Mutable(fd).Map().Mutable(protoreflect.ValueOfString(pick(w, "http", "https-x", "x")).MapKey()).Message())
		case fd.IsList() && fd.Message() != nil:
			w.fill(m.Mutable(fd).List().AppendMutable().Message())
		case fd.IsList():
			m.Mutable(fd).List().Append(w.value(fd))
		case fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Duration":
			m.Set(fd, protoreflect.ValueOfMessage(durationpb.New(pick(w, 0, time.Second, time.Hour)).ProtoReflect()))
		case fd.Message() != nil:
			w.fill(m.Mutable(fd).Message())
		default:
			m.Set(fd, w.value(fd))
		}
	}
	for i := range m.Descriptor().Oneofs().Len() { // the schema wants one of each
		if choice := m.Descriptor().Oneofs().Get(i); !choice.IsSynthetic() && m.WhichOneof(choice) == nil {
			fd := choice.Fields().Get(w.IntN(choice.Fields().Len()))
			m.Set(fd, w.value(fd))
		}
	}
}

func (w world) value(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(1 + w.IntN(values.Len()-1)).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(w.IntN(2) == 0)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(pick[uint32](w, 0, 1, 200, 50_0000))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(pick[uint64](w, 0, 1, 4096, 1<<63))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(pick[int32](w, -1, 0, 1000))
	}
	if texts := texts()[fd.Name()]; texts != nil {
		return protoreflect.ValueOfString(pick(w, texts...))
	}
	return protoreflect.ValueOfString(pick(w, "/a", "x"))
}

// texts are values that some fields take and some that they do not.
func texts() map[protoreflect.Name][]string {
	return map[protoreflect.Name][]string{
		"url": {"http://a.test", "https://a.test:1/p"}, "address": {"a.test:1", "[::1]:80"}, "ca": {"gateway:/ca.pem", "/ca.pem", "partners"},
		"pins": {strings.Repeat("0a", 32), "x"}, "methods": {"GET", "idempotent"}, "host_header": {"preserve", "b.test"}, "sni": {"a.test", "::1"},
		"min_version": {"1.2", "772"}, "max_version": {"1.3", "771"}, "upgrade": {"websocket", "H2C"}, "redact": {"path", "x"},
		"trusted_proxies": {"10.0.0.0/8"}, "allow": {"10.0.0.1"}, "deny": {"::/0", "x"}, "hosts": {"a.test", "*.b.test"}, "san": {"spiffe://a.test/b", "10.0.0.1"},
		"regex": {"/x", "("}, "client_certificate": {"client", ""}, "certificate": {"client"}, "domain": {"a.test:1", "*", "*.*"},
		"cipher_suites": {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"},
	}
}

// What admission takes, as far as schema forms and package check go, compiles here.
func TestWhatIsCheckedCompiles(t *testing.T) {
	t.Parallel()
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 11, 3)
	shown, partners := client("client", version(t, "client"), nil), authorities(t, "partners")
	accepted := map[string]int{}
	for range 6000 {
		kind := pick(w, "settings", "services", "routes")
		k, _ := c.Kind(kind)
		m := k.Type.New()
		w.fill(m)
		switch m := m.Interface().(type) { // what the schema wants
		case *configv1.Service:
			if (m.GetUrl() != "") == (len(m.GetTargets()) > 0) {
				continue
			}
			for _, t := range m.GetTargets() {
				t.Address = cmp.Or(t.GetAddress(), "a.test:1")
			}
		case *configv1.Route:
			m.Service = "s"
		}
		if len(c.Normalize(m.Interface())) > 0 || len(check.Resource(m.Interface())) > 0 {
			continue
		}
		accepted[kind]++
		if o, ok := m.Interface().(interface {
			GetUpstreamCertificates() []*configv1.UpstreamCertificate
		}); ok {
			for _, e := range o.GetUpstreamCertificates() {
				e.Certificate = "client" // the schema wants it
			}
		}
		records := []statetest.Record{
			record(kind, "1", "s", m.Interface()), record("certificates", "3", "client", shown), record("ca-certificates", "4", "partners", partners),
		}
		if kind == "routes" {
			records = append(records, record("services", "2", "s", &configv1.Service{Name: "s", Url: "http://a.test"}))
		}
		if _, faults := build(t, records...); len(faults) > 0 {
			t.Fatalf("%s is taken but does not compile: %q\n%v", kind, faults, m.Interface())
		}
	}
	for _, kind := range []string{"settings", "services", "routes"} {
		if accepted[kind] < 50 {
			t.Errorf("only %d %s were taken", accepted[kind], kind)
		}
	}
}
