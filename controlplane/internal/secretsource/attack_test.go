package secretsource_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/testkit/certtest"
)

// server is a tenant's, over TLS, with its authority.
func server(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *configv1.CaCertificate) {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	return s, &configv1.CaCertificate{Name: "place", Certificates: certtest.Block("CERTIFICATE", s.Certificate().Raw)}
}

// placed is a provider of Vault at an address.
func placed(address string) *configv1.SecretProvider {
	return made(&configv1.SecretProvider{Vault: &configv1.VaultProvider{
		Address: address, Mount: "kv", KvVersion: 1, Token: plain("CANARY-token-of-the-tenant"), Ca: []string{"place"},
	}})
}

// TestNothingLeadsToTheControlPlanesSurroundings has providers at what must not be reached. This control plane lets providers
// be nowhere but at public addresses.
func TestNothingLeadsToTheControlPlanesSurroundings(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	inner, ca := server(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	_, port, err := net.SplitHostPort(strings.TrimPrefix(inner.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "127.1.2.3",
		"169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "100.100.100.200", "168.63.129.16", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
		"10.96.0.1", "192.168.1.1", "172.17.0.1", "[fe80::1]",
	} {
		r := w.replicaAllowing(t, nil) // which has told nothing yet
		p := placed("https://" + host + ":" + port)
		if err := r.apply(t, "g", ca, p, elsewhere("{vault://place/web#pem}")); err != nil {
			continue // refused already
		}
		w.pass(time.Minute)
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if log := w.logged(); !strings.Contains(log, "address denied") {
			t.Errorf("%s: %s", host, log)
		}
		w.forget()
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("a server on this machine was asked %d times", n)
	}
}

// logged is what was warned of since forget.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.Reset()
}

// TestWhatATenantsServerAnswersIsBoundedAndNotRepeated asks servers that mean harm. Nothing of what they say is in the log, and
// no value is kept.
func TestWhatATenantsServerAnswersIsBoundedAndNotRepeated(t *testing.T) {
	t.Parallel()
	var inside atomic.Int64
	inner, _ := server(t, func(http.ResponseWriter, *http.Request) { inside.Add(1) })
	var done sync.WaitGroup
	t.Cleanup(done.Wait)
	say := func(status int, format string, args ...any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, format, args...)
		}
	}
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{"you sent " + r.Header.Get("X-Vault-Token")}})
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"a redirect inside": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inner.URL, http.StatusTemporaryRedirect)
		},
		"a redirect to metadata": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusMovedPermanently)
		},
		"a redirect with an answer": say(http.StatusTemporaryRedirect, `{"data": {"pem": "x"}}`),
		"a huge answer":             say(http.StatusOK, `{"data": {"pem": %q}}`, strings.Repeat("x", 4<<20)),
		"a value that is too long":  say(http.StatusOK, `{"data": {"pem": %q}}`, strings.Repeat("x", 300<<10)),
		"a slow answer": func(w http.ResponseWriter, r *http.Request) {
			done.Add(1)
			defer done.Done()
			_, _ = fmt.Fprint(w, `{"data": {"pem": "`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"deep nesting":          say(http.StatusOK, `{"data": %s`, strings.Repeat("[", 500_000)),
		"no JSON":               say(http.StatusOK, "CANARY-of-the-server"),
		"nothing":               say(http.StatusNoContent, ""),
		"an echo, forbidden":    echo(http.StatusForbidden),
		"an echo, rejected":     echo(http.StatusBadRequest),
		"an echo, failed":       echo(http.StatusInternalServerError),
		"an echo, missing":      echo(http.StatusNotFound),
		"an echo, sealed":       say(http.StatusServiceUnavailable, `{"errors": ["sealed CANARY-of-the-server"]}`),
		"a file as value":       say(http.StatusOK, `{"data": {"pem": "/etc/passwd"}}`),
		"a reference as value":  say(http.StatusOK, `{"data": {"pem": "{file://mounted/web.pem}"}}`),
		"another kind of value": say(http.StatusOK, `{"data": {"pem": {"CANARY-of-the-server": 1}}}`),
		"no HTTP": func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %s CANARY-of-the-server\r\n\r\n", r.Header.Get("X-Vault-Token"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ca := server(t, handler)
			w := newWorld(t)
			r := w.replicaWith(t)
			p := placed(s.URL)
			if err := r.apply(t, "g", ca, p, elsewhere("{vault://place/web#pem}")); err != nil {
				t.Fatal(err)
			}
			if err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, record := w.state(t); record != nil {
				t.Errorf("%v is kept", record.GetReference())
			}
			log := w.logged()
			if strings.Contains(log, "CANARY") || !strings.Contains(log, "secret reference could not be resolved") {
				t.Errorf("the log repeats what it was told, or says nothing:\n%.2000s", log)
			}
		})
	}
	t.Cleanup(func() {
		if inside.Load() > 0 {
			t.Error("a redirect was followed")
		}
	})
}

// TestProvidersAreThoseOfTheGroup has a group refer to what another one made, and to what only the operator may set up.
func TestProvidersAreThoseOfTheGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	if err := r.apply(t, "g", placedWithoutCA("https://v.test")); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		"{vault://place/web#pem}", "{file://mounted/web.pem}", "{file://place/web.pem}", "{env://place/HOME}",
	} {
		if err := r.apply(t, "other", elsewhere(ref)); err == nil || !strings.Contains(err.Error(), "unknown provider") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	mine := placedWithoutCA("https://v.test")
	mine.Name = "mounted" // which the operator gives group g
	if err := r.apply(t, "g", mine); err == nil || !strings.Contains(err.Error(), "take another name") {
		t.Errorf("the operator's name: %v", err)
	}
	if err := r.apply(t, "other", proto.CloneOf(mine)); err != nil {
		t.Errorf("the name of what is for others only: %v", err)
	}
}

func placedWithoutCA(address string) *configv1.SecretProvider {
	p := placed(address)
	p.Vault.Ca = nil
	return p
}

// TestASlowTenantDoesNotKeepOthersWaiting has one with many providers that never answer.
func TestASlowTenantDoesNotKeepOthersWaiting(t *testing.T) {
	t.Parallel()
	slow, ca := server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w := newWorld(t)
	want, _ := w.mount(t)
	r := w.replica(t)
	ms := []proto.Message{ca}
	for n := range 40 {
		p := placed(slow.URL)
		p.Name = fmt.Sprint("slow-", n)
		c := elsewhere("{vault://" + p.GetName() + "/web#pem}")
		c.Name, c.Snis = p.GetName(), nil
		ms = append(ms, p, c)
	}
	if err := r.apply(t, "other", ms...); err != nil {
		t.Fatal(err)
	}
	if err := r.put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	ran := make(chan error, 1)
	go func() { ran <- r.Run(t.Context()) }()
	group, err := r.groups.Group(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	_, cursor := group.Subscribe()
	if _, record := w.state(t); id(record) != want {
		if _, err := cursor.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ran:
		t.Error("what the operator's provider gives was there only when the tenant's had been waited for")
	default:
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it was waited for %s", took)
	}
}
