package secretsource_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/vaulttest"
)

// TestVaultGivesWhatItsPolicyAndThePrefixLetOut reads from version 2 of the KV engine of a real Vault.
func TestVaultGivesWhatItsPolicyAndThePrefixLetOut(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	leaf := certtest.SelfSigned(t, "web", certtest.Names("web.test"))
	text := leaf.KeyPEM(t) + leaf.PEM()
	v.Write("sys/mounts/two", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	for _, path := range []string{"team/web", "team/forbidden", "elsewhere"} {
		v.Write("two/data/"+path, map[string]any{"data": map[string]any{"pem": text, "number": 7}})
	}
	v.Write("two/data/team/deleted", map[string]any{"data": map[string]any{"pem": text}})
	v.Write("two/delete/team/deleted", map[string]any{"versions": []int{1}})
	v.Write("sys/policies/acl/team", map[string]any{"policy": `
path "two/*" { capabilities = ["read"] }
path "two/data/team/forbidden" { capabilities = ["deny"] }`})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(v.Issue("team", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	setting := fmt.Sprintf("two=vault:%s/two?prefix=team&groups=g&ca=%s&token-file=%s", v.Address, v.CA, token)
	for path, good := range map[string]bool{
		"web#pem": true, "web#number": false, "web#absent": false, "absent#pem": false, "forbidden#pem": false, "deleted#pem": false,
	} {
		if got := w.readFrom(t, setting, "{vault://two/"+path+"}"); (got != "") != good || good && got != leaf.ID() {
			t.Errorf("%s: %q was read", path, got)
		}
	}
	r := w.replicaWith(t, setting)
	for _, path := range []string{"../elsewhere#pem", "web/../../elsewhere#pem", "web", "web?version=1#pem", "web%2f..%2f..%2felsewhere#pem", "web#a/b", "/web#pem"} {
		c := proto.CloneOf(referring("web", ""))
		c.Current.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://two/" + path + "}"}}
		if err := r.put(t, "g", c); err == nil {
			t.Errorf("%s: taken", path)
		}
	}
}

// readFrom answers what a replica of its own reads for a reference, empty for nothing.
func (w *world) readFrom(t *testing.T, setting, reference string) string {
	t.Helper()
	r := w.replicaWith(t, setting)
	c := referring("web", "")
	c.Current.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: reference}}
	if err := r.put(t, "g", c); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, record := w.state(t)
	return id(record)
}

// TestVersionOneOfARealVaultIsRead reads references from an engine that keeps no versions.
func TestVersionOneOfARealVaultIsRead(t *testing.T) {
	t.Parallel()
	leaf := certtest.SelfSigned(t, "web", certtest.Names("web.test"))
	v := vaulttest.Start(t)
	v.Write("sys/mounts/one", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	v.Write("sys/policies/acl/web", map[string]any{"policy": `path "one/team/*" { capabilities = ["read"] }`})
	v.Write("one/team/web", map[string]any{"pem": leaf.KeyPEM(t) + leaf.PEM()})
	w := newWorld(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(v.Issue("web", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	setting := fmt.Sprintf("one=vault:%s/one?kv=1&prefix=team&groups=g&ca=%s&token-file=%s", v.Address, v.CA, token)
	for path, want := range map[string]string{"web#pem": leaf.ID(), "web#absent": "", "absent#pem": ""} {
		if got := w.readFrom(t, setting, "{vault://one/"+path+"}"); got != want {
			t.Errorf("%s: %q was read, want %q", path, got, want)
		}
	}
}

// TestVersionOneOfTheEngineIsReadAsItAnswers has a stand-in for Vault, which counts: one that does not answer is asked once in a
// run, however many references there are.
func TestVersionOneOfTheEngineIsReadAsItAnswers(t *testing.T) {
	t.Parallel()
	leaf := certtest.SelfSigned(t, "web", certtest.Names("web.test"))
	var asked atomic.Int64
	down := atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/v1/one/web":
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"pem": leaf.KeyPEM(t) + leaf.PEM()}})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	w := newWorld(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hvs.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	setting := fmt.Sprintf("one=vault:%s/one?kv=1&groups=g&token-file=%s", server.URL, token)
	for path, want := range map[string]string{"web#pem": leaf.ID(), "web#absent": "", "absent#pem": ""} {
		if got := w.readFrom(t, setting, "{vault://one/"+path+"}"); got != want {
			t.Errorf("%s: %q was read, want %q", path, got, want)
		}
	}
	r := w.replicaWith(t, setting)
	var many []admission.Change
	for n := range 50 {
		c := referring(fmt.Sprintf("many-%d", n), "")
		c.Snis, c.Current.PrivateKey = nil, &configv1.Secret{Value: &configv1.Secret_Ref{Ref: fmt.Sprintf("{vault://one/%d#pem}", n)}}
		many = append(many, admission.Change{Kind: certs.Kind, Name: c.GetName(), Message: c})
	}
	if _, err := r.Write(t.Context(), configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: many}); err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	asked.Store(0)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n > 8 { // those that are asked at once
		t.Errorf("it was asked %d times while it was down", n)
	}
}
