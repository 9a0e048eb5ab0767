package server_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/testkit"
)

// elsewhere is authentication by something that is not configured, such as a token: it knows a consumer and no credential.
type elsewhere struct{}

func (elsewhere) Request(x *exchange.Exchange) policy.Verdict {
	x.Principal = x.Directory.Consumer(exchange.ConsumerByUsername, []byte("al"))
	return policy.Next
}

// TestStreamsDoNotOutliveTheirConsumer removes the consumer beneath a stream whose caller has no credential here.
func TestStreamsDoNotOutliveTheirConsumer(t *testing.T) { overEngines(t, testConsumerGone) }

func testConsumerGone(t *testing.T, e server.Engine) {
	t.Parallel()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(endless.Close)
	g := start(t, e)
	factories := policies.All()
	for i := range factories {
		if factories[i].Type == "key-auth" {
			factories[i].Build = func(proto.Message, policy.Deps) (policy.Policy, error) { return elsewhere{}, nil }
		}
	}
	g.compiler = compile.New(compile.Deps{
		Factories: factories, Host: hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler), Group: "default",
	})
	r := route()
	r.Policies = []*configv1.Binding{binding("key-auth", &policyv1.KeyAuth{})}
	without := slices.Clip(append([]statetest.Record(nil),
		settings(&configv1.Settings{}), record("services", "up", service(endless.URL)), record("routes", "r", r)))
	alice := record("consumers", "alice", &configv1.Consumer{Name: "alice", Username: "al"})
	g.config(append(without, alice)...)

	c := dial(t, g.address("http"))
	c.send("GET /" + keepAlive + "\r\n")
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("the answer is %v, %v", resp, err)
	}
	defer resp.Body.Close()
	testkit.Await(t, 10*time.Second, func() error {
		if g.server.Active() == 0 {
			return errors.New("no stream yet")
		}
		return nil
	})
	g.config(append(without, alice, record("consumers", "bob", &configv1.Consumer{Name: "bob"}))...) // nothing to it
	g.config(without...)
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the response ends in order after %q", text)
	}
	<-g.log.got
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if line := g.log.all[0]; !strings.Contains(line, "consumer_gone") {
		t.Errorf("log line is %s", line)
	}
}
