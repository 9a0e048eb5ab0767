package syncserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/testkit"
)

// nextOther folds until there is one more message that is no part of a change set.
func (s *stream) nextOther() *syncv1.ConfigResponse {
	s.t.Helper()
	for have := len(s.other); len(s.other) == have; {
		if err := s.next(); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.other[len(s.other)-1]
}

func TestTrustBundlesArePushedAndAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{authorities: &pkitest.Authorities{}})
	defer w.stop()
	g := w.enrol("a")
	s := g.stream(fanout.Position{})
	if got := s.nextOther().GetTrustBundle(); len(got.GetRoots()) != 1 {
		t.Errorf("first bundle has %d roots", len(got.GetRoots()))
	}
	if err := w.ca.PrepareRoot(t.Context(), pki.Order{Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	roots := s.nextOther().GetTrustBundle().GetRoots()
	if len(roots) != 2 {
		t.Errorf("second bundle has %d roots, want 2", len(roots))
	}
	digest := mtls.BundleDigest(roots)
	say := func(d []byte) {
		s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Trusted{Trusted: &syncv1.Trusted{Digest: d}}})
	}
	say([]byte("short"))
	say(digest[:])
	testkit.Await(t, 10*time.Second, func() error {
		connected, not, err := w.registry.Trusting(t.Context(), "a", digest)
		if err == nil && (len(connected) != 1 || len(not) > 0) {
			err = fmt.Errorf("%v of %v have not taken over the bundle", not, connected)
		}
		return err
	})
	if _, not, err := w.registry.Trusting(t.Context(), "a", mtls.BundleDigest(roots[:1])); err != nil || len(not) != 1 {
		t.Errorf("%v do not trust another bundle, %v", not, err)
	}
}

// TestStreamsUnderARetiredRootHaveToEnd is of a gateway that still has only a certificate of the root that is retired; another
// one has come back with a new one.
func TestStreamsUnderARetiredRootHaveToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{authorities: &pkitest.Authorities{}})
	defer w.stop()
	old := w.enrol("a")
	s := old.stream(fanout.Position{})
	s.nextOther()
	for _, step := range []func(context.Context, pki.Order) error{w.ca.PrepareRoot, w.ca.ActivateRoot} {
		if err := step(t.Context(), pki.Order{Actor: "alice"}); err != nil {
			t.Fatal(err)
		}
	}
	fresh := w.enrol("a")
	newer := fresh.stream(fanout.Position{})
	if got := newer.nextOther().GetTrustBundle(); len(got.GetRoots()) != 2 {
		t.Errorf("a new gateway gets %d roots, want 2", len(got.GetRoots()))
	}
	if err := w.ca.RetireRoot(t.Context(), pki.Order{Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	if got := newer.nextOther().GetTrustBundle(); len(got.GetRoots()) != 1 {
		t.Errorf("the new gateway keeps %d roots, want 1", len(got.GetRoots()))
	}
	for s.nextOther().GetDrain() == nil { // it is asked to leave
	}
	csr := &syncv1.CertificateRequest{Csr: request(t, newKey(t))}
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_CertificateRequest{CertificateRequest: csr}})
	said := [32]byte{1}
	s.send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Trusted{Trusted: &syncv1.Trusted{Digest: said[:]}}})
	testkit.Await(t, 10*time.Second, func() error { // then the request is there, too, and its answer comes before the changes
		_, not, err := w.registry.Trusting(t.Context(), "a", said)
		if err == nil && len(not) != 1 {
			err = fmt.Errorf("%v have not said so", not)
		}
		return err
	})
	w.sources["a"].Put("ua", "n", []byte("of a"))
	w.sources["a"].Put("ub", "n", []byte("of a"))
	for before := s.at.Revision; s.at.Revision < before+2; {
		if err := s.next(); err != nil {
			t.Fatal(err)
		}
	}
	if s.other[len(s.other)-1].GetCertificate() != nil {
		t.Error("a stream under a retired root gets a certificate of the new one")
	}
	if s, err := old.tryStream(fanout.Position{}); err == nil {
		if err := s.next(); err == nil {
			t.Error("a stream was opened under a retired root")
		}
	}
	if err := fresh.stream(fanout.Position{}).next(); err != nil {
		t.Errorf("the new gateway cannot come back: %v", err)
	}
}
