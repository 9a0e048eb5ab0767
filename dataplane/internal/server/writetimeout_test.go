package server_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

const (
	// impatience is how long a gateway of these tests waits for a client that takes nothing.
	impatience = time.Second
	// longer is what has to be more than that, also where a timer is late.
	longer = 2 * impatience
	// window is what an HTTP/2 client of these tests takes without being read from.
	window = 64 << 10
)

// slowly is an upstream for what takes longer than a client may.
func slowly(t *testing.T) *httptest.Server {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/silent":
			fmt.Fprint(w, "early")
			_ = http.NewResponseController(w).Flush()
			<-time.After(longer)
			fmt.Fprint(w, " late")
		case "/late":
			<-time.After(longer)
			fmt.Fprint(w, "late")
		case "/tail":
			fmt.Fprint(w, strings.Repeat("a", window), strings.Repeat("b", 1000))
		case "/endless":
			for block := make([]byte, 1<<20); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(up.Close)
	return up
}

// overProtocols runs a test over each engine of HTTP/1.1, and over HTTP/2.
func overProtocols(t *testing.T, test func(t *testing.T, g *gateway, client *http.Client)) {
	t.Helper()
	t.Parallel()
	for name, engine := range map[string]server.Engine{"HTTP/2": server.Keyward, "HTTP/1.1": server.Keyward, "net/http": server.NetHTTP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startWith(t, server.Config{
				Engine: engine, Timeouts: server.Timeouts{Write: impatience}, Certificates: certificates(t),
				Listeners: []server.Listener{{Name: "https", Address: "127.0.0.1:0", TLS: true}},
			})
			idle := func(path string, longest time.Duration) statetest.Record {
				timeouts := &configv1.RouteTimeouts{Idle: durationpb.New(longest), ResponseHead: durationpb.New(2 * longer)}
				return record("routes", "r"+path[1:], &configv1.Route{
					Name: "r" + path[1:], Service: "up", Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: path}}}, Timeouts: timeouts,
				})
			}
			g.config(settings(&configv1.Settings{}), record("services", "up", service(slowly(t).URL)), idle("/", 2*longer), idle("/late", impatience))
			protocols := new(http.Protocols)
			protocols.SetHTTP1(name != "HTTP/2")
			protocols.SetHTTP2(name == "HTTP/2")
			transport := &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols,
				HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: window},
			}
			t.Cleanup(transport.CloseIdleConnections)
			test(t, g, &http.Client{Transport: transport})
		})
	}
}

func (g *gateway) url(path string) string { return "https://" + g.address("https") + path }

// TestClientsMayBeLeftWaiting has upstreams that say nothing for longer than a client may take nothing: it is not the client's fault.
func TestClientsMayBeLeftWaiting(t *testing.T) {
	overProtocols(t, func(t *testing.T, g *gateway, client *http.Client) {
		for _, tt := range []struct{ name, method, path, body, want string }{
			{"in the middle of a response", http.MethodGet, "/silent", "", "early late"},
			{"in the middle of the response to a body", http.MethodPost, "/silent", "hello", "early late"},
			{"for the head", http.MethodGet, "/late", "", "late"},
			{"for the head after a body", http.MethodPost, "/late", "hello", "late"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				req, err := http.NewRequestWithContext(t.Context(), tt.method, g.url(tt.path), strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != tt.want {
					t.Errorf("answered %s %d %q, %v, want %q", resp.Proto, resp.StatusCode, body, err, tt.want)
				}
			})
		}
	})
}

// TestClientsThatTakeNothingAreCut does not read what it asks for.
func TestClientsThatTakeNothingAreCut(t *testing.T) {
	overProtocols(t, func(t *testing.T, g *gateway, client *http.Client) {
		resp, err := client.Get(g.url("/endless"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		select {
		case <-g.log.got:
		case <-time.After(30 * time.Second):
			t.Fatal("the exchange has not ended")
		}
		g.log.mu.Lock()
		defer g.log.mu.Unlock()
		if line := g.log.all[0]; !strings.Contains(line, "client_gone") {
			t.Errorf("logged %s, want client_gone", line)
		}
	})
}

// TestTheLastOfAResponseIsCutToo has an end that does not fit into the client's window any more. The gateway has no more to do
// with such a response but to send it.
func TestTheLastOfAResponseIsCutToo(t *testing.T) {
	overProtocols(t, func(t *testing.T, g *gateway, client *http.Client) {
		resp, err := client.Get(g.url("/tail"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		<-time.After(longer)
		body, err := io.ReadAll(resp.Body)
		if resp.ProtoMajor < 2 { // the system has taken it
			if err != nil || len(body) != window+1000 {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			return
		}
		if len(body) != window || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, %v, want %d and an error", len(body), err, window)
		}
	})
}
