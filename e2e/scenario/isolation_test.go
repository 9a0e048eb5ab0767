package scenario_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/e2e/harness"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/testkit"
)

// tenant is a document whose every name and value tells whose it is.
const tenant = `group: GROUP
settings: {require_https: false, description: GROUP-settings}
services:
  - {name: GROUP-service, url: "http://GROUP.internal:1234/GROUP-path", labels: {owner: GROUP-label}}
routes:
  - name: GROUP-route
    service: GROUP-service
    hosts: [GROUP.test]
    paths: [/GROUP-way]
    policies:
      - {type: key-auth}
      - {type: acl, config: {allow: [GROUP-gold]}}
consumers:
  - name: GROUP-consumer
    groups: [GROUP-gold]
    credentials: [{name: GROUP-credential, type: key-auth, config: {key: "GROUP-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"}}]
consumer-groups:
  - {name: GROUP-gold, policies: [{type: rate-limit, config: {windows: [{limit: 5, window: 60s}]}}]}
`

func tenantOf(group string) string { return strings.ReplaceAll(tenant, "GROUP", group) }

// TestGatewayReceivesNothingOfAnotherGroup reads the stream of one group's gateway, byte by byte, while another group of
// the same control plane is written, and looks for anything that belongs to the other.
func TestGatewayReceivesNothingOfAnotherGroup(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.CreateGroup("aurora")
	c.CreateGroup("borealis")
	c.Apply(tenantOf("borealis"))
	c.Apply(tenantOf("aurora"))
	a, b := c.Join(c.JoinToken("aurora", 1)), c.Join(c.JoinToken("borealis", 1))
	connA, bytesA := c.Dial(a)
	connB, bytesB := c.Dial(b)
	streamA, streamB := c.OpenStream(connA), c.OpenStream(connB)

	revisionB := c.Apply(strings.ReplaceAll(tenantOf("borealis"), "/borealis-way", "/borealis-newway"))
	revisionA := c.Apply(strings.ReplaceAll(tenantOf("aurora"), "/aurora-way", "/aurora-newway"))
	testkit.Await(t, testkit.Deadline, func() error {
		if streamA.Revision() < revisionA || streamB.Revision() < revisionB {
			return fmt.Errorf("streams are at %d and %d, want %d and %d", streamA.Revision(), streamB.Revision(), revisionA, revisionB)
		}
		return nil
	})
	for _, probe := range []struct {
		bytes       *harness.Received
		own, others string
	}{{bytesA, "aurora", "borealis"}, {bytesB, "borealis", "aurora"}} {
		if !probe.bytes.Contains(probe.own + "-newway") {
			t.Errorf("the stream of %s does not show its own route: this test sees nothing", probe.own)
		}
		if probe.bytes.Contains(probe.others) {
			t.Errorf("the gateway of %s received something that names %s", probe.own, probe.others)
		}
		rows := c.Rows(fmt.Sprintf(`select r.uid, g.uid from resources r join groups g on g.uid = r.group_uid where g.name = '%s'`, probe.others))
		if len(rows) < 6 {
			t.Fatalf("%s has only %d rows", probe.others, len(rows))
		}
		for _, row := range rows {
			for _, uid := range row {
				if probe.bytes.Contains(uid) {
					t.Errorf("the gateway of %s received uid %s of %s", probe.own, uid, probe.others)
				}
			}
		}
	}
}

// TestIdentityCountsForItsGroupOnly tries to use what one group gave in another.
func TestIdentityCountsForItsGroupOnly(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.CreateGroup("aurora")
	c.CreateGroup("borealis")
	token := c.JoinToken("aurora", 5)
	_, err := c.Enrol(harness.Pin(token), harness.NewKey(t), &syncv1.EnrolRequest{
		Group: "borealis", Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: token},
	})
	wantStatus(t, "enrol into borealis with the token of aurora", err, codes.Unauthenticated, "another group")

	a, b := c.Join(token), c.Join(c.JoinToken("borealis", 1))
	if id := a.ID(t); id.Group != "aurora" {
		t.Fatalf("enrolled as %v", id)
	}
	t.Run("a stolen certificate does not renew without its key", func(t *testing.T) {
		stolen := &harness.Identity{Key: a.Key, Chain: b.Chain, Roots: b.Roots}
		_, err := c.Renew(stolen)
		wantStatus(t, "renew", err, codes.FailedPrecondition, "")
	})
	t.Run("renewal keeps group and id", func(t *testing.T) {
		next, err := c.Renew(a)
		if err == nil && next.ID(t) != a.ID(t) {
			t.Errorf("renewed as %v, was %v", next.ID(t), a.ID(t))
		}
	})
	t.Run("a stolen certificate does not connect without its key", func(t *testing.T) {
		conn, _ := c.Dial(&harness.Identity{Key: a.Key, Chain: b.Chain, Roots: b.Roots})
		stream := c.OpenStream(conn)
		<-stream.Done
		if len(stream.Messages()) > 0 {
			t.Error("a stream was served")
		}
	})
	t.Run("a caller without a certificate has no stream", func(t *testing.T) {
		conn, _ := c.Dial(&harness.Identity{Key: a.Key, Roots: a.Roots})
		stream := c.OpenStream(conn)
		<-stream.Done
		_, err := stream.Err()
		if code := status.Code(err); len(stream.Messages()) > 0 || (code != codes.Unauthenticated && code != codes.PermissionDenied) {
			t.Errorf("the stream ended with %v after %d messages", err, len(stream.Messages()))
		}
	})
	t.Run("the admin API does not take a gateway's certificate", func(t *testing.T) {
		key, err := c.AdminGetWithCertificate(t.Context(), tls.Certificate{Certificate: a.Chain, PrivateKey: a.Key}, "/v1/groups/aurora/routes")
		if err != nil || key != http.StatusUnauthorized {
			t.Errorf("answered %d, %v", key, err)
		}
	})
}

// TestRevokedGatewayIsCutOffWithinASecond measures it, and holds that nothing brings the gateway back.
func TestRevokedGatewayIsCutOffWithinASecond(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(withUpstream("127.0.0.1:9"))
	id := c.Join(c.JoinToken("default", 1))
	conn, received := c.Dial(id)
	stream := c.OpenStream(conn)
	testkit.Await(t, testkit.Deadline, func() error {
		if stream.Revision() == 0 {
			return fmt.Errorf("no commit yet")
		}
		return nil
	})
	// The revocation arrives at the replica that does not have the stream.
	c.UseReplica(1)
	name := id.ID(t).Gateway
	begun := time.Now()
	if a := c.REST(http.MethodPost, "/v1/groups/default/gateways/"+name+":revoke", `{reason: lost}`); a.Status != http.StatusOK {
		t.Fatalf("revoke: %d %s", a.Status, a.Body)
	}
	revoked := time.Now()
	select {
	case <-stream.Done:
	case <-time.After(5 * time.Second):
		t.Fatal("the stream of a revoked gateway still lives after 5 s")
	}
	ended, err := stream.Err()
	wantStatus(t, "the stream", err, codes.PermissionDenied, "revoked")
	t.Logf("cut %v after the answer, %v after the request", ended.Sub(revoked), ended.Sub(begun))
	if took := ended.Sub(revoked); took > time.Second {
		t.Errorf("the stream was cut after %v, want within 1 s", took)
	}
	before := received.Len()
	for i := range c.Replicas {
		c.UseReplica(i)
		conn, _ := c.Dial(id)
		again := c.OpenStream(conn)
		<-again.Done
		_, err := again.Err()
		wantStatus(t, fmt.Sprintf("stream on replica %d", i), err, codes.PermissionDenied, "revoked")
		if len(again.Messages()) > 0 {
			t.Errorf("replica %d sent %d messages to a revoked gateway", i, len(again.Messages()))
		}
		_, err = c.Renew(id)
		if err == nil {
			t.Errorf("replica %d renewed a revoked certificate", i)
		}
		_, err = c.Enrol(harness.Pin(c.JoinToken("default", 1)), id.Key, &syncv1.EnrolRequest{
			Attestation: &syncv1.EnrolRequest_JoinToken{JoinToken: c.JoinToken("default", 1)},
		})
		if err == nil {
			t.Errorf("replica %d enrolled the key of a revoked gateway again", i)
		}
	}
	c.UseReplica(0)
	c.Apply(strings.ReplaceAll(withUpstream("127.0.0.1:9"), "hello.test", "later.test"))
	if received.Contains("later.test") || received.Len() > before+1024 {
		t.Error("a revoked gateway received more configuration")
	}
	var shown struct{ State string }
	a := c.REST(http.MethodGet, "/v1/groups/default/gateways/"+name, "")
	if err := a.JSON(&shown); err != nil || shown.State != "revoked" {
		t.Errorf("the gateway is shown as %s", a.Body)
	}
}

// TestRevokedGatewayProcessStaysOut does the same to a real gateway: it must not go back to work after a restart.
func TestRevokedGatewayProcessStaysOut(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(withUpstream("127.0.0.1:9"))
	g := c.StartGateway("default", "--identity-dir", t.TempDir())
	id := c.Gateways("default")[0].ID
	c.MustCLI("", "gateways", "revoke", id, "--reason", "lost")
	g.AwaitOutput(10*time.Second, "revoked")
	g.Kill()
	g.Start()
	g.AwaitOutput(10*time.Second, "revoked")
	if why, err := g.NotReady(); err != nil {
		t.Errorf("a revoked gateway is ready after a restart (%s)", why)
	}
}

func wantStatus(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || (err != nil && !strings.Contains(err.Error(), text)) {
		t.Errorf("%s: %v, want %v %q", what, err, code, text)
	}
}
