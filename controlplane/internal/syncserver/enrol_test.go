package syncserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/pki/pkitest"
	"keyward.dev/controlplane/internal/registry/registrytest"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

func wantCode(t *testing.T, what string, err error, want codes.Code, text string) {
	t.Helper()
	if status.Code(err) != want || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%s = %v, want %v %q", what, err, want, text)
	}
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	token, key := w.token("a", 1, time.Hour), newKey(t)
	first, err := w.tryEnrol(key, token)
	if err != nil {
		t.Fatal(err)
	}
	if first.id.Group != "a" || first.id.TrustDomain != domain {
		t.Errorf("identity = %v", first.id)
	}
	again, err := w.tryEnrol(key, token)
	if err != nil || again.id != first.id {
		t.Errorf("enrolment with the same key = %v, %v, want %v", again, err, first.id)
	}
	foreign := newWorld(t, options{})
	defer foreign.stop()
	_, err = w.tryEnrol(newKey(t), foreign.token("a", 1, time.Hour))
	wantCode(t, "a foreign token", err, codes.Unauthenticated, "not valid")
	_, err = w.tryEnrol(newKey(t), w.token("a", 1, -time.Second))
	wantCode(t, "an expired token", err, codes.Unauthenticated, "expired")
	_, err = w.tryEnrol(newKey(t), "")
	wantCode(t, "no token", err, codes.Unauthenticated, "not valid")
	w.memory.SetDown(true)
	_, err = w.tryEnrol(newKey(t), token)
	wantCode(t, "a database that is down", err, codes.Unavailable, "")
}

func TestWrongPinIsNoticedBeforeTheTokenIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	conn := w.connect(mtls.EnrolTLS(mtls.Config{TrustDomain: domain}, mtls.SPKI{1}))
	_, err := syncv1.NewEnrolmentServiceClient(conn).Enrol(t.Context(), &syncv1.EnrolRequest{})
	wantCode(t, "Enrol with another pin", err, codes.Unavailable, "pinned root")
}

func TestOnlyGatewaysOfThisTrustDomainStream(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, options{}), newWorld(t, options{})
	defer w.stop()
	defer other.stop()
	stranger := other.enrol("a")
	stranger.w = w
	server, err := w.ca.ServerCertificate()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		tls  *tls.Config
		want codes.Code
	}{
		"no certificate":              {mtls.RenewTLS(w.config(nil)), codes.Unauthenticated},
		"gateway of another root":     {mtls.ClientTLS(w.config(stranger.cert)), codes.Unavailable},
		"a control plane as gateway":  {mtls.ClientTLS(w.config(server)), codes.Unavailable},
		"expired (clock of the test)": {mtls.ClientTLS(w.config(w.enrol("a").cert)), codes.OK},
	}
	for name, tt := range tests {
		client := syncv1.NewSyncServiceClient(w.connect(tt.tls))
		s, err := client.Config(t.Context())
		if err == nil {
			_ = s.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: &syncv1.Hello{}}})
			_, err = s.Recv()
		}
		wantCode(t, name, err, tt.want, "")
		if tt.want == codes.OK {
			continue
		}
		r, err := client.Report(t.Context())
		if err == nil {
			err = r.RecvMsg(&syncv1.ReportResponse{})
		}
		wantCode(t, name+", Report", err, tt.want, "")
	}
}

func TestRevokedGatewayIsCutWithinASecond(t *testing.T) {
	t.Parallel()
	memory, authorities := registrytest.New(), &pkitest.Authorities{}
	here := newWorld(t, options{memory: memory, authorities: authorities})
	there := newWorld(t, options{memory: memory, authorities: authorities, replica: "r2"})
	defer here.stop()
	defer there.stop()
	for name, on := range map[string]*world{"this replica": here, "another replica": there} {
		g := here.enrol("a")
		g.w = on
		s := g.stream(fanout.Position{})
		report, err := syncv1.NewSyncServiceClient(on.connect(mtls.ClientTLS(on.config(g.cert)))).Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		on.sources["a"].Put("u", "n", bytes.Repeat([]byte("x"), 8<<20)) // the sender blocks, for nobody reads
		began := time.Now()
		if _, err := here.registry.Revoke(t.Context(), "a", g.id.Gateway, "admin", "stolen"); err != nil {
			t.Fatal(err)
		}
		if err := there.revocations.Refresh(t.Context()); err != nil { // as a wake-up does
			t.Fatal(err)
		}
		wantCode(t, name, s.end(), codes.PermissionDenied, "revoked")
		wantCode(t, name+", Report", report.RecvMsg(&syncv1.ReportResponse{}), codes.PermissionDenied, "revoked")
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: cut after %s", name, took)
		}
		again, err := g.tryStream(fanout.Position{})
		if err == nil {
			err = again.end()
		}
		wantCode(t, name+", again", err, codes.PermissionDenied, "revoked")
		_, err = g.renew()
		wantCode(t, name+", renewal", err, codes.PermissionDenied, "revoked")
	}
}

func TestRenewalAfterExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	g := w.enrol("a")
	w.clock.move(10 * 24 * time.Hour)
	s, err := g.tryStream(fanout.Position{})
	if err == nil {
		err = s.end()
	}
	if err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a stream with an expired certificate = %v", err)
	}
	next, err := g.renew()
	if err != nil || next.id != g.id {
		t.Fatalf("renewal within grace = %v, %v", next, err)
	}
	w.sources["a"].Put("u", "n", []byte("x"))
	next.stream(fanout.Position{}).until(1)
	w.clock.move(40 * 24 * time.Hour)
	_, err = next.renew()
	wantCode(t, "renewal beyond grace", err, codes.FailedPrecondition, "join again")
}

// cluster attests everybody as a pod of group b.
type cluster struct{ err error }

func (c cluster) Attest(context.Context, attest.Evidence) (attest.Attested, error) {
	return attest.Attested{Group: "b", Attestor: "kubernetes", By: "edge/gateway"}, c.err
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cluster attest.Attestor
		want    codes.Code
	}{
		"trusted":       {cluster{}, codes.OK},
		"refused":       {cluster{attest.ErrRefused}, codes.Unauthenticated},
		"outage":        {cluster{attest.ErrUnavailable}, codes.Unavailable},
		"nothing there": {nil, codes.FailedPrecondition},
	} {
		w := newWorld(t, options{kubernetes: tt.cluster})
		conn := w.connect(mtls.EnrolTLS(mtls.Config{TrustDomain: domain}, w.ca.Trust().Pin))
		key := newKey(t)
		req := &syncv1.EnrolRequest{Csr: request(t, key), Attestation: &syncv1.EnrolRequest_ServiceAccountJwt{ServiceAccountJwt: "jwt"}}
		res, err := syncv1.NewEnrolmentServiceClient(conn).Enrol(t.Context(), req)
		wantCode(t, name, err, tt.want, "")
		if err == nil {
			if g := w.gateway(key, res.GetChain()); g.id.Group != "b" {
				t.Errorf("%s: group %s, want b", name, g.id.Group)
			}
		}
		w.stop()
	}
}

func TestBadEnrolmentRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	defer w.stop()
	client := syncv1.NewEnrolmentServiceClient(w.connect(mtls.EnrolTLS(mtls.Config{TrustDomain: domain}, w.ca.Trust().Pin)))
	good := request(t, newKey(t))
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprint(i)] = ""
	}
	for name, req := range map[string]*syncv1.EnrolRequest{
		"no request":     {},
		"junk request":   {Csr: []byte("junk")},
		"no attestation": {Csr: good},
		"many labels":    {Csr: good, Labels: many},
		"long label":     {Csr: good, Labels: map[string]string{"a": strings.Repeat("x", 1000)}},
	} {
		_, err := client.Enrol(t.Context(), req)
		wantCode(t, name, err, codes.InvalidArgument, "")
	}
	_, err := client.Renew(t.Context(), &syncv1.RenewRequest{Csr: good})
	wantCode(t, "renewal of nothing", err, codes.FailedPrecondition, "")
}
