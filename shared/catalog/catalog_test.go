package catalog_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

func newCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// decode reads a resource that must be without fault and normalises it.
func decode(t testing.TB, c *catalog.Catalog, kind, doc string) proto.Message {
	t.Helper()
	item, vs := c.DecodeResource(kind, []byte(doc), catalog.YAML, catalog.Place{})
	if len(vs) > 0 {
		t.Fatalf("decode %s: %v", kind, vs)
	}
	if vs := c.Normalize(item.Message); len(vs) > 0 {
		t.Fatalf("normalize %s: %v", kind, vs)
	}
	return item.Message
}

func pathsOf(vs []problem.Violation) []string {
	paths := []string{}
	for _, v := range vs {
		paths = append(paths, v.Path)
	}
	return paths
}

func TestKindsAndTypesComeFromDescriptors(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	var kinds, policies, credentials []string
	for _, k := range c.Kinds() {
		kinds = append(kinds, k.Name)
	}
	for _, p := range c.Policies() {
		policies = append(policies, p.Type)
	}
	for _, p := range c.Credentials() {
		credentials = append(credentials, p.Type)
	}
	for _, tt := range []struct {
		what      string
		got, want []string
	}{
		{"kinds", kinds, []string{"consumer-groups", "consumers", "routes", "services", "settings", "credentials"}},
		{"policies", policies, []string{"cors", "ip-restriction", "request-size-limit", "key-auth", "mtls-auth", "acl", "rate-limit"}},
		{"credentials", credentials, []string{"key-auth", "mtls-auth"}},
	} {
		for _, w := range tt.want {
			if !slices.Contains(tt.got, w) {
				t.Errorf("%s = %q, %q is missing", tt.what, tt.got, w)
			}
		}
	}
	if kinds[len(kinds)-1] != "credentials" {
		t.Errorf("kinds = %q: owned kinds must come after their owners", kinds)
	}
	k, _ := c.Kind("credentials")
	if k.Parent != "consumers" || k.ParentField != "consumer" {
		t.Errorf("credentials: parent %q by field %q", k.Parent, k.ParentField)
	}
	if name := k.NameOf(&configv1.Credential{Name: "a", Consumer: "alice"}); name != "alice/a" {
		t.Errorf("NameOf = %q, want alice/a", name)
	}
	s, _ := c.Kind("settings")
	if name := s.NameOf(&configv1.Settings{}); name != "settings" || !s.Singleton {
		t.Errorf("settings: name %q, singleton %v", name, s.Singleton)
	}
}
