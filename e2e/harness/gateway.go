package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// Gateway is one data-plane process.
type Gateway struct {
	*Process
	HTTP, Status string // host:port
}

// Status is what a gateway's status port says of its configuration.
type Status struct {
	Epoch    uint64 `json:"epoch,string"`
	Revision int64  `json:"revision"`
	Digest   string `json:"digest"`
	// Source is control-plane, sealed-cache or fallback-bundle.
	Source       string `json:"source"`
	ControlPlane struct {
		Connected   bool   `json:"connected"`
		LostSeconds *int64 `json:"lost_seconds"`
	} `json:"control_plane"`
	SealedCache struct {
		AgeSeconds  *int64 `json:"age_seconds"`
		Refused     string `json:"refused"`
		WriteFailed bool   `json:"write_failed"`
	} `json:"sealed_cache"`
	Bundle struct {
		AgeSeconds *int64 `json:"age_seconds"`
		Refused    string `json:"refused"`
	} `json:"fallback_bundle"`
}

// StartGateway starts a gateway of a group, by a join token of its own, and waits until it is ready.
func (c *Cluster) StartGateway(group string, args ...string) *Gateway {
	c.T.Helper()
	g := c.NewGateway(c.JoinToken(group, 1), args...)
	g.Start()
	g.AwaitReady()
	return g
}

// NewGateway describes a gateway that joins with a token.
func (c *Cluster) NewGateway(joinToken string, args ...string) *Gateway {
	c.T.Helper()
	return c.NewGatewayEnv([]string{"KEYWARD_JOIN_TOKEN=" + joinToken}, args...)
}

// NewGatewayFrom describes a gateway of a group that knows no other address of the control plane, be it a link's.
func (c *Cluster) NewGatewayFrom(controlPlane, group string, args ...string) *Gateway {
	c.T.Helper()
	return c.gatewayFrom(controlPlane, []string{"KEYWARD_JOIN_TOKEN=" + c.JoinToken(group, 1)}, args)
}

// NewGatewayEnv describes a gateway that joins with whatever env and args say.
func (c *Cluster) NewGatewayEnv(env []string, args ...string) *Gateway {
	c.T.Helper()
	return c.gatewayFrom(c.SyncAddrs(), env, args)
}

func (c *Cluster) gatewayFrom(controlPlane string, env, args []string) *Gateway {
	c.T.Helper()
	addrs := testkit.Addrs(c.T, 2)
	g := &Gateway{HTTP: addrs[0], Status: addrs[1]}
	c.gatewayAt(g, controlPlane, env, args)
	return g
}

// gatewayAt describes a gateway at the addresses that it has.
func (c *Cluster) gatewayAt(g *Gateway, controlPlane string, env, args []string) {
	c.T.Helper()
	args = append([]string{
		"--control-plane", controlPlane, "--listen", "http=" + g.HTTP, "--status-listen", g.Status, "--log-level", "debug",
		"--access-log", "off",
	}, args...)
	g.Process = NewProcess(c.T, "gateway "+g.HTTP, c.Programs.program(c.T, "keyward-dataplane"), env, args...)
}

// AwaitReady waits until the gateway is ready.
func (g *Gateway) AwaitReady() {
	g.t.Helper()
	g.AwaitReadyWithin(startUp)
}

// AwaitReadyWithin is AwaitReady for a gateway whose first configuration is so large that it takes longer.
func (g *Gateway) AwaitReadyWithin(limit time.Duration) {
	g.t.Helper()
	g.await(limit, func() error { return readiness(g.Status) })
}

// State asks what the gateway enforces.
func (g *Gateway) State() (Status, error) {
	resp, err := http.Get("http://" + g.Status + "/status") //nolint:noctx // a test's own server on loopback
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	var s Status
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// Answers says whether the gateway's status port answers at all.
func (g *Gateway) Answers() error {
	_, err := g.State()
	return err
}

// NotReady answers why the gateway is not ready, and an error if it is.
func (g *Gateway) NotReady() (string, error) { return notReady(g.Status) }

func notReady(addr string) (string, error) {
	err := readiness(addr)
	if err == nil {
		return "", errors.New("it is ready")
	}
	return err.Error(), nil
}

// AwaitOutput waits until the process has written the text.
func (p *Process) AwaitOutput(within time.Duration, text string) {
	p.t.Helper()
	testkit.Await(p.t, within, func() error {
		if !bytes.Contains(p.Output(), []byte(text)) {
			return fmt.Errorf("%s has not written %q, but\n%s", p.name, text, tail(p.Output(), 1500))
		}
		return nil
	})
}

// AwaitRevision waits until the gateway enforces at least the revision.
func (g *Gateway) AwaitRevision(revision int64) {
	g.t.Helper()
	g.await(20*time.Second, func() error {
		s, err := g.State()
		if err == nil && s.Revision < revision {
			err = fmt.Errorf("at revision %d, want %d", s.Revision, revision)
		}
		return err
	})
}

// Get sends a GET to the gateway and returns the status and the body. Headers are name, value, name, value…
func (g *Gateway) Get(t testing.TB, host, path string, headers ...string) (int, string) {
	t.Helper()
	return g.Do(t, http.MethodGet, host, path, headers...)
}

// Do sends a request without a body.
func (g *Gateway) Do(t testing.TB, method, host, path string, headers ...string) (int, string) {
	t.Helper()
	return g.Send(t, method, host, path, nil, headers...)
}

// Send sends a request and returns the status and the body of the answer. A body of a type that net/http does not know the
// length of is sent in chunks.
func (g *Gateway) Send(t testing.TB, method, host, path string, body io.Reader, headers ...string) (int, string) {
	t.Helper()
	resp := g.Call(t, method, host, path, body, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Call sends a request and returns the answer, whose body is in memory.
func (g *Gateway) Call(t testing.TB, method, host, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.HTTP+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s%s through %s: %v", method, host, path, g.HTTP, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}
