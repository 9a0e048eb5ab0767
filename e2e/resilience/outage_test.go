package resilience_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

func baseDocument(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf(rolloutDocument, harness.Nginx(t), loadKey)
}

// serves holds that a gateway enforces the base document.
func serves(t *testing.T, when string, g *harness.Gateway) {
	t.Helper()
	for key, want := range map[string]int{loadKey: http.StatusOK, "wrong": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != want {
			t.Errorf("%s: key %q: %d %s, want %d", when, key, code, body, want)
		}
	}
}

// withConsumer adds a consumer to the base document's group.
func withConsumer(name, key string) string {
	return fmt.Sprintf("group: default\nconsumers:\n  - name: %s\n    groups: [gold]\n    credentials: [{name: k, type: key-auth, config: {key: %q}}]\n", name, key)
}

// TestDatabaseOutageStopsWritesOnly takes PostgreSQL away and brings it back.
func TestDatabaseOutageStopsWritesOnly(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	viewer := c.AdminToken("viewer", "default", "viewer")
	reads := []string{"/v1/groups/default/routes", "/v1/groups/default/routes/hello", "/v1/groups/default:export", "/v1/whoami"}
	for _, path := range reads {
		if a := c.RESTAs(viewer, http.MethodGet, path, ""); a.Status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, a.Status, a.Body)
		}
	}
	lost := strings.Count(string(g.Output()), "no connection to the control plane")

	c.StopDatabase()
	begun := time.Now()
	a := c.REST(http.MethodPost, "/v1/groups/default:apply", withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("a write without a database: %d %v %s, want 503 with Retry-After", a.Status, a.Header, a.Body)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the write was answered after %v", took)
	}
	// A token that this replica has never seen may have been made by another one just before: it cannot be judged.
	unknown := "kwa_AAAAAAAAAAAA_" + strings.Repeat("A", 32)
	for token, want := range map[string]int{c.Token: http.StatusOK, viewer: http.StatusOK, unknown: http.StatusServiceUnavailable, "": http.StatusUnauthorized} {
		for _, path := range reads {
			if a := c.RESTAs(token, http.MethodGet, path, ""); a.Status != want {
				t.Errorf("GET %s without a database: %d %s, want %d", path, a.Status, a.Body, want)
			}
		}
	}
	if a := c.RESTAs(viewer, http.MethodDelete, "/v1/groups/default/routes/hello", ""); a.Status != http.StatusForbidden {
		t.Errorf("a viewer writes without a database: %d, want 403", a.Status)
	}
	serves(t, "without a database", g)
	if !c.Replicas[0].Running() || strings.Count(string(g.Output()), "no connection to the control plane") != lost {
		t.Error("the replica ended, or the gateway had to connect again")
	}

	c.StartDatabase()
	testkit.Await(t, 20*time.Second, func() error {
		a := c.REST(http.MethodPost, "/v1/groups/default:apply", withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
		if a.Status != http.StatusOK {
			return fmt.Errorf("a write with the database back: %d %s", a.Status, a.Body)
		}
		return nil
	})
	testkit.Await(t, 10*time.Second, func() error {
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"); code != http.StatusOK {
			return fmt.Errorf("the new key: %d %s", code, body)
		}
		return nil
	})
	if out, ok := c.CheckDB(); !ok {
		t.Errorf("check-db after the outage: %s", out)
	}
}

// TestGatewaysServeWithoutAControlPlane kills it whole.
func TestGatewaysServeWithoutAControlPlane(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	token := c.JoinToken("default", 5)
	g := c.StartGateway("default")
	waiting := c.NewGateway(token)
	for _, r := range c.Replicas {
		r.Kill()
	}
	serves(t, "without a control plane", g)
	waiting.Start()
	testkit.Await(t, 10*time.Second, func() error {
		why, err := waiting.NotReady()
		if err == nil && !strings.Contains(why, "not ready") {
			err = fmt.Errorf("its status port does not answer: %s", why)
		}
		return err
	})
	if code, _ := waiting.Get(t, "hello.test", "/", "X-API-Key", loadKey); code != http.StatusServiceUnavailable {
		t.Errorf("a gateway that has never had a configuration answers %d, want 503", code)
	}
	for _, r := range c.Replicas {
		r.Start()
	}
	for _, r := range c.Replicas {
		r.AwaitReady()
	}
	waiting.AwaitReady()
	serves(t, "the gateway that waited", waiting)
	revision := c.Apply(withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	for _, each := range []*harness.Gateway{g, waiting} {
		each.AwaitRevision(revision)
	}
}

// TestAnotherKEKOpensNothing restarts the control plane with a key that is not the one.
func TestAnotherKEKOpensNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	r := c.Replicas[0]
	c.Restart(r, "KEYWARD_KEK="+harness.NewKEK())
	r.AwaitOutput(20*time.Second, "key-encryption key")
	if why, err := r.NotReady(); err != nil || !strings.Contains(why, "waiting for a key") || !r.Running() {
		t.Errorf("with another key-encryption key: running %t, not ready because %q, %v", r.Running(), why, err)
	}
	if a, err := c.TryREST(r, http.MethodGet, "/v1/groups/default/routes"); err == nil && a.Status < 400 {
		t.Errorf("it serves: %d %s", a.Status, a.Body)
	}
	serves(t, "with a control plane that cannot open anything", g)
	out, ok := c.CheckDBWith("KEYWARD_KEK=" + harness.NewKEK())
	if ok || !strings.Contains(out, "(missing): 2 keyrings: default, system") {
		t.Errorf("check-db with another key-encryption key: ok = %t, %s", ok, out)
	}
	c.Restart(r)
	r.AwaitReady()
	if strings.Contains(string(r.Output()), "panic") {
		t.Errorf("the replica that waited did not end in order: %s", r.Output())
	}
	revision := c.Apply(withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	g.AwaitRevision(revision)
}

// TestAFrozenDatabaseIsNotWaitedFor lets nothing through to or from PostgreSQL, whose connections stay.
func TestAFrozenDatabaseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{DatabaseLink: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	c.Database.Stall()
	for _, tt := range []struct {
		name, method, path, body string
		want                     int
		within                   time.Duration
	}{
		{"a read", http.MethodGet, "/v1/groups/default/routes/hello", "", http.StatusOK, 3 * time.Second},
		{"another read", http.MethodGet, "/v1/groups/default:export", "", http.StatusOK, 3 * time.Second},
		{"a write", http.MethodPost, "/v1/groups/default:apply", twoParts(1), http.StatusServiceUnavailable, 12 * time.Second},
	} {
		begun := time.Now()
		a := c.REST(tt.method, tt.path, tt.body)
		took := time.Since(begun)
		t.Logf("%s: %d after %v", tt.name, a.Status, took)
		if a.Status != tt.want || took > tt.within {
			t.Errorf("%s with a frozen database: %d %s after %v, want %d within %v", tt.name, a.Status, a.Body, took, tt.want, tt.within)
		}
	}
	serves(t, "with a frozen database", g)
	c.Database.Heal()
	awaitWrites(t, c, 2)
	converges(t, c, g, 20*time.Second)
	healthy(t, c)
}
