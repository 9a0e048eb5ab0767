package resilience_test

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit/ldaptest"
	"keyward.dev/shared/testkit/vaulttest"
)

// checkTimeout is how long requests wait at most for whoever checks callers.
const checkTimeout = time.Second

// unrelated adds what changes nothing for anybody.
const unrelated = "group: default\nservices: [{name: unrelated-%d, url: \"http://127.0.0.1:9\"}]\n"

// pusher returns what makes a change of the configuration that concerns nobody.
func pusher(c *harness.Cluster, g *harness.Gateway) func() {
	n := 0
	return func() {
		n++
		g.AwaitRevision(c.Apply(fmt.Sprintf(unrelated, n)))
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// address is one from which nobody else calls.
func address(n int64) string { return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255) }

const directoryDocument = `group: default
settings: {require_https: false, trusted_proxies: [127.0.0.0/8]}
ca-certificates: [{name: directory, certificates: DIRECTORYCA}]
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: open, service: s, hosts: [open.test]}
  - {name: keys, service: s, hosts: [keys.test], policies: [{type: key-auth}]}
  - name: either
    service: s
    hosts: [either.test]
    authn: {any_of: [[ldap-auth], [key-auth]]}
    policies: [{type: ldap-auth, config: {TLS, SEARCH}}, {type: key-auth}]
  - {name: known, service: s, hosts: [known.test], policies: [{type: ldap-auth, config: {TLS, SEARCH, cache_ttl: 1h}}]}
  - {name: asked, service: s, hosts: [asked.test], policies: [{type: ldap-auth, config: {TLS, SEARCH, cache_ttl: 0s}}]}
  - {name: clear, service: s, hosts: [clear.test], policies: [{type: ldap-auth, config: {CLEAR, SEARCH, cache_ttl: 0s}}]}
consumers:
  - {name: alice, username: alice}
  - {name: machine, credentials: [{name: k, type: key-auth, config: {key: KEY}}]}
`

// TestCallersWhileTheirDirectoryAils: who is remembered, or has another way in, gets in; nobody else is refused, and nobody waits.
func TestCallersWhileTheirDirectoryAils(t *testing.T) {
	beside(t)
	s := ldaptest.Start(t)
	nonsense := babbler(t, "HTTP/1.1 400 Bad Request\r\n\r\n", "\x30\x84\x7f\xff\xff\xff", "\x30\x0c\x02\x01\x7f\x61\x07\x0a\x01\x00\x04\x00\x04\x00", "\x15\x03\x03\x00\x02\x02\x28", "\x00\xff\x30\x80")
	d := &dependency{
		links: []*harness.Link{harness.NewLink(t, s.TLSAddress), harness.NewLink(t, s.Address)},
		real:  []string{s.TLSAddress, s.Address}, garbage: []string{nonsense, nonsense}, stop: s.Stop, start: s.Restart,
	}
	server := func(address, more string) string {
		return fmt.Sprintf("server: {addresses: '%s', timeout: %s, connect_timeout: %s, %s}", address, checkTimeout, checkTimeout, more)
	}
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(strings.NewReplacer(
		"SEARCH", fmt.Sprintf("search: {base_dn: '%s', bind_dn: '%s', bind_password: '%s'}", ldaptest.PeopleDN, ldaptest.ReaderDN, ldaptest.ReaderPassword),
		"TLS", server(d.links[0].Addr, "ca: directory"), "CLEAR", server(d.links[1].Addr, "tls: none, insecure_plaintext: true"),
		"DIRECTORYCA", fmt.Sprintf("%q", s.CA.PEM()), "UPSTREAM", harness.Nginx(t), "KEY", loadKey,
	).Replace(directoryDocument)))
	var guesses atomic.Int64
	alice, key := always("Authorization", basic("alice", "wonderland")), always("X-API-Key", loadKey)
	tr := &trial{g: g, d: d, timeout: checkTimeout, push: pusher(c, g), callers: []callers{
		{"nobody in particular", 20, "open.test", always(), 200, 200},
		{"with a key", 20, "keys.test", key, 200, 200},
		{"with a key, or a password", 20, "either.test", key, 200, 200},
		{"remembered", 25, "known.test", alice, 200, 200},
		{"asked about", 5, "asked.test", alice, 200, 503},
		{"asked about in the clear", 5, "clear.test", alice, 200, 503},
		{"with a wrong password", 5, "asked.test", func() []string {
			return []string{"Authorization", basic("alice", "wrong"), "X-Forwarded-For", address(guesses.Add(1))}
		}, 401, 503},
	}}
	states := func(of map[string]int) func(*testing.T) {
		return func(t *testing.T) {
			for name, want := range of {
				tr.probe(t, name, want)
			}
		}
	}
	tr.noticed = states(map[string]int{"asked about": 503, "asked about in the clear": 503})
	tr.recovered = states(map[string]int{"asked about": 200, "asked about in the clear": 200, "with a wrong password": 401})
	tr.probe(t, "remembered", 200)
	tr.every(t)
}

const publishedDocument = `group: default
settings: {require_https: false}
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: keys, service: s, hosts: [keys.test], policies: [{type: key-auth}]}
  - name: tokens
    service: s
    hosts: [tokens.test]
    policies:
      - type: jwt-auth
        config: {issuers: [{name: idp, issuer: "https://idp.test", jwks_uri: "http://HOST/jwks", timeout: TIMEOUT, refresh: 15s}], audiences: api}
consumers:
  - {name: machine, credentials: [{name: k, type: key-auth, config: {key: KEY}}]}
`

// TestCallersWhileTheirKeysCannotBeFetched: tokens of known keys count and expire; one of a key that is new is not refused.
func TestCallersWhileTheirKeysCannotBeFetched(t *testing.T) {
	beside(t)
	h := newPublisher(t)
	link := harness.NewLink(t, h.addr)
	none := nowhere(t)
	d := &dependency{
		links: []*harness.Link{link}, real: []string{h.addr},
		garbage: []string{webBabbler(t, nil, "<html>welcome", `{"keys":[{"kty":"EC","crv":"P-256"`, `[]`, `{"keys":"none"}`)},
		stop:    func() { link.Turn(none) }, start: func() { link.Turn(h.addr) },
		changed: func() { h.rotate(t) },
	}
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(strings.NewReplacer("UPSTREAM", harness.Nginx(t), "HOST", link.Addr, "TIMEOUT", checkTimeout.String(), "KEY", loadKey).Replace(publishedDocument)))
	known, expired := h.token(1, time.Hour), h.token(1, -time.Minute)
	tr := &trial{g: g, d: d, timeout: checkTimeout, push: pusher(c, g), callers: []callers{
		{"with a key", 30, "keys.test", always("X-API-Key", loadKey), 200, 200},
		{"with a token that is known", 40, "tokens.test", always(known...), 200, 200},
		{"with a new token of a key that is known", 10, "tokens.test", func() []string { return h.token(1, time.Minute) }, 200, 200},
		{"with an expired token", 10, "tokens.test", always(expired...), 401, 401},
		{"with a token of a new key", 10, "tokens.test", func() []string { return h.token(0, time.Minute) }, 200, 503},
	}}
	tr.noticed = func(t *testing.T) { tr.probe(t, "with a token of a new key", 503) }
	tr.recovered = func(t *testing.T) { tr.probe(t, "with a token of a new key", 200) }
	tr.every(t)
}

const storeDocument = `group: default
settings: {require_https: false}
credential-stores:
  - {name: pairs, provider: corp, path: pairs, refresh: 5s, stale_bound: 1h}
  - {name: lost, provider: corp, path: forbidden, refresh: 5s}
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: keys, service: s, hosts: [keys.test], policies: [{type: key-auth}]}
  - {name: pairs, service: s, hosts: [pairs.test], policies: [{type: vault-auth, config: {store: pairs}}]}
  - {name: lost, service: s, hosts: [lost.test], policies: [{type: vault-auth, config: {store: lost}}]}
consumers:
  - {name: alice, credentials: [{name: k, type: key-auth, config: {key: KEY}}]}
`

// TestCallersWhileTheirVaultAils: gateways never ask it, and go on with what was read last; what is made meanwhile counts once
// it can be read.
func TestCallersWhileTheirVaultAils(t *testing.T) {
	beside(t)
	v := vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("sys/policies/acl/pairs", map[string]any{"policy": `
path "kv/metadata/gateways/pairs" { capabilities = ["list"] }
path "kv/data/gateways/pairs/*"   { capabilities = ["read"] }`})
	addr := strings.TrimPrefix(v.Address, "https://")
	certificate, err := tls.LoadX509KeyPair(v.CA, filepath.Join(filepath.Dir(v.CA), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	nonsense := webBabbler(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		"<html>welcome", `{"data":{"keys":"none"}}`, `{"data":[]}`, `{"data":`, "null")
	d := &dependency{
		links: []*harness.Link{harness.NewLink(t, addr)}, real: []string{addr}, garbage: []string{nonsense},
		stop: v.Stop, start: func() { v.Restart(); v.Unseal() },
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(v.Issue("pairs", time.Hour, time.Hour)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--secret-provider", fmt.Sprintf(
		"corp=vault:https://%s/kv?prefix=gateways&groups=default&ca=%s&token-file=%s", d.links[0].Addr, v.CA, file)}})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(strings.NewReplacer("UPSTREAM", harness.Nginx(t), "KEY", loadKey).Replace(storeDocument)))
	pair := func() []string {
		access, secret := rand.Text()+rand.Text(), rand.Text()+rand.Text()
		v.Write("kv/data/gateways/pairs/"+access, map[string]any{"data": map[string]any{"access_token": access, "secret_token": secret, "consumer": "alice"}})
		return []string{"access_token", access, "secret_token", secret}
	}
	first := pair()
	tr := &trial{g: g, d: d, timeout: checkTimeout, push: pusher(c, g), callers: []callers{
		{"with a key", 40, "keys.test", always("X-API-Key", loadKey), 200, 200},
		{"with a pair", 40, "pairs.test", always(first...), 200, 200},
		{"with a pair of nobody", 10, "pairs.test", always("access_token", first[1], "secret_token", strings.Repeat("x", 32)), 401, 401},
		{"with a pair of which nothing was ever read", 10, "lost.test", always(first...), 503, 503},
	}}
	tr.noticed = func(t *testing.T) {
		c.Replicas[0].AwaitMetric(t, `keyward_controlplane_credential_stores{group="default",state="failing"}`, 1)
	}
	tr.recovered = func(t *testing.T) {
		tr.await(t, callers{name: "with a pair that was just made", host: "pairs.test", fields: always(pair()...)}, 200)
	}
	tr.every(t)
}
