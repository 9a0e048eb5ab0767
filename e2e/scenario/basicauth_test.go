package scenario_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

const basicPassword = "correct horse battery"

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestBasicAuth applies the example of the page.
func TestBasicAuth(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	doc := strings.ReplaceAll(example(t, "basic-auth"), "127.0.0.1:9000", harness.Echo(t)) + "\n"
	c.Apply("group: default\nsettings: {require_https: false}\n")
	revision := c.Apply(doc)
	g.AwaitRevision(revision)
	if again := c.Apply(doc); again != revision {
		t.Errorf("the same document again makes revision %d of %d", again, revision)
	}
	for _, tt := range []struct {
		name, user, password string
		want                 int
	}{
		{"a password that was set", "alice", basicPassword, 200},
		{"the same again", "alice", basicPassword, 200},
		{"a hash that was imported", "bob", basicPassword, 200},
		{"a wrong password", "alice", basicPassword + "!", 401},
		{"a user who does not exist", "carol", basicPassword, 401},
	} {
		code, body := g.Get(t, "reports.test", "/", "Authorization", basic(tt.user, tt.password))
		if code != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, code, body, tt.want)
		}
		if code == http.StatusOK && harness.ReadEcho(t, body).Header.Get("Authorization") != "" {
			t.Errorf("%s: the upstream sees it: %s", tt.name, body)
		}
	}
	if resp := g.Call(t, http.MethodGet, "reports.test", "/", nil); resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Basic realm="reports", charset="UTF-8"` {
		t.Errorf("without anything: %d %v", resp.StatusCode, resp.Header)
	}
	answer := c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials/laptop", "")
	if answer.Status != http.StatusOK || strings.Contains(string(answer.Body), "horse") || strings.Contains(string(answer.Body), "pbkdf2") {
		t.Errorf("read back: %d %s", answer.Status, answer.Body)
	}
	for _, table := range c.Tables() {
		if strings.Contains(string(table), basicPassword) || strings.Contains(string(table), "pbkdf2-sha256") {
			t.Error("a password or its hash is in the database in the clear")
		}
	}
	g.AwaitRevision(c.Apply(strings.ReplaceAll(doc, basicPassword, "another staple")))
	if code, _ := g.Get(t, "reports.test", "/", "Authorization", basic("alice", basicPassword)); code != 401 {
		t.Errorf("the old password, which was remembered: %d", code)
	}
	if code, _ := g.Get(t, "reports.test", "/", "Authorization", basic("alice", "another staple")); code != 200 {
		t.Errorf("the new password: %d", code)
	}
}

func attackedDocument(upstream, more string) string {
	return fmt.Sprintf(`group: default
settings: {require_https: false, trusted_proxies: [127.0.0.0/8]}
services: [{name: s, url: "http://%s"}]
routes:
  - {name: logins, service: s, hosts: [logins.test], policies: [{type: basic-auth}]}
  - {name: keys, service: s, hosts: [keys.test], policies: [{type: key-auth}]}
%sconsumers:
  - name: alice
    credentials:
      - {name: password, type: basic-auth, config: {username: alice, password: %q}}
      - {name: key, type: key-auth, config: {key: %s}}
`, upstream, more, basicPassword, goldKey)
}

// TestGuessingLeavesOthersAlone attacks one route at full rate with wrong passwords and users who do not exist, from one address
// and from very many. The other route goes on, a push keeps what was counted, and she whose password is guessed is not locked out.
func TestGuessingLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	upstream := harness.Echo(t)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(attackedDocument(upstream, "")))
	a := attack{g: g, statuses: map[int]int{}}
	stop := a.start(t.Context(), t)
	testkit.Await(t, 3*time.Minute, func() error { return a.refused(100) }) // six hashes first, which others may keep the processors from

	for i := range 300 {
		if code, body := g.Get(t, "keys.test", "/", "X-API-Key", goldKey); code != http.StatusOK {
			t.Fatalf("request %d of another route during the attack: %d %s", i, code, body)
		}
	}
	more := "  - {name: more, service: s, hosts: [more.test]}\n"
	g.AwaitRevision(c.Apply(attackedDocument(upstream, more)))
	if code, body := g.Get(t, "logins.test", "/", "Authorization", basic("alice", basicPassword), "X-Forwarded-For", attacker); code != http.StatusTooManyRequests {
		t.Errorf("the attacker's address after a push, with the right password: %d %s", code, body)
	}
	testkit.Await(t, 3*time.Minute, func() error {
		code, body := g.Get(t, "logins.test", "/", "Authorization", basic("alice", basicPassword), "X-Forwarded-For", "203.0.113.7")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	stop()
	for status, n := range a.statuses {
		if status != 401 && status != 429 && status != 503 {
			t.Errorf("%d guesses were answered %d", n, status)
		}
	}
}

// attacker is an address that guesses at one user.
const attacker = "198.51.100.66"

// attack guesses at full rate, never the same twice: that would be one guess for all who make it at once, whoever is the first.
type attack struct {
	g        *harness.Gateway
	next     atomic.Int64
	mu       sync.Mutex // guards statuses
	statuses map[int]int
}

// start begins the attack; the function it returns ends it.
func (a *attack) start(ctx context.Context, t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				n := int(a.next.Add(1))
				user, from := fmt.Sprint("nobody", n), fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
				switch worker % 4 {
				case 0: // one address, one user
					user, from = "alice", attacker
				case 1: // one address, many users
					from = "198.51.100.77"
				case 2: // many addresses, one user
					user = "alice"
				}
				a.guess(ctx, t, basic(user, fmt.Sprint("wrong", n)), from)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (a *attack) guess(ctx context.Context, t *testing.T, login, from string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.g.HTTP+"/", nil)
	if err != nil {
		t.Error(err)
		return
	}
	req.Host = "logins.test"
	req.Header.Set("Authorization", login)
	req.Header.Set("X-Forwarded-For", from)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("guess: %v", err)
		}
		return
	}
	_ = resp.Body.Close()
	a.mu.Lock()
	a.statuses[resp.StatusCode]++
	a.mu.Unlock()
}

// refused reports whether so many guesses were refused without a hash, and at least one by one.
func (a *attack) refused(least int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.statuses[401] == 0 || a.statuses[429] < least {
		return errors.New(fmt.Sprint("answers so far: ", a.statuses))
	}
	return nil
}
