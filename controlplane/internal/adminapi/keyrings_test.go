package adminapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/rotation"
	"keyward.dev/controlplane/internal/store"
)

// keyrings is a keeper: the groups a and b and the system have a keyring each.
type keyrings struct{}

func (k *keyrings) List(ctx context.Context, may func(string) bool) ([]rotation.Keyring, error) {
	var out []rotation.Keyring
	for _, group := range []string{"system", "a", "b"} {
		if may(group) {
			one, err := k.Get(ctx, group)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func (*keyrings) Get(_ context.Context, group string) (rotation.Keyring, error) {
	if group == "none" {
		return rotation.Keyring{}, store.ErrNotFound
	}
	return rotation.Keyring{Group: group, Version: 1, KEKID: "file:1", Terms: []rotation.Term{
		{Number: 1, State: rotation.Newest, CreatedAt: time.Unix(1700000000, 0), Seals: 7, Rows: 5},
	}}, nil
}

func (k *keyrings) Rotate(ctx context.Context, group, actor string) (rotation.Keyring, error) {
	one, err := k.Get(ctx, group)
	one.Next, one.Waiting = &store.NextKeyring{Action: "rotate", Term: 2, Actor: actor, PreparedAt: time.Unix(1700000000, 0)}, []string{"cp-2"}
	return one, err
}

func (k *keyrings) Rewrap(ctx context.Context, group, _ string) (rotation.Keyring, error) {
	one, err := k.Get(ctx, group)
	one.Remaining = 12
	return one, err
}

func (k *keyrings) Remove(_ context.Context, _ string, term uint32, _ string) (rotation.Keyring, error) {
	return rotation.Keyring{}, problem.Errorf(problem.Conflict, "ciphertext is left under term %d", term)
}

func TestKeyringsOverREST(t *testing.T) {
	t.Parallel()
	a := serve(t)
	viewer, operator := a.token("a", optionsv1.Role_ROLE_VIEWER), a.token("a", optionsv1.Role_ROLE_OPERATOR)
	admin, groupAdmin := a.admin(), a.token("a", optionsv1.Role_ROLE_ADMIN)
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		want, hidden                    string
	}{
		{"all", "GET", "/v1/keyrings", admin, "", 200, `"group":"system"`, ""},
		{"those one may see", "GET", "/v1/keyrings", viewer, "", 200, `"group":"a"`, `"group":"b"`},
		{"not the system's", "GET", "/v1/keyrings", groupAdmin, "", 200, `"group":"a"`, "system"},
		{"one", "GET", "/v1/groups/a/keyring", viewer, "", 200, `"terms":[{"number":1,"state":"newest"`, ""},
		{"another group's", "GET", "/v1/groups/b/keyring", viewer, "", 403, "forbidden", ""},
		{"the system's as administrator of a group", "GET", "/v1/groups/system/keyring", groupAdmin, "", 403, "forbidden", ""},
		{"the system's", "GET", "/v1/groups/system/keyring", admin, "", 200, `"kek_id":"file:1"`, ""},
		{"no such group", "GET", "/v1/groups/none/keyring", admin, "", 404, "not_found", ""},
		{"rotate", "POST", "/v1/groups/a/keyring:rotate", groupAdmin, "{}", 200, `"waiting":["cp-2"]`, ""},
		{"rotate as operator", "POST", "/v1/groups/a/keyring:rotate", operator, "{}", 403, "forbidden", ""},
		{"rotate the system's as administrator of a group", "POST", "/v1/groups/system/keyring:rotate", groupAdmin, "{}", 403, "forbidden", ""},
		{"rewrap", "POST", "/v1/groups/a/keyring:rewrap", groupAdmin, "{}", 200, `"remaining":12`, ""},
		{"rewrap as operator", "POST", "/v1/groups/a/keyring:rewrap", operator, "{}", 403, "forbidden", ""},
		{"remove what is in use", "POST", "/v1/groups/a/keyring:remove", groupAdmin, `{"term":1}`, 409, "left under term 1", ""},
		{"remove nothing", "POST", "/v1/groups/a/keyring:remove", groupAdmin, "{}", 422, "term", ""},
		{"remove as operator", "POST", "/v1/groups/a/keyring:remove", operator, `{"term":1}`, 403, "forbidden", ""},
	} {
		got := a.call(c.method, c.path, c.token, c.body)
		body := strings.NewReplacer(" ", "", "\n", "").Replace(string(got.body))
		if got.status != c.status || !strings.Contains(body, strings.ReplaceAll(c.want, " ", "")) || c.hidden != "" && strings.Contains(body, c.hidden) {
			t.Errorf("%s: %d %s, want %d with %q and without %q", c.name, got.status, got.body, c.status, c.want, c.hidden)
		}
	}
}
