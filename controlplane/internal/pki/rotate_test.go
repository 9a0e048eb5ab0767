package pki_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/problem"
)

// poolOf is what somebody knows who knows these roots.
func poolOf(t *testing.T, roots ...[]byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, c := range parse(t, roots) {
		pool.AddCert(c)
	}
	return pool
}

// states answers the state of each authority, by kind.
func states(m *pkitest.Authorities) []string {
	var out []string
	for _, a := range m.Rows() {
		out = append(out, a.Kind+" "+a.State)
	}
	slices.Sort(out)
	return out
}

func must(t *testing.T, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s = %v", doing, err)
	}
}

// TestARootIsRotatedInStepsAndNobodyIsLockedOut checks after each step who verifies whom: with the old root alone, with the
// new one alone, and by the pins of join tokens.
func TestARootIsRotatedInStepsAndNobodyIsLockedOut(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	ca, lagging := open(t, m, c), open(t, m, c)
	old, oldPin := ca.Trust().Roots[0], ca.Trust().Pin
	oldLeaf := issue(t, ca, newKey(t), nil)

	must(t, "PrepareRoot", ca.PrepareRoot(t.Context(), pki.Order{Actor: "alice"}))
	roots := ca.Trust().Roots
	if len(roots) != 2 || !bytes.Equal(roots[0], old) || ca.Trust().Pin != oldPin {
		t.Fatalf("after preparing there are %d roots, pin changed: %v", len(roots), ca.Trust().Pin != oldPin)
	}
	fresh := roots[1]
	newPin := mtls.SPKIOf(parse(t, [][]byte{fresh})[0])

	type view struct{ Old, New, OldPin, NewPin bool }
	check := func(step string, want view, gateways view) {
		t.Helper()
		server, err := ca.ServerCertificate()
		must(t, "ServerCertificate", err)
		chain := parse(t, server.Certificate)
		with := func(root []byte) bool {
			_, err := mtls.VerifyControlPlane(chain, poolOf(t, root), domain, c.now)
			return err == nil
		}
		pinned := func(pin mtls.SPKI) bool {
			_, err := mtls.VerifyPinned(chain, pin, domain, c.now)
			return err == nil
		}
		if diff := cmp.Diff(want, view{with(old), with(fresh), pinned(oldPin), pinned(newPin)}); diff != "" {
			t.Errorf("%s: who verifies the control plane (-want +got):\n%s", step, diff)
		}
		leaf := parse(t, issue(t, ca, newKey(t), nil).Chain)
		by := func(pool *x509.CertPool, chain []*x509.Certificate) bool {
			_, err := mtls.VerifyGateway(chain, pool, domain, c.now)
			return err == nil
		}
		got := view{by(poolOf(t, old), leaf), by(poolOf(t, fresh), leaf), by(ca.Roots(), parse(t, oldLeaf.Chain)), by(lagging.Roots(), leaf)}
		if diff := cmp.Diff(gateways, got); diff != "" {
			t.Errorf("%s: which gateways are verified: the newest by the old root, by the new, the oldest here, the newest by a replica that heard of nothing (-want +got):\n%s", step, diff)
		}
	}
	check("prepared", view{Old: true, OldPin: true}, view{Old: true, OldPin: true, NewPin: true})

	must(t, "ActivateRoot", ca.ActivateRoot(t.Context(), pki.Order{Actor: "alice"}))
	if ca.Trust().Pin != newPin || len(ca.Trust().Roots) != 2 {
		t.Error("after activating the pin is not the new root's, or a root is missing")
	}
	all := view{true, true, true, true}
	check("activated", all, all)
	if got := issue(t, ca, newKey(t), nil); got.Issuer == oldLeaf.Issuer {
		t.Error("certificates are still issued by the old intermediate")
	}
	must(t, "RotateIntermediate", ca.RotateIntermediate(t.Context(), pki.Order{Actor: "alice"}))
	check("activated and the intermediate rotated", all, all)

	must(t, "RetireRoot", ca.RetireRoot(t.Context(), pki.Order{Actor: "alice"}))
	if diff := cmp.Diff([][]byte{fresh}, ca.Trust().Roots); diff != "" {
		t.Errorf("trust bundle after retiring:\n%s", diff)
	}
	check("retired", view{New: true, NewPin: true}, view{New: true})
	if diff := cmp.Diff([]string{"intermediate current", "intermediate previous", "root current"}, states(m)); diff != "" {
		t.Errorf("authorities after retiring (-want +got):\n%s", diff)
	}
	must(t, "Reload", lagging.Reload(t.Context()))
	if _, err := mtls.VerifyGateway(parse(t, oldLeaf.Chain), lagging.Roots(), domain, c.now); err == nil {
		t.Error("another replica verifies what hangs on the retired root")
	}
}

// TestAnExpiredCertificateOfTheRootBeforeIsRenewed is of a gateway that was away while the root was rotated.
func TestAnExpiredCertificateOfTheRootBeforeIsRenewed(t *testing.T) {
	t.Parallel()
	m, c, key := &pkitest.Authorities{}, newClock(), newKey(t)
	ca := open(t, m, c)
	cert := issue(t, ca, key, nil).Chain[0]
	must(t, "PrepareRoot", ca.PrepareRoot(t.Context(), pki.Order{Actor: "alice"}))
	must(t, "ActivateRoot", ca.ActivateRoot(t.Context(), pki.Order{Actor: "alice"}))
	c.now = c.now.Add(20 * 24 * time.Hour)
	if _, err := ca.VerifyExpired(expired(t, key, cert, c.now)); err != nil {
		t.Errorf("VerifyExpired after activating = %v", err)
	}
	must(t, "RetireRoot", ca.RetireRoot(t.Context(), pki.Order{Actor: "alice"}))
	if _, err := ca.VerifyExpired(expired(t, key, cert, c.now)); !errors.Is(err, pki.ErrNotRenewable) {
		t.Errorf("VerifyExpired after retiring = %v, want ErrNotRenewable", err)
	}
}

func TestStepsOutOfTurnAreRefused(t *testing.T) {
	t.Parallel()
	type step func(*pki.CA) error
	prepare := func(ca *pki.CA) error { return ca.PrepareRoot(t.Context(), pki.Order{Actor: "alice"}) }
	activate := func(ca *pki.CA) error { return ca.ActivateRoot(t.Context(), pki.Order{Actor: "alice"}) }
	retire := func(ca *pki.CA) error { return ca.RetireRoot(t.Context(), pki.Order{Actor: "alice"}) }
	for _, tt := range []struct {
		name  string
		first []step
		then  step
	}{
		{"activate what is not prepared", nil, activate},
		{"retire what was never replaced", nil, retire},
		{"prepare twice", []step{prepare}, prepare},
		{"retire before activating", []step{prepare}, retire},
		{"activate twice", []step{prepare, activate}, activate},
		{"prepare before retiring", []step{prepare, activate}, prepare},
		{"retire twice", []step{prepare, activate, retire}, retire},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &pkitest.Authorities{}
			ca := open(t, m, newClock())
			for _, do := range tt.first {
				must(t, "step", do(ca))
			}
			before := m.Rows()
			err := tt.then(ca)
			if err == nil || problem.Of(err).Code != problem.Conflict {
				t.Errorf("error = %v, want a conflict", err)
			}
			if diff := cmp.Diff(before, m.Rows()); diff != "" {
				t.Errorf("the refused step changed something:\n%s", diff)
			}
		})
	}
}

// TestABridgeIsMadeOnce holds that chains do not change with every look at the store, which would make every replica's
// certificate anew each minute.
func TestABridgeIsMadeOnce(t *testing.T) {
	t.Parallel()
	ca := open(t, &pkitest.Authorities{}, newClock())
	must(t, "PrepareRoot", ca.PrepareRoot(t.Context(), pki.Order{Actor: "alice"}))
	must(t, "ActivateRoot", ca.ActivateRoot(t.Context(), pki.Order{Actor: "alice"}))
	before, err := ca.ServerCertificate()
	must(t, "ServerCertificate", err)
	must(t, "Reload", ca.Reload(t.Context()))
	if after, err := ca.ServerCertificate(); err != nil || after != before {
		t.Errorf("a reload without a change made another certificate, %v", err)
	}
	must(t, "RetireRoot", ca.RetireRoot(t.Context(), pki.Order{Actor: "alice"}))
	after, err := ca.ServerCertificate()
	if err != nil || len(after.Certificate) != 3 {
		t.Errorf("a chain of %d certificates after retiring, want 3, %v", len(after.Certificate), err)
	}
}

func TestRunReplacesAnIntermediateThatNoJobHasReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &pkitest.Authorities{}
		cfg := config(m, newClock(), "r1")
		cfg.Now, cfg.GatewayTTL, cfg.IntermediateTTL = time.Now, 10*time.Minute, time.Hour
		ca, err := pki.Open(t.Context(), cfg)
		must(t, "Open", err)
		ended := make(chan error, 1)
		go func() { ended <- ca.Run(t.Context()) }()
		for _, wait := range []struct {
			until time.Duration
			rows  int
		}{{48 * time.Minute, 2}, {58 * time.Minute, 3}} {
			<-time.After(time.Until(parse(t, ca.Trust().Roots)[0].NotBefore.Add(wait.until)))
			synctest.Wait()
			if got := len(m.Rows()); got != wait.rows {
				t.Errorf("after %s there are %d authorities, want %d", wait.until, got, wait.rows)
			}
		}
	})
}

func TestRenewReplacesAnIntermediateInItsLastThird(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	ca, begun := open(t, m, c), c.now
	for _, tt := range []struct {
		after time.Duration
		rows  int
	}{{19 * 24 * time.Hour, 2}, {21 * 24 * time.Hour, 3}, {22 * 24 * time.Hour, 3}} {
		c.now = begun.Add(tt.after)
		must(t, "Renew", ca.Renew(t.Context()))
		if got := len(m.Rows()); got != tt.rows {
			t.Errorf("after %s there are %d authorities, want %d", tt.after, got, tt.rows)
		}
	}
}
