package scenario_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestShortCertificatesAreRenewedWithoutAStreamDropping runs a gateway over several lives of its certificate.
func TestShortCertificatesAreRenewedWithoutAStreamDropping(t *testing.T) {
	t.Parallel()
	ttl, duration := "10s", 25*time.Second
	if os.Getenv("KEYWARD_FULL") != "" {
		ttl, duration = "30s", 3*time.Minute
	}
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--certificate-ttl", ttl}})
	c.Apply(withUpstream(harness.Nginx(t)))
	g := c.StartGateway("default")
	var expiries []time.Time
	end := time.Now().Add(duration)
	testkit.Await(t, duration+20*time.Second, func() error {
		if code, body := g.Get(t, "open.test", "/"); code != http.StatusOK {
			t.Fatalf("a request during the renewals: %d %s", code, body)
		}
		info := c.Gateways("default")[0]
		if info.State != "online" {
			t.Fatalf("the gateway is %s: its stream dropped", info.State)
		}
		if n := len(expiries); n == 0 || !info.CertificateExpires.Equal(expiries[n-1]) {
			expiries = append(expiries, info.CertificateExpires)
		}
		if time.Now().Before(end) {
			return fmt.Errorf("not over yet")
		}
		return nil
	})
	if len(expiries) < 4 {
		t.Errorf("only %d certificates in %v: %v", len(expiries), duration, expiries)
	}
	if n := strings.Count(string(g.Output()), "no connection to the control plane"); n > 0 {
		t.Errorf("the stream ended %d times", n)
	}
	if n := len(c.Gateways("default")); n != 1 {
		t.Errorf("renewing made %d gateways", n)
	}
	revision := c.Apply(strings.ReplaceAll(withUpstream("127.0.0.1:9"), "hello.test", "after.test"))
	g.AwaitRevision(revision)
}

// TestExpiredCertificatesRenewWithinGraceOnly stops a gateway until its certificate is over, and asks for another one of a
// control plane that has little patience, and of one that has the usual.
func TestExpiredCertificatesRenewWithinGraceOnly(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--certificate-ttl", "10s"}})
	revision := c.Apply(withUpstream("127.0.0.1:9"))
	g := c.StartGateway("default", "--identity-dir", t.TempDir())
	g.AwaitRevision(revision)
	id := c.Gateways("default")[0].ID
	late := c.StartGateway("default", "--identity-dir", t.TempDir())
	raw := c.Join(c.JoinToken("default", 1))
	g.Stop(10 * time.Second)
	late.Stop(10 * time.Second)
	r := c.Replicas[0]
	c.Restart(r, "KEYWARD_RENEW_GRACE=1s")
	r.AwaitReady()
	for _, info := range c.Gateways("default") {
		awaitPast(t, info.CertificateExpires.Add(1100*time.Millisecond))
	}

	conn, _ := c.Dial(raw)
	stream := c.OpenStream(conn)
	<-stream.Done
	if len(stream.Messages()) > 0 {
		t.Error("an expired certificate opened a stream")
	}
	_, err := c.Renew(raw)
	wantStatus(t, "renewal beyond grace", err, codes.FailedPrecondition, "renew")
	late.Start()
	late.AwaitOutput(10*time.Second, "cannot be renewed")
	if _, err := late.NotReady(); err != nil {
		t.Error(err)
	}
	late.Kill()

	c.Restart(r)
	r.AwaitReady()
	renewed, err := c.Renew(raw)
	if err != nil || renewed.ID(t) != raw.ID(t) {
		t.Errorf("renewal within grace: %v", err)
	}
	g.Start()
	g.AwaitReady()
	g.AwaitRevision(revision)
	infos := c.Gateways("default")
	for _, info := range infos {
		if info.ID == id && info.State != "online" {
			t.Errorf("the gateway that renewed is %s", info.State)
		}
	}
	if len(infos) != 3 {
		t.Errorf("there are %d gateways, want the three that enrolled", len(infos))
	}
}

func awaitPast(t *testing.T, at time.Time) {
	t.Helper()
	testkit.Await(t, max(0, time.Until(at))+5*time.Second, func() error {
		if time.Now().Before(at) {
			return fmt.Errorf("%v is not past", at)
		}
		return nil
	})
}
