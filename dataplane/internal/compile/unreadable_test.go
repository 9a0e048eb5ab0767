package compile_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// While something cannot be read that a caller might be known by, nobody is told that a credential is wrong; who is known
// passes, who presents nothing is told what to present, and all is as before when it can be read again.
func TestWhoCannotBeReadIsNotCalledWrong(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	hers, strange := ca.Issue(t, "alice"), ca.Issue(t, "mallory")
	whole := func() map[string]statetest.Record {
		m := base()
		for _, r := range []statetest.Record{
			record(certs.KindCA, "ca", "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}),
			record("routes", "r4", "certified", &configv1.Route{
				Name: "certified", Service: "hello", Hosts: []string{"c.test"}, Policies: []*configv1.Binding{mtlsAuth("ca")},
			}),
			record("routes", "r5", "keyed", &configv1.Route{Name: "keyed", Service: "hello", Hosts: []string{"d.test"}, Policies: []*configv1.Binding{keyAuth()}}),
			named("m1", "alice", fingerprint(hers)),
		} {
			m[r.UID] = r
		}
		return m
	}
	type want struct{ alice, key, wrong, none, cert, wrongCert int }
	healthy := want{200, 200, 401, 401, 200, 401}
	newer, err := anypb.New(&credentialv1.KeyAuth{})
	if err != nil {
		t.Fatal(err)
	}
	newer.Value = []byte{0xf8, 0x7f, 1} // a field that this gateway does not know
	for _, tt := range []struct {
		name string
		lose string
		with *configv1.Credential
		want want
	}{
		{"a key", "k1", nil, want{503, 200, 503, 401, 200, 503}},
		{"a key of which the type is known", "k1", &configv1.Credential{Name: "k1", Consumer: "alice", Type: "key-auth", Config: newer}, want{503, 200, 503, 401, 200, 401}},
		{"a certificate", "m1", nil, want{200, 200, 503, 401, 503, 503}},
		{"a consumer", "c1", nil, want{503, 200, 503, 401, 503, 503}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, folder, c := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{}), newCompiler()
			statetest.Fold(t, folder, source.Reset())
			m := whole()
			before := m[tt.lose]
			lost := before
			if lost.Resource = nil; tt.with != nil {
				lost.Resource = tt.with
			}
			rt, _ := c.Build(statetest.Fold(t, folder, source.Change(list(m), nil)), nil)
			ask := func() want {
				d := func(x call) int { x.ip, x.path = "10.0.0.1", "/"; return decide(rt, x).status }
				return want{
					d(call{host: "d.test", key: "alice-key"}), d(call{host: "d.test", key: "bob-key"}), d(call{host: "d.test", key: "none"}), d(call{host: "d.test"}),
					d(call{host: "c.test", cert: hers}), d(call{host: "c.test", cert: strange}),
				}
			}
			for _, step := range []struct {
				record statetest.Record
				want   want
			}{{before, healthy}, {lost, tt.want}, {before, healthy}, {lost, tt.want}} {
				rt, _ = c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{step.record}, nil)), rt)
				if got := ask(); got != step.want {
					t.Errorf("statuses %+v, want %+v", got, step.want)
				}
			}
			rt, _ = c.Build(statetest.Fold(t, folder, source.Change(nil, []statetest.Record{before})), rt)
			if got := ask(); got.wrong != 401 || got.wrongCert != 401 {
				t.Errorf("statuses %+v when it is removed", got)
			}
		})
	}
}
