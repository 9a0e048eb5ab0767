package issuance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/acmetest"
)

func isIssued(m *systemv1.IssuedCertificate) bool { return m.GetCertificate() != nil }

func id(m *systemv1.IssuedCertificate) string { return certs.VersionID(m.GetCertificate()) }

// TestACertificateIsIssuedAndRenewed goes through its life: a commit has it ordered, another replica renews it in time with the
// same account, and with the certificate everything goes.
func TestACertificateIsIssuedAndRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{External: "kid:zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"})
	one := w.replica("127.0.0.0/8")
	stop := one.serve(t)
	w.put(one, func(i *configv1.AcmeIssuer) {
		i.ExternalAccount = &configv1.AcmeExternalAccount{KeyId: "kid", Key: &configv1.Secret{
			Value: &configv1.Secret_Plaintext{Plaintext: "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
		}}
	}, "a.test", "b.test")
	first := w.await("issued", isIssued)
	set, vs := certs.Open(&configv1.Certificate{Name: "web", Snis: []string{"a.test", "b.test"}, Current: first.GetCertificate()})
	if len(vs) > 0 || set.Current.Key == nil {
		t.Fatalf("what was issued cannot be used: %v", vs)
	}
	life := set.Current.Leaf().NotAfter.Sub(set.Current.Leaf().NotBefore)
	if renew := set.Current.Leaf().NotAfter.Sub(first.GetRenewAt().AsTime()); renew < life/4 || renew > life*3/4 {
		t.Errorf("it is renewed %v before its end", renew)
	}
	stop()
	w.pass(time.Hour)
	two := w.replica("127.0.0.0/8")
	two.serve(t)
	w.pass(first.GetRenewAt().AsTime().Sub(w.clock()))
	if err := two.issues.Run(t.Context()); err != nil { // as the job does
		t.Fatal(err)
	}
	second := w.await("renewed", func(m *systemv1.IssuedCertificate) bool { return id(m) != id(first) })
	if _, err := two.issues.Renew(t.Context(), "alice", "g", "web"); err != nil {
		t.Fatal(err)
	}
	w.await("renewed again", func(m *systemv1.IssuedCertificate) bool { return id(m) != id(second) })
	if n := w.accounts(); n != 1 {
		t.Errorf("there are %d accounts, want the same one", n)
	}
	if left := w.left(certs.KindChallenge); len(left) > 0 {
		t.Errorf("challenges are left: %v", left)
	}
	for _, d := range []admission.Change{{Op: admission.OpDelete, Kind: certs.Kind, Name: "web"}, {Op: admission.OpDelete, Kind: certs.KindIssuer, Name: "authority"}} {
		if _, err := two.Write(t.Context(), configsvc.Request{Actor: "test", Action: "resources.delete", Group: "g", Changes: []admission.Change{d}}); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Await(t, 20*time.Second, func() error {
		if left, n := w.left(certs.KindIssued), w.accounts(); len(left)+n > 0 {
			return fmt.Errorf("after the deletion there are %v and %d accounts", left, n)
		}
		return nil
	})
	if _, err := two.issues.Renew(t.Context(), "alice", "g", "web"); problem.Of(err).Code != problem.NotFound {
		t.Errorf("Renew of what is not there = %v", err)
	}
}

// TestOneReplicaOrders although all are woken at once: one revision has what is to be answered, one what was issued.
func TestOneReplicaOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{})
	w.put(w.reader, nil, "a.test")
	before, _ := w.state()
	for range 4 {
		r := w.replica("127.0.0.0/8")
		r.serve(t)
		r.inbox.Wake("g")
	}
	w.await("issued", isIssued)
	for range 3 { // whoever comes late finds nothing to do
		r := w.replica("127.0.0.0/8")
		stop := r.serve(t)
		r.inbox.Wake("g")
		stop()
	}
	if after, _ := w.state(); after != before+2 {
		t.Errorf("from revision %d to %d", before, after)
	}
}

// TestADeletedCertificateIsNotIssued although its order was under way.
func TestADeletedCertificateIsNotIssued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{})
	wait := make(chan struct{})
	w.fleet.wait = wait
	r := w.replica("127.0.0.0/8")
	r.serve(t)
	w.put(r, nil, "a.test")
	<-w.fleet.asked
	if left := w.left(certs.KindChallenge); len(left) != 1 {
		t.Fatalf("challenges: %v, want one", left)
	}
	drop := []admission.Change{{Op: admission.OpDelete, Kind: certs.Kind, Name: "web"}}
	if _, err := r.Write(t.Context(), configsvc.Request{Actor: "test", Action: "resources.delete", Group: "g", Changes: drop}); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, 20*time.Second, func() error {
		if left := w.left(certs.KindChallenge); len(left) > 0 {
			return fmt.Errorf("challenges are left: %v", left)
		}
		return nil
	})
	if _, m := w.state(); m != nil {
		t.Errorf("something was issued, or noted: %v", m.GetLastError())
	}
}

// TestFailuresAreToldAndBounded has what can be wrong with an issuer, and that each is tried again at once when it is put right.
func TestFailuresAreToldAndBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{Blocked: "blocked.test"})
	w.fleet.connected = 0
	r := w.replica("127.0.0.0/8")
	stop := r.serve(t)
	says := func(want string) *systemv1.IssuedCertificate {
		t.Helper()
		return w.await(want, func(m *systemv1.IssuedCertificate) bool { return strings.Contains(m.GetLastError(), want) })
	}
	w.put(r, nil, "a.test")
	if m := says("no gateway is connected"); m.GetNextAttempt() != nil || m.GetFailures() != 0 {
		t.Errorf("an attempt is counted that was none: %v", m)
	}
	w.fleet.mu.Lock()
	w.fleet.connected = 1
	w.fleet.mu.Unlock()
	w.put(r, func(i *configv1.AcmeIssuer) { i.TermsAgreed = false }, "a.test")
	says("terms of service")
	w.put(r, nil, "a.test", "blocked.test")
	m := says("urn:ietf:params:acme:error:rejectedIdentifier")
	if next := m.GetNextAttempt().AsTime(); next.Before(w.clock().Add(time.Minute)) {
		t.Errorf("it is tried again at %v", next)
	}
	at, _ := w.state()
	r.inbox.Wake("g") // before the time nothing happens
	w.pass(time.Hour)
	r.inbox.Wake("g")
	testkit.Await(t, 20*time.Second, func() error {
		if _, m = w.state(); m.GetFailures() != 2 {
			return fmt.Errorf("%d failures", m.GetFailures())
		}
		return nil
	})
	if after, _ := w.state(); after != at+1 {
		t.Errorf("from revision %d to %d, want one more", at, after)
	}
	w.put(r, func(i *configv1.AcmeIssuer) { i.Ca = nil }, "a.test")
	says("certificate")
	stop() // one at a time: any of them may have the next attempt
	strict := w.replica()
	stop = strict.serve(t)
	w.put(strict, func(i *configv1.AcmeIssuer) { i.Contact = []string{"a@a.test"} }, "a.test")
	says("is not public")
	stop()
	r = w.replica("127.0.0.0/8")
	r.serve(t)
	w.put(r, nil, "a.test")
	done := w.await("issued", isIssued)
	if done.GetLastError() != "" || done.GetFailingSince() != nil || done.GetFailures() != 0 {
		t.Errorf("after the success it still fails: %v", done.GetLastError())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(w.log.String(), "PRIVATE KEY") {
		t.Error("the log has a key")
	}
}
