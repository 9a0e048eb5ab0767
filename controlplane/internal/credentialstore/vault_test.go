package credentialstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/tokenpair"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

// leastPolicy is what the documentation gives: to list names and to read entries, of one folder.
const leastPolicy = `
path "two/metadata/team/pairs" { capabilities = ["list"] }
path "two/data/team/pairs/*"   { capabilities = ["read"] }
path "two/metadata/kong/pairs" { capabilities = ["list"] }
path "two/data/kong/pairs/*"   { capabilities = ["read"] }`

// TestARealVaultIsFollowed reads version 2 of the engine with a provider of the operator's and one of the group's, with no more
// rights than the documentation asks for.
func TestARealVaultIsFollowed(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Write("sys/mounts/two", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("sys/policies/acl/pairs", map[string]any{"policy": leastPolicy})
	for _, path := range []string{"two/data/team/elsewhere", "two/data/team/pairs/below/deep"} {
		v.Write(path, map[string]any{"data": entry(9, "alice")})
	}
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(v.Issue("pairs", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(v.CA)
	if err != nil {
		t.Fatal(err)
	}
	r := w.replica(t, nil, fmt.Sprintf("operators=vault:%s/two?prefix=team&groups=g&ca=%s&token-file=%s", v.Address, v.CA, path))
	begin := []proto.Message{
		&configv1.CaCertificate{Name: "vault", Certificates: string(ca)}, &configv1.Consumer{Name: "alice"},
		&configv1.SecretProvider{
			Name: "own", Refresh: durationpb.New(time.Minute), StaleBound: durationpb.New(time.Hour),
			Vault: &configv1.VaultProvider{
				Address: v.Address, Mount: "two", Prefix: "kong", Ca: []string{"vault"},
				Token: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: v.Issue("pairs", time.Hour, time.Hour)}},
			},
		},
		store("corp", func(s *configv1.CredentialStore) { s.Provider = "operators" }),
		store("kong", func(s *configv1.CredentialStore) { s.Provider = "own" }),
	}
	r.apply(t, begin...)
	r.run(t, w)
	r.check(t, w, "a folder in which there is nothing", true, "1=", "9=")
	now := w.clock().Unix()
	v.Write("two/data/team/pairs/one", map[string]any{"data": entry(1, "alice")})
	v.Write("two/data/team/pairs/two", map[string]any{"data": entry(2, "alice", "ttl", 3600)}) // from when it was written
	v.Write("two/data/kong/pairs/"+token("A", 3), map[string]any{
		"data": entry(3, map[string]any{"id": "alice"}, "ttl", 3600, "created_at", now, "updated_at", now),
	})
	r.run(t, w)
	r.check(t, w, "read", true, "1=alice", "2=alice", "3=", "9=")
	if got, known := r.counts(t, w, "kong", token("A", 3), token("S", 3)); got != "alice" || !known {
		t.Errorf("an entry as Kong keeps it is of %q, known: %v", got, known)
	}
	v.Write("two/delete/team/pairs/one", map[string]any{"versions": []int{1}})
	v.Delete("two/metadata/kong/pairs/" + token("A", 3))
	r.run(t, w)
	r.check(t, w, "deleted", true, "1=", "2=alice")
	if got, _ := r.counts(t, w, "kong", token("A", 3), token("S", 3)); got != "" {
		t.Errorf("a deleted entry is of %q", got)
	}
	w.pass(time.Minute)
	v.Write("sys/remount", map[string]any{"from": "two", "to": "away"})
	testkit.Await(t, testkit.Deadline, func() error { // Vault answers before it has moved it
		if mounts := v.Read("sys/mounts"); mounts["away/"] == nil || mounts["two/"] != nil {
			return errors.New("it is not away yet")
		}
		return nil
	})
	r.run(t, w)
	r.check(t, w, "the engine is away, which is no empty folder", true, "2=alice")
	v.Write("sys/remount", map[string]any{"from": "away", "to": "two"})
	testkit.Await(t, testkit.Deadline, func() error {
		if v.Read("sys/mounts")["two/"] == nil {
			return errors.New("it is not mounted again")
		}
		return nil
	})
	r.run(t, w)
	v.Delete("two/metadata/team/pairs/two")
	v.Write("two/data/team/pairs/four", map[string]any{"data": entry(4, "alice")})
	r.run(t, w)
	r.check(t, w, "deleted with its history", true, "2=", "4=alice")
	for name, down := range map[string]func(){"sealed": v.Seal, "stopped": v.Stop} {
		down()
		r.run(t, w)
		r.check(t, w, name, true, "4=alice")
		v.Stop()
		v.Restart()
		v.Unseal()
	}
	w.pass(time.Minute)
	r.run(t, w)
	if log := w.logged(); !strings.Contains(log, "credential store is read again") {
		t.Errorf("logged was\n%s", log)
	}
	noTokens(t, "the log", w.logged())
}

// TestVersionOneOfARealVaultIsFollowed does the same for version 1, which keeps no history: pairs as Kong keeps them, with the least
// rights, made, changed and deleted, up to the last, and while the engine is away.
func TestVersionOneOfARealVaultIsFollowed(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Write("sys/mounts/one", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	v.Write("sys/policies/acl/pairs", map[string]any{"policy": `
path "one/team/pairs"   { capabilities = ["list"] }
path "one/team/pairs/*" { capabilities = ["read"] }`})
	v.Write("one/team/pairs/below/deep", entry(9, "alice"))
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(v.Issue("pairs", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.replica(t, nil, fmt.Sprintf("one=vault:%s/one?kv=1&prefix=team&groups=g&ca=%s&token-file=%s", v.Address, v.CA, path))
	r.apply(t, &configv1.Consumer{Name: "alice"}, store("corp", func(s *configv1.CredentialStore) { s.Provider = "one" }))
	now := w.clock().Unix()
	for _, step := range []struct {
		name string
		turn func()
		want []string
	}{
		{"only a folder in it", func() {}, []string{"1=", "9="}},
		{"pairs are made", func() {
			v.Write("one/team/pairs/"+token("A", 1), entry(1, map[string]any{"id": "alice"}, "ttl", 3600, "created_at", now, "updated_at", now))
			v.Write("one/team/pairs/two", entry(2, "alice"))
		}, []string{"1=alice", "2=alice", "9="}},
		{"one becomes another", func() { v.Write("one/team/pairs/two", entry(3, "alice")) }, []string{"1=alice", "2=", "3=alice"}},
		{"one is deleted", func() { v.Delete("one/team/pairs/" + token("A", 1)) }, []string{"1=", "3=alice"}},
		{"sealed", v.Seal, []string{"3=alice"}},
		{"open again, and the last is deleted", func() {
			v.Unseal()
			v.Delete("one/team/pairs/two")
		}, []string{"3="}},
	} {
		step.turn()
		w.pass(time.Minute)
		r.run(t, w)
		r.check(t, w, step.name, true, step.want...)
	}
	noTokens(t, "the log", w.logged())
}

// TestVersionOneOfTheEngineIsReadAsItAnswers has a stand-in for Vault, which answers what Vault never should.
func TestVersionOneOfTheEngineIsReadAsItAnswers(t *testing.T) {
	t.Parallel()
	var broken atomic.Pointer[func(http.ResponseWriter)]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var data map[string]any
		switch {
		case broken.Load() != nil:
			(*broken.Load())(w)
			return
		case r.URL.Path == "/v1/one/pairs" && r.URL.Query().Get("list") == "true":
			data = map[string]any{"keys": []string{"below/", token("A", 1)}}
		case r.URL.Path == "/v1/one/pairs/"+token("A", 1):
			data = entry(1, map[string]any{"id": "alice"}, "ttl", 3600, "created_at", time.Now().Unix(), "updated_at", nil)
		default:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	}))
	defer server.Close()
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("hvs.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.replica(t, nil, fmt.Sprintf("one=vault:%s/one?kv=1&groups=g&token-file=%s", server.URL, path))
	r.apply(t, &configv1.Consumer{Name: "alice"}, store("corp", func(s *configv1.CredentialStore) { s.Provider = "one" }))
	r.run(t, w)
	r.check(t, w, "read", true, "1=alice")
	for name, answer := range map[string]func(http.ResponseWriter){
		"failed":             func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"forbidden":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"overloaded":         func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"elsewhere":          func(w http.ResponseWriter) { w.Header().Set("Location", "/v1/else"); w.WriteHeader(http.StatusFound) },
		"no JSON":            func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"cut off":            func(w http.ResponseWriter) { fmt.Fprint(w, `{"data": {"keys": ["`) },
		"names are no texts": func(w http.ResponseWriter) { fmt.Fprint(w, `{"data": {"keys": [1, null]}}`) },
		"broken off":         func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		broken.Store(&answer)
		r.run(t, w)
		r.check(t, w, name, true, "1=alice")
		if s, _ := r.view(t).Get(tokenpair.KindState, "corp"); s.Message.(*systemv1.CredentialStoreState).GetFailingSince() == nil {
			t.Errorf("%s: it is not told as failing", name)
		}
	}
	broken.Store(nil)
	r.run(t, w)
	w.pass(time.Hour)
	r.check(t, w, "ended", true, "1=")
}
