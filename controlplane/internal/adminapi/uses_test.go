package adminapi_test

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/store"
)

// uses is adminapi.Uses. It knows the credentials of group a, in order, and leaves it to the store to look for unused ones.
type uses struct {
	mu    sync.Mutex // guards what follows
	known []store.Usage
	asked []store.UsageQuery
	down  error
}

var usesSince = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (u *uses) LastUsed(_ context.Context, uids []string) (map[string]time.Time, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	used := map[string]time.Time{}
	for _, k := range u.known {
		for _, uid := range uids {
			if k.UID == uid && !k.Used.IsZero() {
				used[uid] = k.Used
			}
		}
	}
	return used, u.down
}

func (u *uses) CredentialUsage(_ context.Context, q store.UsageQuery) ([]store.Usage, time.Time, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, q)
	var found []store.Usage
	for _, k := range u.known {
		if k.Name > q.After && len(found) < q.Limit {
			found = append(found, k)
		}
	}
	return found, usesSince, u.down
}

func (u *uses) breaks(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = err
}

// withUses has three credentials of two consumers in group a, of which two were used; the store knows one more already.
func withUses(t *testing.T) *api {
	t.Helper()
	a := serve(t)
	used := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, name := range []string{"alice/one", "alice/three", "bob/two"} {
		consumer, credential, _ := strings.Cut(name, "/")
		label := strconv.Itoa(len(credential))
		for path, body := range map[string]string{
			"/v1/groups/a/consumers/" + consumer:                                `{}`,
			"/v1/groups/a/consumers/" + consumer + "/credentials/" + credential: `{"type":"key-auth","config":{"key":"k"},"labels":{"letters":"` + label + `"}}`,
		} {
			if put := a.call(http.MethodPut, path, a.admin(), body); put.status != http.StatusCreated && put.status != http.StatusOK {
				t.Fatalf("put %s: %d %s", path, put.status, put.body)
			}
		}
		a.uses.known = append(a.uses.known, store.Usage{Name: name, UID: "uid-credentials-" + name, Used: used})
		used = used.Add(time.Hour)
	}
	a.uses.known[1].Used = time.Time{}
	a.uses.known = append(a.uses.known, store.Usage{Name: "carol/new", UID: "uid-of-tomorrow", Used: used})
	return a
}

// listed are the credentials of an answer and when they were used.
func listed(t *testing.T, got map[string]any) map[string]any {
	t.Helper()
	out := map[string]any{}
	list, _ := got["resources"].([]any)
	for _, e := range list {
		c, ok := e.(map[string]any)
		if !ok {
			t.Fatalf("an entry that is none: %v", e)
		}
		name, _ := c["name"].(string)
		out[name] = c["last_used"]
	}
	return out
}

func TestCredentialsSayWhenTheyWereUsed(t *testing.T) {
	t.Parallel()
	a := withUses(t)
	viewer := a.token("a", optionsv1.Role_ROLE_VIEWER)
	const path = "/v1/groups/a/consumers/alice/credentials"
	want := map[string]any{"one": "2026-05-06T07:08:09Z", "three": nil}
	if got := listed(t, a.call(http.MethodGet, path, viewer, "").json(t)); !cmp.Equal(want, got) {
		t.Errorf("list (-want +got):\n%s", cmp.Diff(want, got))
	}
	one := a.call(http.MethodGet, path+"/one", viewer, "").json(t)
	if one["last_used"] != "2026-05-06T07:08:09Z" {
		t.Errorf("one: %v", one)
	}
	if export := a.call(http.MethodGet, "/v1/groups/a:export", viewer, ""); strings.Contains(string(export.body), "last_used") {
		t.Errorf("an export has what is no configuration:\n%s", export.body)
	}
	a.uses.breaks(store.ErrUnavailable)
	got := a.call(http.MethodGet, path, viewer, "")
	if want := (map[string]any{"one": nil, "three": nil}); got.status != http.StatusOK || !cmp.Equal(want, listed(t, got.json(t))) {
		t.Errorf("while the database is down: %d %s", got.status, got.body)
	}
}

func TestCredentialsOfAGroup(t *testing.T) {
	t.Parallel()
	a := withUses(t)
	viewer := a.token("a", optionsv1.Role_ROLE_VIEWER)
	const path = "/v1/groups/a/credentials"
	all := map[string]any{"one": "2026-05-06T07:08:09Z", "three": nil, "two": "2026-05-06T09:08:09Z"}
	for query, want := range map[string]map[string]any{
		"":                    all,
		"?selector=letters=3": {"one": all["one"], "two": all["two"]},
		"?unused_for=2160h":   all, // the store has chosen
	} {
		got := a.call(http.MethodGet, path+query, viewer, "").json(t)
		if diff := cmp.Diff(want, listed(t, got)); diff != "" || got["recorded_since"] != "2026-01-02T03:04:05Z" {
			t.Errorf("%q: since %v (-want +got):\n%s", query, got["recorded_since"], diff)
		}
	}
	var last store.UsageQuery
	for _, q := range a.uses.asked {
		if !q.UnusedSince.IsZero() {
			last = q
		}
	}
	if ago := time.Since(last.UnusedSince); ago < 2160*time.Hour || ago > 2161*time.Hour || last.Group != "a" {
		t.Errorf("the store was asked %+v", last)
	}
	// Page after page, with one that this replica has yet to hear of and one that the selector leaves out.
	seen, token, pages := map[string]any{}, "", 0
	for ; pages < 10; pages++ {
		got := a.call(http.MethodGet, path+"?page_size=1&selector=letters=3&page_token="+token, viewer, "").json(t)
		maps.Copy(seen, listed(t, got))
		if token, _ = got["next_page_token"].(string); token == "" {
			break
		}
	}
	if want := (map[string]any{"one": all["one"], "two": all["two"]}); !cmp.Equal(want, seen) || pages != 4 {
		t.Errorf("%d pages with %v", pages, seen)
	}
	for query, status := range map[string]int{
		"?unused_for=-1h": 422, "?unused_for=0s": 400, "?unused_for=soon": 422, "?page_token=x": 400, "?page_size=-1": 400, "?selector==": 400,
	} {
		if got := a.call(http.MethodGet, path+query, viewer, ""); got.status != status {
			t.Errorf("%s: %d %s, want %d", query, got.status, got.body, status)
		}
	}
	a.uses.breaks(store.ErrUnavailable)
	if got := a.call(http.MethodGet, path, viewer, ""); got.status != http.StatusServiceUnavailable {
		t.Errorf("while the database is down: %d %s", got.status, got.body)
	}
}
