package scenario_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

const (
	aliceAccess = "v3cOV1jWglS0PFOrTcdr85bs1GP0e2yM"
	aliceSecret = "11XYyybbu3Ty0Qt4ImIshPGQ0WsvjLzl"
	briefAccess = "b8fKq2LmX0sTz5RwN1vYc7JdH4gPe9Ua"
	briefSecret = "Zt6Wn3QkB0xLr8VyM2sFd5GhJ1pCe7Ti"
)

// pairsInVault is a real Vault with a folder of pairs, and how the control plane is told of it.
func pairsInVault(t *testing.T) (v *vaulttest.Server, setting string) {
	t.Helper()
	v = vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("sys/policies/acl/pairs", map[string]any{"policy": `
path "kv/metadata/gateways/pairs" { capabilities = ["list"] }
path "kv/data/gateways/pairs/*"   { capabilities = ["read"] }`})
	role, secretID := v.AppRole("pairs", time.Minute, time.Hour)
	file := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(file, []byte(secretID), 0o600); err != nil {
		t.Fatal(err)
	}
	return v, fmt.Sprintf("corp=vault:%s/kv?prefix=gateways&groups=default&ca=%s&auth=approle&role-id=%s&secret-id-file=%s", v.Address, v.CA, role, file)
}

const vaultAuthDocument = `group: default
settings: {require_https: false}
credential-stores:
  - {name: pairs, provider: corp, path: pairs, refresh: 5s, stale_bound: 40s}
  - {name: lost, provider: corp, path: forbidden, refresh: 5s}
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: pairs, service: s, hosts: [pairs.test], policies: [{type: vault-auth, config: {store: pairs}}, {type: acl, config: {allow: [gold]}}]}
  - {name: lost, service: s, hosts: [lost.test], policies: [{type: vault-auth, config: {store: lost}}]}
  - {name: key, service: s, hosts: [key.test], policies: [{type: key-auth}]}
consumers:
  - {name: alice, groups: [gold], credentials: [{name: k, type: key-auth, config: {key: gold-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}]}
`

// TestPairsInVaultAreFollowed goes through the life of pairs of tokens that are kept in a real Vault: made, used, ended, deleted,
// and while Vault is gone, for gateways that start meanwhile, too, and up to the bound. Nothing of a token is anywhere.
func TestPairsInVaultAreFollowed(t *testing.T) {
	t.Parallel()
	v, setting := pairsInVault(t)
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--secret-provider", setting}})
	conn, early := c.Dial(c.Join(c.JoinToken("default", 1)))
	c.OpenStream(conn)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(strings.Replace(vaultAuthDocument, "UPSTREAM", harness.Echo(t), 1)))
	get := func(g *harness.Gateway, host, access, secret string) (int, string) {
		return g.Get(t, host, "/", "access_token", access, "secret_token", secret)
	}
	await := func(what string, g *harness.Gateway, want int, access, secret string) {
		t.Helper()
		begun := time.Now()
		testkit.Await(t, 20*time.Second, func() error {
			if code, body := get(g, "pairs.test", access, secret); code != want {
				return fmt.Errorf("%s: %d %s, want %d", what, code, body, want)
			}
			return nil
		})
		t.Logf("%s: %v", what, time.Since(begun).Round(100*time.Millisecond))
	}
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_credential_stores{group="default",state="read"}`, 1)
	await("an empty folder", g, http.StatusUnauthorized, aliceAccess, aliceSecret)
	now := time.Now().Unix()
	v.Write("kv/data/gateways/pairs/"+aliceAccess, map[string]any{"data": map[string]any{ // as Kong keeps it
		"access_token": aliceAccess, "secret_token": aliceSecret, "consumer": map[string]any{"id": "alice"}, "ttl": nil, "created_at": now, "updated_at": now,
	}})
	await("a pair is made", g, http.StatusOK, aliceAccess, aliceSecret)
	if code, body := get(g, "pairs.test", aliceAccess, aliceSecret); code != http.StatusOK || strings.Contains(body, aliceAccess) || strings.Contains(body, aliceSecret) {
		t.Errorf("the upstream saw %d %s", code, body)
	}
	for _, wrong := range [][2]string{{aliceAccess, briefSecret}, {briefAccess, aliceSecret}, {aliceSecret, aliceAccess}, {aliceAccess, ""}, {"", ""}} {
		if resp := g.Call(t, http.MethodGet, "pairs.test", "/", nil, "access_token", wrong[0], "secret_token", wrong[1]); resp.StatusCode != http.StatusUnauthorized ||
			resp.Header.Get("WWW-Authenticate") != `Vault realm="keyward"` {
			t.Errorf("a wrong pair: %d %v", resp.StatusCode, resp.Header)
		}
	}
	if resp := g.Call(t, http.MethodGet, "lost.test", "/", nil, "access_token", aliceAccess, "secret_token", aliceSecret); resp.StatusCode != http.StatusServiceUnavailable ||
		resp.Header.Get("Retry-After") == "" {
		t.Errorf("a store that was never read: %d %v", resp.StatusCode, resp.Header)
	}
	v.Write("kv/data/gateways/pairs/brief", map[string]any{"data": map[string]any{
		"access_token": briefAccess, "secret_token": briefSecret, "consumer": "alice", "ttl": "12", "created_at": time.Now().Unix(),
	}})
	v.Write("kv/data/gateways/pairs/bad", map[string]any{"data": map[string]any{"secret_token": briefSecret, "consumer": "alice", "ttl": "soon"}})
	await("another one is made", g, http.StatusOK, briefAccess, briefSecret)
	await("it ends", g, http.StatusUnauthorized, briefAccess, briefSecret)
	outage(t, c, v, g, await)
	v.Delete("kv/metadata/gateways/pairs/" + aliceAccess)
	await("the pair is deleted", g, http.StatusUnauthorized, aliceAccess, aliceSecret)

	secrets := []string{aliceAccess, aliceSecret, briefAccess, briefSecret}
	for _, s := range secrets {
		if early.Contains(s) {
			t.Error("gateways are sent a token")
		}
	}
	if !early.Contains("stored-credentials") {
		t.Error("gateways are sent nothing of pairs")
	}
	where := append(c.Tables(), c.Replicas[0].Output(), g.Output())
	for _, path := range []string{"/credential-stores", "/credential-stores/pairs", ":export", "/audit-events", "/revisions"} {
		where = append(where, c.REST(http.MethodGet, "/v1/groups/default"+path, "").Body)
	}
	for _, text := range where {
		mustNotHold(t, "a table, an answer or a log", text, secrets...)
	}
}

// outage has Vault gone, while the control plane and gateways start anew, and back.
func outage(t *testing.T, c *harness.Cluster, v *vaulttest.Server, g *harness.Gateway, await func(string, *harness.Gateway, int, string, string)) {
	t.Helper()
	v.Stop()
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_credential_stores{group="default",state="failing"}`, 1)
	c.Restart(c.Replicas[0])
	c.Replicas[0].AwaitReady()
	second := c.StartGateway("default")
	second.AwaitReady()
	for _, gateway := range []*harness.Gateway{g, second} {
		await("while Vault is gone", gateway, http.StatusOK, aliceAccess, aliceSecret)
	}
	testkit.Await(t, 90*time.Second, func() error { // the bound
		if code, body := second.Get(t, "pairs.test", "/", "access_token", aliceAccess, "secret_token", aliceSecret); code != http.StatusServiceUnavailable {
			return fmt.Errorf("beyond the bound: %d %s", code, body)
		}
		return nil
	})
	if code, body := second.Get(t, "key.test", "/", "X-API-Key", "gold-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"); code != http.StatusOK {
		t.Errorf("who needs no Vault is answered %d %s", code, body)
	}
	v.Restart()
	v.Unseal()
	await("Vault is back", g, http.StatusOK, aliceAccess, aliceSecret)
}

// TestTheExampleOfVaultAuth applies what the page about the policy shows, with a Vault of the group's own and the least rights.
func TestTheExampleOfVaultAuth(t *testing.T) {
	t.Parallel()
	v, _ := pairsInVault(t)
	ca, err := os.ReadFile(v.CA)
	if err != nil {
		t.Fatal(err)
	}
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--tenant-networks", "127.0.0.1/32"}})
	v.Write("kv/data/gateways/pairs/alice-1", map[string]any{"data": map[string]any{
		"consumer": "alice", "access_token": aliceAccess, "secret_token": aliceSecret,
	}})
	document := strings.NewReplacer(
		"https://vault.example:8200\"", v.Address+"\", ca: vault", "hvs.…", v.Issue("pairs", time.Hour, time.Hour),
		"http://127.0.0.1:9000", "http://"+harness.Echo(t),
	).Replace(example(t, "vault-auth")) + fmt.Sprintf("\nca-certificates: [{name: vault, certificates: %q}]\nsettings: {require_https: false}\n", ca)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(document))
	testkit.Await(t, 20*time.Second, func() error {
		if code, body := g.Get(t, "hello.test", "/", "access_token", aliceAccess, "secret_token", aliceSecret); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}
