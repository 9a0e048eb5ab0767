package state

import (
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func samples(t testing.TB) map[string]proto.Message {
	t.Helper()
	packed, err := anypb.New(&policyv1.RateLimit{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]proto.Message{
		"route": &configv1.Route{
			Name: "r", Service: "s", Hosts: []string{"a.test", "b.test"}, Enabled: new(false), Priority: math.MinInt32,
			Paths:    []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/"}}, {Match: &configv1.PathMatch_Regex{Regex: "/x"}}},
			Policies: []*configv1.Binding{{Type: "rate-limit", Config: packed, Mode: configv1.Mode_MODE_REPORT}},
		},
		"consumer": &configv1.Consumer{Name: "c", Groups: []string{"g"}, Labels: map[string]string{"k": "v"}, Kind: configv1.ConsumerKind(1)},
		"service":  &configv1.Service{Name: "s", Retries: &configv1.Retries{On: []configv1.RetryOn{configv1.RetryOn_RETRY_ON_CONNECT}}},
		"empty":    &configv1.Settings{},
	}
}

// TestUsualMessagesAreCovered holds that the short way is taken, which nothing else shows but the time of a start.
func TestUsualMessagesAreCovered(t *testing.T) {
	t.Parallel()
	for name, m := range samples(t) {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		k, ok := ours()[string(m.ProtoReflect().Descriptor().FullName())]
		if covered := k.shape.covers(b); !ok || !covered && name != "service" { // packed enums take the long way
			t.Errorf("%s: known %v, covered %v", name, ok, covered)
		}
		if _, newer, err := k.unpack(b); err != nil || newer {
			t.Errorf("%s: newer %v, %v", name, newer, err)
		}
	}
}

// FuzzCovers holds that nothing is covered that newerIn finds something in.
func FuzzCovers(f *testing.F) {
	for _, m := range samples(f) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		name := string(m.ProtoReflect().Descriptor().FullName())
		f.Add(name, b)
		f.Add(name, append(protowire.AppendTag(b, 99, protowire.VarintType), 1))  // no such field
		f.Add(name, append(protowire.AppendTag(b, 1, protowire.VarintType), 1))   // of another wire type
		f.Add(name, append(protowire.AppendTag(b, 1e6, protowire.VarintType), 1)) // far off
	}
	f.Add("keyward.config.v1.Binding", []byte("\n\x01t\x20\x63"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		k, ok := ours()[name]
		if !ok {
			return
		}
		m := k.typ.New().Interface()
		if proto.Unmarshal(b, m) == nil && k.shape.covers(b) && newerIn(m.ProtoReflect()) {
			t.Errorf("%s: %x is covered; the library reads %v", name, b, m)
		}
	})
}
