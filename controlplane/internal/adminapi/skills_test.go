package adminapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever changes something that connected gateways do not know is told, before and after, and the change is made.
func TestWhatGatewaysDoNotKnowIsWarnedOf(t *testing.T) {
	t.Parallel()
	const service = "services: [{name: s, url: 'http://127.0.0.1:9'}]\n"
	route := func(binding string) string {
		return service + "routes: [{name: r, service: s, hosts: [r.test], policies: [" + binding + "]}]\n"
	}
	many := make([]string, 12)
	for i := range many {
		many[i] = fmt.Sprint("g", i)
	}
	unknown := func(what string, n int, ids string) string {
		return fmt.Sprintf("connected gateways that do not know the %s will answer 503 for what it guards; there are %d: %s", what, n, ids)
	}
	warning := func(policyType string, n int, ids string) string { return unknown("policy type "+policyType, n, ids) }
	described := "services: [{name: s, description: d, url: 'http://127.0.0.1:9'}]\n"
	tests := []struct {
		name, doc string
		unable    map[string][]string
		older     map[uint32][]string
		lost      error
		want      []string
	}{
		{"all know it", route("{type: key-auth}"), map[string][]string{"cors": {"g1"}}, nil, nil, nil},
		{"no policy at all", service, map[string][]string{"cors": {"g1"}}, nil, errors.New("down"), nil},
		{"one does not", route("{type: cors, config: {allow_origins: ['*']}}"), map[string][]string{"cors": {"g1"}}, nil, nil, []string{warning("cors", 1, "g1")}},
		{"it is switched off", route("{type: cors, enabled: false, config: {allow_origins: ['*']}}"), map[string][]string{"cors": {"g1"}}, nil, nil, nil},
		{
			"two types", route("{type: key-auth}, {type: acl, config: {allow: [g]}}"),
			map[string][]string{"key-auth": {"g1", "g2"}, "acl": many},
			nil, nil,
			[]string{warning("acl", 12, strings.Join(many[:10], ", ")+" and 2 more"), warning("key-auth", 2, "g1, g2")},
		},
		{
			"a credential", "consumers: [{name: c, credentials: [{name: k, type: key-auth, config: {key: Skew7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq}}]}]\n",
			map[string][]string{"key-auth": {"g1"}},
			nil, nil,
			[]string{warning("key-auth", 1, "g1")},
		},
		{"fields that all know", described, nil, map[uint32][]string{4: {"g1"}}, nil, nil},
		{"fields of a later contract", described, nil, map[uint32][]string{3: {"g1"}}, nil, []string{unknown("field or value Service.more", 1, "g1")}},
		{
			"fields of two contracts", described, nil,
			map[uint32][]string{2: {"g1"}, 3: {"g1", "g2"}},
			nil,
			[]string{unknown("field or value Service.description", 1, "g1"), unknown("field or value Service.extra", 1, "g1"), unknown("field or value Service.more", 2, "g1, g2")},
		},
		{"nobody can say who knows fields", described, nil, nil, errors.New("down"), []string{"whether all connected gateways can run this could not be looked up"}},
		{"nobody can say", route("{type: key-auth}"), nil, nil, errors.New("down"), []string{"whether all connected gateways can run this could not be looked up"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := serve(t)
			a.unable, a.older, a.lost = tt.unable, tt.older, tt.lost
			admin := a.admin()
			for _, query := range []string{"?dry_run=true", ""} {
				got := a.call(http.MethodPost, "/v1/groups/a:apply"+query, admin, "group: a\n"+tt.doc, "Content-Type: application/yaml")
				if got.status != http.StatusOK {
					t.Fatalf("apply%s: %d %s", query, got.status, got.body)
				}
				var said []string
				list, _ := got.json(t)["warnings"].([]any)
				for _, w := range list {
					said = append(said, w.(map[string]any)["message"].(string))
				}
				if diff := cmp.Diff(tt.want, said); diff != "" {
					t.Errorf("apply%s warns (-want +got):\n%s", query, diff)
				}
			}
		})
	}
}
