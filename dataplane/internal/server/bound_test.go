package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// boundKeys are a route on a.test that takes keys in the query, one on open.test that takes none, and alice with the key "free"
// and the key "tied", which is bound to certificates.
func boundKeys(t *testing.T, to ...string) []statetest.Record {
	t.Helper()
	pepper := make([]byte, 32)
	term, err := directory.NewTerm(1, pepper)
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string, to ...string) statetest.Record {
		hash := term.Hash([]byte(name))
		cfg, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{
			Set: true, Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: 1, Hash: hash[:]}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return record("credentials", "alice/"+name, &configv1.Credential{Name: name, Consumer: "alice", Type: "key-auth", Config: cfg, BoundCertificate: to})
	}
	return []statetest.Record{
		record("pepper-terms", "1", &systemv1.PepperTerm{Term: 1, Key: pepper}),
		record("routes", "keys", &configv1.Route{
			Name: "keys", Service: "up", Hosts: []string{"a.test"}, Upgrade: []string{"websocket"},
			Policies: []*configv1.Binding{binding("key-auth", &policyv1.KeyAuth{Query: []string{"key"}})},
		}),
		hostRoute("open", "/", nil, "open.test"),
		record("consumers", "alice", &configv1.Consumer{Name: "alice"}), key("free"), key("tied", to...),
	}
}

// held is a certificate of a client's in the store, under a name.
func held(name string, current *tls.Certificate, next ...*tls.Certificate) statetest.Record {
	m := &configv1.Certificate{Name: name, Current: &configv1.CertificateVersion{Chain: certtest.Block("CERTIFICATE", current.Leaf.Raw)}}
	for _, n := range next {
		m.Next = &configv1.CertificateVersion{Chain: certtest.Block("CERTIFICATE", n.Leaf.Raw)}
	}
	return record(certs.Kind, name, m)
}

// TestBoundKeysCountWithTheirCertificate presents keys over connections of all sorts.
func TestBoundKeysCountWithTheirCertificate(t *testing.T) { overEngines(t, testBoundKeys) }

func testBoundKeys(t *testing.T, e server.Engine) {
	p := newPartners(t)
	g := start(t, e, https(), server.Listener{Name: "http", Address: "127.0.0.1:0"})
	g.everywhere(echo(t).URL, append(boundKeys(t, "laptop"), held("laptop", p.clients["other CA"], p.clients["valid"]))...)
	for _, tt := range []struct{ name, sni, host, key, who, want string }{
		{"its certificate", "a.test", "a.test", "tied", "other CA", "200"},
		{"the next one", "a.test", "a.test", "tied", "valid", "200"},
		{"another", "a.test", "a.test", "tied", "allow-listed", "401"},
		{"none", "a.test", "a.test", "tied", "none", "401"},
		{"no name", "", "a.test", "tied", "valid", "200"},
		{"from an open name", "open.test", "a.test", "tied", "valid", "421"},
		{"a free key", "a.test", "a.test", "free", "none", "200"},
		{"an open name", "open.test", "open.test", "", "none", "200"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				t.Parallel()
				if got := g.visit(&visit{sni: tt.sni, host: tt.host, path: "/?key=" + tt.key, cert: p.clients[tt.who], h2: h2}); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
	tied, body := get(t, g.address("http"), "/?key=tied", "Host", "a.test")
	if tied.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "The API key is not valid.") {
		t.Errorf("without TLS: %d %s", tied.StatusCode, body)
	}
	<-g.log.got
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if !slices.ContainsFunc(g.log.all, func(line string) bool { return strings.Contains(line, `"code":"certificate_not_bound"`) }) {
		t.Errorf("the access log does not say why: %s", g.log.all)
	}
}

// TestABoundKeyFollowsItsCertificate renews the certificate and binds the key to others beneath one connection.
func TestABoundKeyFollowsItsCertificate(t *testing.T) { overEngines(t, testBoundFollows) }

func testBoundFollows(t *testing.T, e server.Engine) {
	p, url := newPartners(t), echo(t).URL
	mine, other := p.clients["valid"], p.clients["other CA"]
	g := start(t, e, https())
	g.everywhere(url, append(boundKeys(t, "laptop"), held("laptop", mine))...)
	v := visit{sni: "a.test", host: "a.test", cert: mine}
	c, err := g.shake(v.config())
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		is   []statetest.Record
		want int
	}{
		{append(boundKeys(t, "laptop"), held("laptop", mine)), 200},
		{append(boundKeys(t, "laptop"), held("laptop", other, mine)), 200},
		{append(boundKeys(t, "laptop"), held("laptop", other)), 401},
		{append(boundKeys(t, "laptop", "desk"), held("laptop", other), held("desk", mine)), 200},
		{append(boundKeys(t, "laptop"), held("laptop", other), held("desk", mine)), 401},
		{append(boundKeys(t), held("laptop", other)), 200},
		{boundKeys(t, certs.ID(mine.Leaf.Raw)), 200},
	} {
		g.everywhere(url, tt.is...)
		if resp, err := ask(t, c, "a.test", "/?key=tied"); err != nil || resp.StatusCode != tt.want {
			t.Errorf("%d: answered %v, %v, want %d", i, resp, err, tt.want)
		}
	}
}

// TestStreamsDoNotOutliveTheirBinding binds a key anew beneath a stream and a tunnel; what holds on leaves them alone.
func TestStreamsDoNotOutliveTheirBinding(t *testing.T) { overEngines(t, testBoundStreams) }

func testBoundStreams(t *testing.T, e server.Engine) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, strings.Repeat("x", 1024))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(endless.Close)
	p := newPartners(t)
	mine, other := p.clients["valid"], p.clients["other CA"]
	before := append(boundKeys(t, "laptop"), held("laptop", mine))
	still := append(boundKeys(t, "desk", "laptop"), held("laptop", other, mine), held("desk", other))
	after := append(boundKeys(t, "laptop"), held("laptop", other))
	free := append(boundKeys(t), held("laptop", mine))
	v := visit{sni: "a.test", host: "a.test", path: "/?key=tied", cert: mine}
	for name, begin := range map[string][]statetest.Record{"bound": before, "free at first": free} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2=%v", name, h2), func(t *testing.T) {
				t.Parallel()
				g := start(t, e, https())
				g.everywhere(endless.URL, begin...)
				v := v
				v.h2 = h2
				c, err := g.shake(v.config())
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { _, err := g.request(c, &v); ended <- err }()
				testkit.Await(t, 10*time.Second, func() error {
					if g.server.Active() == 0 {
						return errors.New("no stream yet")
					}
					return nil
				})
				if name == "bound" {
					g.everywhere(endless.URL, still...)
					select {
					case <-ended:
						t.Fatal("the stream is cut although the client has a certificate of the key")
					case <-time.After(600 * time.Millisecond): // twice as long as between two looks
					}
				}
				g.everywhere(endless.URL, after...)
				<-ended
				<-g.log.got
				g.log.cutFor(t, "client_certificate")
			})
		}
	}
	t.Run("a tunnel", func(t *testing.T) {
		t.Parallel()
		g := start(t, e, https())
		g.everywhere(switching(t).URL, before...)
		c, err := g.shake(v.config())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /?key=tied HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("answered %v, %v, want 101", resp, err)
		}
		g.everywhere(switching(t).URL, after...)
		_, _ = io.Copy(io.Discard, c)
		<-g.log.got
		g.log.cutFor(t, "client_certificate")
	})
}

// cutFor looks at what the first line says of the end.
func (l *lines) cutFor(t *testing.T, why string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.all[0]; !strings.Contains(line, why) {
		t.Errorf("log line is %s, want it cut for %s", line, why)
	}
}
