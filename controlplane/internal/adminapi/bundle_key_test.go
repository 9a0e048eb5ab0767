package adminapi_test

import (
	"net/http"
	"strings"
	"testing"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

func TestBundleKeysAreForAdministratorsOfTheGroup(t *testing.T) {
	t.Parallel()
	a := serve(t)
	for _, c := range []struct {
		name, path, token string
		status            int
		want              string
	}{
		{"show", "/v1/groups/a/bundle-key:show", a.admin(), 200, "key of a for "},
		{"rotate", "/v1/groups/a/bundle-key:rotate", a.admin(), 200, `"version":3`},
		{"no group", "/v1/groups/nobody/bundle-key:show", a.admin(), 404, "not_found"},
		{"show as operator", "/v1/groups/a/bundle-key:show", a.token("a", optionsv1.Role_ROLE_OPERATOR), 403, "forbidden"},
		{"rotate as operator", "/v1/groups/a/bundle-key:rotate", a.token("a", optionsv1.Role_ROLE_OPERATOR), 403, "forbidden"},
	} {
		got := a.call(http.MethodPost, c.path, c.token, "{}")
		if got.status != c.status || !strings.Contains(strings.ReplaceAll(string(got.body), ": ", ":"), strings.ReplaceAll(c.want, ": ", ":")) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, got.status, got.body, c.status, c.want)
		}
	}
}
