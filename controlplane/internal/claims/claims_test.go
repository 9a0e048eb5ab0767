package claims_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/claims"
)

func of(m proto.Message) []string { return slices.Collect(claims.Of(m)) }

func marks(m proto.Message) []string {
	var out []string
	for kind, name := range claims.Marks(m) {
		out = append(out, kind+" "+name)
	}
	return out
}

func exact(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Exact{Exact: p}}
}

func regex(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Regex{Regex: p}}
}

func TestRoutesClaimTheirPlaces(t *testing.T) {
	t.Parallel()
	base := func() *configv1.Route {
		return &configv1.Route{Hosts: []string{"a.test"}, Paths: []*configv1.PathMatch{exact("/a")}, Methods: []string{"GET", "PUT"}}
	}
	place := of(base())
	if len(place) != 1 {
		t.Fatalf("claims of one host and path = %q", place)
	}
	for _, tt := range []struct {
		name string
		edit func(*configv1.Route)
		same bool
	}{
		{"its name", func(r *configv1.Route) { r.Name = "other" }, true},
		{"whether it is on", func(r *configv1.Route) { r.Enabled = new(false) }, true},
		{"the order of methods", func(r *configv1.Route) { r.Methods = []string{"PUT", "GET"} }, true},
		{"methods", func(r *configv1.Route) { r.Methods = []string{"PUT"} }, false},
		{"the host", func(r *configv1.Route) { r.Hosts = nil }, false},
		{"the path", func(r *configv1.Route) { r.Paths = []*configv1.PathMatch{exact("/b")} }, false},
		{"the kind of path", func(r *configv1.Route) { r.Paths = []*configv1.PathMatch{regex("/a")} }, false},
		{"the priority", func(r *configv1.Route) { r.Priority = 1 }, false},
		{"a header", func(r *configv1.Route) { r.Headers = []*configv1.FieldMatch{{Name: "x"}} }, false},
		{"a parameter", func(r *configv1.Route) { r.Query = []*configv1.FieldMatch{{Name: "x"}} }, false},
	} {
		r := base()
		tt.edit(r)
		if same := slices.Equal(of(r), place); same != tt.same {
			t.Errorf("%s: same place = %v, want %v", tt.name, same, tt.same)
		}
	}
	both := base()
	both.Hosts, both.Paths = []string{"a.test", "b.test"}, []*configv1.PathMatch{exact("/a"), exact("/b")}
	if got := of(both); len(got) != 4 || !slices.Contains(got, place[0]) {
		t.Errorf("claims of two hosts and paths = %q", got)
	}
}

func TestCredentialsClaimTheirKeys(t *testing.T) {
	t.Parallel()
	hash := &configv1.KeyedHash{Term: 3, Hash: []byte{0xab}}
	cfg, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: hash}}})
	if err != nil {
		t.Fatal(err)
	}
	got := of(&configv1.Credential{Name: "k", Consumer: "c", Type: "key-auth", Config: cfg})
	if diff := cmp.Diff([]string{claims.Key("key-auth", hash)}, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if got := of(&configv1.Credential{Name: "k", Type: "unknown"}); got != nil {
		t.Errorf("a credential without configuration claims %q", got)
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		m    proto.Message
		want []string
	}{
		{&configv1.Consumer{Groups: []string{"gold", "tin"}}, []string{"label gold", "label tin"}},
		{&configv1.Consumer{}, nil},
		{&configv1.Route{Hosts: []string{"a", "b"}, Paths: []*configv1.PathMatch{exact("/a"), regex("/b")}}, []string{"regex-host a", "regex-host b"}},
		{&configv1.Route{Paths: []*configv1.PathMatch{regex("/b")}}, []string{"regex-host "}},
		{&configv1.Route{Hosts: []string{"a"}, Paths: []*configv1.PathMatch{exact("/a")}}, nil},
		{&configv1.Service{}, nil},
		{&configv1.RedisStore{}, nil},
		{&configv1.RedisStore{Password: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "{vault://a/b}"}}}, nil},
		{&configv1.RedisStore{Password: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://corp/redis#password}"}}}, []string{"elsewhere ", "secret-providers corp"}},
	} {
		if diff := cmp.Diff(tt.want, marks(tt.m)); diff != "" {
			t.Errorf("marks of %v (-want +got):\n%s", tt.m, diff)
		}
	}
}
