package resilience_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/testkit"
)

// authorities is what `keyward ca list` says.
type authorities struct {
	Authorities []struct{ ID, Kind, State, Pin string }
	Pin         string
	Connected   int
	Unaware     []string
	Former      *struct {
		Holders    []string
		JoinTokens int `json:"join_tokens"`
	}
}

func authoritiesOf(c *harness.Cluster) authorities {
	c.T.Helper()
	var a authorities
	if err := json.Unmarshal([]byte(c.MustCLI("", "ca", "list", "-o", "json")), &a); err != nil {
		c.T.Fatal(err)
	}
	return a
}

// current is the id of the authority of a kind that issues.
func (a authorities) current(kind string) string {
	for _, one := range a.Authorities {
		if one.Kind == kind && one.State == "current" {
			return one.ID
		}
	}
	return ""
}

// awaitIssuer waits until so many gateways have a certificate of the intermediate that issues now.
func awaitIssuer(c *harness.Cluster, n int) {
	c.T.Helper()
	issuer := authoritiesOf(c).current("intermediate")
	testkit.Await(c.T, 60*time.Second, func() error {
		got := c.Rows(`select count(*) from gateways where issuer = '` + issuer + `'`)[0][0]
		if got != fmt.Sprint(n) {
			return fmt.Errorf("%s gateways have a certificate of the new intermediate, want %d", got, n)
		}
		return nil
	})
}

// retire retires the root before as soon as no good certificate hangs on it, and trusts the new one alone.
func retire(c *harness.Cluster) {
	c.T.Helper()
	testkit.Await(c.T, 60*time.Second, func() error {
		out := c.CLI("", "ca", "rotate", "root", "retire")
		switch {
		case out.Code == 0:
			return nil
		case out.Code != 4 || !strings.Contains(out.Stderr, "still good"):
			c.T.Fatalf("retire: exit %d %s", out.Code, out.Stderr)
		}
		return errors.New(out.Stderr)
	})
	c.TakeTrustBundle()
}

// trustedBy are the pins of the roots that a gateway has kept.
func trustedBy(t *testing.T, identityDir string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(identityDir, "identity.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var pins []string
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, mtls.SPKIOf(root).String())
	}
	return pins
}

// TestCertificateAuthoritiesRotateUnderTraffic is the drill: intermediate and root are replaced under live gateways, with one
// that is away meanwhile, and a replica is killed between the steps.
func TestCertificateAuthoritiesRotateUnderTraffic(t *testing.T) {
	rate := 200
	if harness.Full() {
		rate = 1000
	}
	c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{"--certificate-ttl", "20s"}})
	revision := c.Apply(fmt.Sprintf(rolloutDocument, harness.Nginx(t), loadKey))
	dir := t.TempDir()
	identity := func(name string) string { return filepath.Join(dir, name) }
	var live []*harness.Gateway
	for _, name := range []string{"one", "two"} {
		g := c.StartGateway("default", "--identity-dir", identity(name))
		g.AwaitRevision(revision)
		live = append(live, g)
	}
	away := c.StartGateway("default", "--identity-dir", identity("away"))
	away.Stop(20 * time.Second)
	oldToken := c.JoinToken("default", 2)
	oldPin := authoritiesOf(c).Pin

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var result load.Result
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: load.NewTargets(live[0].HTTP, live[1].HTTP), Rate: rate, Connections: 32, Timeout: 10 * time.Second,
			Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\nX-API-Key: " + loadKey + "\r\n\r\n"),
		})
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer stop()

	c.MustCLI("", "ca", "rotate", "intermediate")
	awaitIssuer(c, 2)

	c.MustCLI("", "ca", "rotate", "root", "prepare")
	c.Replicas[0].Kill()
	testkit.Await(t, 30*time.Second, func() error {
		if a := authoritiesOf(c); a.Connected != 2 || len(a.Unaware) > 0 {
			return fmt.Errorf("%d gateways are connected, %v do not know the root", a.Connected, a.Unaware)
		}
		return nil
	})
	c.Join(c.JoinToken("default", 1)) // never comes back
	c.MustCLI("", "ca", "rotate", "root", "activate")
	if out := c.CLI("", "ca", "rotate", "root", "retire"); out.Code != 4 || !strings.Contains(out.Stderr, "still good") {
		t.Errorf("retiring under good certificates: exit %d %s", out.Code, out.Stderr)
	}
	c.Replicas[0].Start()
	c.Replicas[0].AwaitReady()
	c.Replicas[1].Kill() // whose chain the gateways know

	after := authoritiesOf(c) // with the old root alone
	if after.Pin == oldPin || after.Former == nil || after.Former.JoinTokens != 1 {
		t.Errorf("after activating: pin %s, former %+v, want another pin and 1 join token", after.Pin, after.Former)
	}
	away.Start()
	away.AwaitReady()
	serves(t, "after being away", away)
	late := c.NewGateway(oldToken, "--identity-dir", identity("late"))
	late.Start()
	late.AwaitReady()
	serves(t, "joined with a token of the old root", late)
	c.Replicas[1].Start()
	c.Replicas[1].AwaitReady()
	awaitIssuer(c, 4)
	c.TakeTrustBundle()
	retire(c)

	everyone := append(slices.Clone(live), away, late)
	for i, name := range []string{"one", "two", "away", "late"} {
		testkit.Await(t, 30*time.Second, func() error {
			if got := trustedBy(t, identity(name)); !slices.Equal(got, []string{after.Pin}) {
				return fmt.Errorf("gateway %s trusts %v, want %s alone", name, got, after.Pin)
			}
			return nil
		})
		out := string(everyone[i].Output())
		for _, refused := range []string{"Unauthenticated", "PermissionDenied", "tls: ", "verify control plane", "joining anew", "bundle was refused"} {
			if strings.Contains(out, refused) {
				t.Errorf("gateway %s was refused:\n%s", name, firstWith(out, refused))
			}
		}
	}
	if _, err := c.Enrol(oldPin, harness.NewKey(t), &syncv1.EnrolRequest{Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: oldToken}}); err == nil {
		t.Error("a gateway joins by the pin of the retired root")
	}
	added := c.StartGateway("default")
	revision = c.Apply(withConsumer("after", "After7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	for _, g := range append(everyone, added) {
		g.AwaitRevision(revision)
	}
	stop()
	t.Logf("%d requests, p99 %v", result.Sent, result.P99)
	if result.Failed > 0 || result.OK != result.Sent || result.Sent == 0 {
		t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}

	for _, r := range c.Replicas {
		r.Stop(20 * time.Second)
	}
	for _, g := range everyone {
		g.Stop(20 * time.Second)
	}
	for _, r := range c.Replicas {
		r.Start()
		r.AwaitReady()
	}
	for _, g := range everyone {
		g.Start()
		g.AwaitReady()
		converges(t, c, g, 20*time.Second)
		serves(t, "after everything was restarted", g)
	}
	for _, a := range authoritiesOf(c).Authorities {
		if a.Pin == oldPin || a.Kind == "root" && a.State != "current" {
			t.Errorf("at the end there is %+v", a)
		}
	}
	trail := c.MustCLI("", "--group", "system", "audit", "list")
	for _, action := range []string{"authority.rotate-intermediate", "authority.prepare-root", "authority.activate-root", "authority.retire-root"} {
		if !strings.Contains(trail, action) {
			t.Errorf("the audit trail does not know of %s", action)
		}
	}
	healthy(t, c)
}

// firstWith is the first line with the text.
func firstWith(out, text string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// TestAGatewayOfTheReleaseBeforeLivesThroughARotatedRoot is of one that cannot say that it knows the root: activating has to be
// forced, and it takes nothing from it.
func TestAGatewayOfTheReleaseBeforeLivesThroughARotatedRoot(t *testing.T) {
	t.Parallel()
	old := previous(t)
	c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{"--certificate-ttl", "10s"}})
	c.Apply(baseDocument(t))
	c.Programs = old
	g := c.StartGateway("default", "--identity-dir", t.TempDir())
	c.Programs = harness.Release{}
	c.MustCLI("", "ca", "rotate", "root", "prepare")
	if out := c.CLI("", "ca", "rotate", "root", "activate"); out.Code != 4 || !strings.Contains(out.Stderr, "1 of 1 connected gateways") {
		t.Errorf("activating: exit %d %s", out.Code, out.Stderr)
	}
	c.MustCLI("", "ca", "rotate", "root", "activate", "--force")
	follows(t, c, g, "activated")
	awaitIssuer(c, 1)
	c.TakeTrustBundle()
	retire(c)
	follows(t, c, g, "retired")
	if said := string(g.Output()); strings.Contains(said, "no connection to the control plane") || strings.Contains(said, "level=error") {
		t.Error("the gateway lost its stream, or something went wrong")
	}
	g.Stop(20 * time.Second)
	g.Start()
	g.AwaitReady()
	follows(t, c, g, "restart")
	noFaults(t, c)
}
