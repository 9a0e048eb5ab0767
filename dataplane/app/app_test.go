package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/app"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/syncclient"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

// fakeSource plays the control plane's part: every set it is sent is applied at once.
type fakeSource struct {
	deps app.SourceDeps
	sets chan *state.Set
	acks chan []syncclient.Fault
}

func (f *fakeSource) Status() syncclient.Status { return syncclient.Status{Connected: true} }

func (f *fakeSource) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-f.sets:
			f.acks <- f.deps.Apply(ctx, s)
		}
	}
}

// buffer is a writer that may be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type gateway struct {
	t      *testing.T
	source *fakeSource
	log    *buffer
	http   string
	status string
	stop   context.CancelFunc
	done   chan error
}

func start(t *testing.T, change ...func(*app.Settings)) *gateway {
	t.Helper()
	g := &gateway{t: t, source: &fakeSource{sets: make(chan *state.Set), acks: make(chan []syncclient.Fault)}, log: &buffer{}, done: make(chan error, 1)}
	s := app.Settings{Listen: []string{"http=127.0.0.1:0"}, StatusListen: "127.0.0.1:0", DrainTimeout: 2 * time.Second, AccessLog: "stdout", Group: "default"}
	for _, c := range change {
		c(&s)
	}
	gw, err := app.New(t.Context(), s, g.log, slog.New(slog.DiscardHandler), func(d app.SourceDeps) (app.Source, error) {
		g.source.deps = d
		return g.source, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g.http, g.status = gw.Addresses()["http"], gw.Addresses()["status"]
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g.stop = cancel
	go func() { g.done <- gw.Run(ctx) }()
	t.Cleanup(func() { cancel(); g.end() })
	return g
}

func (g *gateway) end() {
	if g.done == nil {
		return
	}
	if err := <-g.done; err != nil {
		g.t.Errorf("Run() = %v", err)
	}
	g.done = nil
}

func (g *gateway) apply(records ...statetest.Record) []syncclient.Fault {
	g.t.Helper()
	g.source.sets <- statetest.Set(g.t, records...)
	return <-g.source.acks
}

func (g *gateway) get(address, path, host, key string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+address+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Host = host
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

// group is a small group: /, guarded by a key and the group gold.
func group(t *testing.T, url string) []statetest.Record {
	t.Helper()
	key := bytes.Repeat([]byte{7}, 32)
	term, err := directory.NewTerm(1, key)
	if err != nil {
		t.Fatal(err)
	}
	records := []statetest.Record{
		{Kind: "pepper-terms", UID: "p", Name: "1", Resource: &systemv1.PepperTerm{Term: 1, Key: key}},
		{Kind: "settings", UID: "set", Name: "settings", Resource: &configv1.Settings{RequireHttps: new(false)}},
		{Kind: "services", UID: "svc", Name: "hello", Resource: &configv1.Service{Name: "hello", Url: url}},
		{Kind: "routes", UID: "r", Name: "hello", Resource: &configv1.Route{
			Name: "hello", Service: "hello", Hosts: []string{"hello.test"},
			Policies: []*configv1.Binding{
				{Type: "key-auth", Config: packed(&policyv1.KeyAuth{})},
				{Type: "acl", Config: packed(&policyv1.Acl{Allow: []string{"gold"}})},
			},
		}},
	}
	for _, c := range []struct{ name, group string }{{"alice", "gold"}, {"bob", "silver"}} {
		hash := term.Hash([]byte(c.name + "-key"))
		config := packed(&credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: 1, Hash: hash[:]}}, Set: true}})
		records = append(records,
			statetest.Record{Kind: "consumers", UID: c.name, Name: c.name, Resource: &configv1.Consumer{Name: c.name, Groups: []string{c.group}}},
			statetest.Record{Kind: "credentials", UID: "k-" + c.name, Name: c.name + "/k", Resource: &configv1.Credential{Name: "k", Consumer: c.name, Type: "key-auth", Config: config}})
	}
	return records
}

func TestGateway(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello "+r.Header.Get("X-Api-Key"))
	}))
	defer up.Close()
	g := start(t)
	want := func(wantStatus int, address, path, host, key string) string {
		t.Helper()
		got, body := g.get(address, path, host, key)
		if got != wantStatus {
			t.Errorf("GET %s of %s with key %q is answered %d, want %d: %s", path, host, key, got, wantStatus, body)
		}
		return body
	}
	want(503, g.http, "/", "hello.test", "")
	want(503, g.status, "/readyz", "", "")
	want(200, g.status, "/livez", "", "")

	if faults := g.apply(group(t, up.URL)...); len(faults) > 0 {
		t.Fatalf("faults: %v", faults)
	}
	want(200, g.status, "/readyz", "", "")
	want(401, g.http, "/", "hello.test", "")
	want(401, g.http, "/", "hello.test", "nobody-key")
	want(403, g.http, "/", "hello.test", "bob-key")
	want(404, g.http, "/", "other.test", "alice-key")
	if body := want(200, g.http, "/", "hello.test", "alice-key"); body != "hello " {
		t.Errorf("upstream answered %q: it must not see the key", body)
	}

	records := group(t, up.URL)
	records[2].Resource = nil
	if faults := g.apply(records...); len(faults) != 1 || faults[0].Name != "hello" {
		t.Errorf("faults are %v, want the service", faults)
	}
	want(503, g.http, "/", "hello.test", "alice-key")

	metrics := want(200, g.status, "/metrics", "", "")
	for _, line := range []string{"keyward_gateway_config_revision 1", "keyward_gateway_config_faults 1", `keyward_gateway_request_duration_seconds_count{class="2xx",route="hello"} 1`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %q", line)
		}
	}
	var report struct {
		Revision int64
		Faults   []struct{ Kind, Name string }
	}
	if err := json.Unmarshal([]byte(want(200, g.status, "/status", "", "")), &report); err != nil || report.Revision != 1 || len(report.Faults) != 1 {
		t.Errorf("status is %+v, %v", report, err)
	}
	g.stop()
	g.end()
	if log := g.log.String(); strings.Count(log, "\n") < 7 || !strings.Contains(log, `"consumer":"alice"`) || strings.Contains(log, "-key") {
		t.Errorf("access log is\n%s", log)
	}
}

// Requests never see anything but one runtime or the next, however fast they change.
func TestNoRequestFailsWhileConfigurationChanges(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer up.Close()
	g := start(t)
	g.apply(group(t, up.URL)...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body := g.get(g.http, "/", "hello.test", "alice-key"); status != 200 {
					t.Errorf("answer %d: %s", status, body)
					return
				}
			}
		})
	}
	for i := range 100 {
		records := group(t, up.URL)
		records[3].Resource.(*configv1.Route).Description = strings.Repeat("x", i)
		g.apply(records...)
	}
	close(stop)
	wg.Wait()
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	s := app.Settings{Listen: []string{"https=127.0.0.1:1", "ftp=1:1", "http"}, StatusListen: "x", Labels: []string{"a"}, RootSPKI: "zz", TLSCert: "x", DrainTimeout: -1, SealedCache: "x"}
	err := s.Check()
	if err == nil {
		t.Fatal("Check() = nil")
	}
	for _, want := range []string{"control-plane", "tls-cert", "ftp", `"http"`, `"x"`, "label", "root-spki", "drain-timeout", "needs --identity-dir", "max-cache-age"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Check() does not name %s:\n%v", want, err)
		}
	}
}
