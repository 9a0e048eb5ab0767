package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"keyward.dev/shared/catalog"
)

func TestPatch(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	route := "{name: r, service: s, labels: {a: x, b: y}, priority: 3, paths: [/a], rewrite: {strip_prefix: true, prefix: /p}}"
	credential := "{name: k, consumer: alice, type: key-auth, config: {key: keykeykey, allow_weak: true}}"
	for _, tt := range []struct {
		name, kind, doc, patch string
		want                   string // OmitDefaults, ShortForms
		clears                 []string
	}{
		{
			"nothing", "routes", route, `{}`,
			`{"name":"r","labels":{"a":"x","b":"y"},"service":"s","paths":"/a","priority":3,"rewrite":{"strip_prefix":true,"prefix":"/p"}}`, nil,
		},
		{
			"set, replace and remove", "routes", route, `{"labels":{"a":null,"c":"z"},"priority":null,"paths":["/b"],"rewrite":{"prefix":null}}`,
			`{"name":"r","labels":{"b":"y","c":"z"},"service":"s","paths":"/b","rewrite":{"strip_prefix":true}}`, nil,
		},
		{
			"add what was not there", "routes", "{name: r, service: s}", `{"authn":{"any_of":[["a"]]},"enabled":false}`,
			`{"name":"r","service":"s","authn":{"any_of":[["a"]]},"enabled":false}`, nil,
		},
		{
			"secret kept", "credentials", credential, `{"config":{"allow_weak":null}}`,
			`{"name":"k","consumer":"alice","type":"key-auth","config":{"key":{"set":true}}}`, nil,
		},
		{
			"secret replaced whole", "credentials", credential, `{"config":{"key":{"plaintext":"new"}}}`,
			`{"name":"k","consumer":"alice","type":"key-auth","config":{"key":{"set":true},"allow_weak":true}}`, nil,
		},
		{
			"secret cleared", "credentials", credential, `{"config":{"key":null}}`,
			`{"name":"k","consumer":"alice","type":"key-auth","config":{"allow_weak":true}}`,
			[]string{"config.key"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			item, vs := c.Patch(decode(t, c, tt.kind, tt.doc), []byte(tt.patch), catalog.Place{})
			if len(vs) > 0 {
				t.Fatal(vs)
			}
			c.Normalize(item.Message)
			out, err := c.Encode(item.Message, catalog.JSON, catalog.EncodeOptions{OmitDefaults: true, ShortForms: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(strings.ReplaceAll(string(out), ": ", ":")), ""); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !slices.Equal(item.Clears, tt.clears) {
				t.Errorf("clears %q, want %q", item.Clears, tt.clears)
			}
		})
	}
	stored := decode(t, c, "routes", route)
	for _, patch := range []string{`[]`, `{"a":1,"a":2}`, `{"priority":"x"}`, `{"nme":"x"}`, `{`, `null`, `{"name":"other"}`} {
		if _, vs := c.Patch(stored, []byte(patch), catalog.Place{Name: "r"}); len(vs) == 0 {
			t.Errorf("patch %s is taken", patch)
		}
	}
}
