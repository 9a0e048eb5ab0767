package scenario_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/ldaptest"
)

// ldapTimeout is how long requests wait for the directory at most.
const ldapTimeout = time.Second

func ldapDocument(t *testing.T, s *ldaptest.Server, upstream, base string) string {
	t.Helper()
	search := fmt.Sprintf("search: {base_dn: '%s', bind_dn: '%s', bind_password: '%s'", base, ldaptest.ReaderDN, ldaptest.ReaderPassword)
	server := func(address, more string) string {
		return fmt.Sprintf("server: {addresses: '%s', timeout: %s, connect_timeout: %s, %s}", address, ldapTimeout, ldapTimeout, more)
	}
	tls := server(s.TLSAddress, "ca: directory")
	return strings.NewReplacer(
		"TLS", tls, "SEARCH", search, "UPSTREAM", upstream,
		"WRONGCA", server(s.Address, "tls: starttls, ca: stranger"), "STARTTLS", server(s.Address, "tls: starttls, ca: directory"),
		"DIRECTORYCA", fmt.Sprintf("%q", s.CA.PEM()), "STRANGER", fmt.Sprintf("%q", certtest.CA(t, "stranger").PEM()),
	).Replace(`group: default
settings: {require_https: false, trusted_proxies: [127.0.0.0/8]}
ca-certificates: [{name: directory, certificates: DIRECTORYCA}, {name: stranger, certificates: STRANGER}]
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - {name: open, service: s, hosts: [open.test]}
  - {name: search, service: s, hosts: [search.test], policies: [{type: ldap-auth, config: {TLS, SEARCH}}}]}
  - {name: each, service: s, hosts: [each.test], policies: [{type: ldap-auth, config: {TLS, cache_ttl: 0s, SEARCH}}}]}
  - {name: bind, service: s, hosts: [bind.test], policies: [{type: ldap-auth, config: {STARTTLS, bind: {dn: 'uid={username},ou=people,dc=example,dc=test'}}}]}
  - {name: wrong, service: s, hosts: [wrong.test], policies: [{type: ldap-auth, config: {WRONGCA, SEARCH}}}]}
  - {name: mail, service: s, hosts: [mail.test], policies: [{type: ldap-auth, config: {TLS, consumer_optional: true, SEARCH, attribute: mail}}}]}
  - name: admins
    service: s
    hosts: [admins.test]
    policies:
      - {type: ldap-auth, config: {TLS, groups: {base_dn: 'ou=groups,dc=example,dc=test'}, SEARCH}}}
      - {type: acl, config: {allow: [admins]}}
consumers:
  - {name: c-alice, username: alice}
  - {name: c-bob, username: bob}
  - {name: twin, username: twins@example.test}
`)
}

// callers draws addresses from which nobody has guessed yet.
type ldapCaller struct {
	g  *harness.Gateway
	mu sync.Mutex
	n  int
}

func (c *ldapCaller) get(t *testing.T, host, user, password string) (int, time.Duration) {
	c.mu.Lock()
	c.n++
	from := fmt.Sprintf("198.51.%d.%d", c.n/250, c.n%250+1)
	c.mu.Unlock()
	headers := []string{"X-Forwarded-For", from}
	if password != "" {
		headers = append(headers, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	begun := time.Now()
	resp := c.g.Call(t, http.MethodGet, host, "/", nil, headers...)
	if resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s as %s: 401 without a challenge", host, user)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s as %s: 503 without Retry-After", host, user)
	}
	return resp.StatusCode, time.Since(begun)
}

func (c *ldapCaller) want(t *testing.T, host, user, password string, want int) {
	t.Helper()
	if got, _ := c.get(t, host, user, password); got != want {
		t.Errorf("%s as %s with %q: %d, want %d", host, user, password, got, want)
	}
}

// TestCallersOfADirectory has people of a real directory call, while it is there, down, slow and back.
func TestCallersOfADirectory(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	c := harness.New(t, harness.Options{})
	document := ldapDocument(t, s, harness.Echo(t), ldaptest.PeopleDN)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(document))
	caller := &ldapCaller{g: g}
	for _, tt := range []struct {
		host, user, password string
		want                 int
	}{
		{"search.test", "alice", "wonderland", 200},
		{"search.test", "ALICE", "wonderland", 200},
		{"search.test", "alice", "wrong", 401},
		{"search.test", "alice", "", 401},
		{"search.test", "nobody", "x", 401},
		{"search.test", "*", "wonderland", 401},
		{"search.test", "alice)(uid=*", "wonderland", 401},
		{"bind.test", "alice", "wonderland", 200},
		{"bind.test", "alice", "wrong", 401},
		{"bind.test", "alice,ou=people", "wonderland", 401},
		{"mail.test", "alice@example.test", "wonderland", 200},
		{"mail.test", "twins@example.test", "same", 401},
		{"admins.test", "alice", "wonderland", 200},
		{"admins.test", "bob", "builder", 403},
		{"wrong.test", "alice", "wonderland", 503},
		{"wrong.test", "alice", "", 401},
		{"open.test", "", "", 200},
	} {
		caller.want(t, tt.host, tt.user, tt.password, tt.want)
	}
	g.AwaitMetric(t, "keyward_gateway_ambiguous_directory_logins_total", 1)
	t.Run("guessing", func(t *testing.T) { testLdapGuessing(t, g) })
	t.Run("down", func(t *testing.T) { testLdapDown(t, s, caller) })
	t.Run("slow", func(t *testing.T) { testLdapSlow(t, s, caller) })
	t.Run("what is remembered outlives a push that changes nothing of it", func(t *testing.T) {
		caller.want(t, "search.test", "alice", "wonderland", 200)
		s.Stop()
		g.AwaitRevision(c.Apply(strings.ReplaceAll(document, "{name: c-bob, username: bob}", "{name: c-bob, username: bob, groups: [new]}")))
		caller.want(t, "search.test", "alice", "wonderland", 200)
		g.AwaitRevision(c.Prune(strings.ReplaceAll(document, "  - {name: c-alice, username: alice}\n", "")))
		caller.want(t, "search.test", "alice", "wonderland", 401)
		s.Restart()
	})
}

// testLdapGuessing guesses from one address.
func testLdapGuessing(t *testing.T, g *harness.Gateway) {
	guess := func(password, from string) int {
		token := base64.StdEncoding.EncodeToString([]byte("bob:" + password))
		return g.Call(t, http.MethodGet, "search.test", "/", nil, "X-Forwarded-For", from, "Authorization", "Basic "+token).StatusCode
	}
	statuses := map[int]int{}
	for i := range 40 {
		statuses[guess(fmt.Sprint("guess", i), "203.0.113.1")]++
	}
	if statuses[http.StatusTooManyRequests] < 25 || statuses[http.StatusUnauthorized] == 0 || statuses[401]+statuses[429] != 40 {
		t.Errorf("40 guesses: %v", statuses)
	}
	if code := guess("builder", "203.0.113.1"); code != http.StatusTooManyRequests {
		t.Errorf("the right one then: %d", code)
	}
	if code := guess("builder", "203.0.113.2"); code != http.StatusOK {
		t.Errorf("from elsewhere: %d", code)
	}
}

func testLdapDown(t *testing.T, s *ldaptest.Server, caller *ldapCaller) {
	caller.want(t, "search.test", "alice", "wonderland", 200)
	s.Stop()
	caller.want(t, "search.test", "alice", "wonderland", 200) // she is remembered
	caller.want(t, "search.test", "alice", "wrong", 503)      // nobody can know
	caller.want(t, "each.test", "alice", "wonderland", 503)
	caller.want(t, "each.test", "alice", "", 401)
	caller.want(t, "open.test", "", "", 200)
	s.Restart()
	awaitLdap(t, caller)
}

// awaitLdap waits until the gateway has noticed that the directory is back.
func awaitLdap(t *testing.T, caller *ldapCaller) {
	t.Helper()
	testkit.Await(t, testkit.Deadline, func() error {
		if code, _ := caller.get(t, "each.test", "alice", "wonderland"); code != http.StatusOK {
			return fmt.Errorf("the directory is back: %d", code)
		}
		return nil
	})
	caller.want(t, "each.test", "alice", "wrong", 401)
}

// testLdapSlow has many call at once while the directory hangs.
func testLdapSlow(t *testing.T, s *ldaptest.Server, caller *ldapCaller) {
	caller.want(t, "search.test", "alice", "wonderland", 200)
	s.Pause()
	defer s.Resume()
	var wg sync.WaitGroup
	for i := range 24 {
		host, user, password, want := "each.test", "alice", "wonderland", http.StatusServiceUnavailable
		switch i % 3 {
		case 1:
			host, want = "search.test", http.StatusOK
		case 2:
			host, user, password, want = "open.test", "", "", http.StatusOK
		}
		wg.Go(func() {
			for range 20 {
				code, took := caller.get(t, host, user, password)
				if code != want {
					t.Errorf("%s while the directory hangs: %d, want %d", host, code, want)
				}
				if took > ldapTimeout+2*time.Second { // what a busy machine adds
					t.Errorf("%s while the directory hangs: %s", host, took)
				}
			}
		})
	}
	wg.Wait()
	s.Resume()
	awaitLdap(t, caller)
}
