package trust_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/trust"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/problem"
)

const hour = time.Hour

// world is an installation with two groups: what gateways said and what is noted of them is as the test says.
type world struct {
	rows *pkitest.Authorities
	ca   *pki.CA
	now  time.Time
	// heard is by group which bundle each connected gateway has taken over.
	heard map[string]map[string][sha256.Size]byte
	// bearers are by issuer.
	bearers map[string][]store.Bearer
	// tokens counts by root.
	tokens map[string]int
	orders []pki.Order
}

func (w *world) Groups(context.Context) ([]store.Group, error) {
	return []store.Group{{Name: "a"}, {Name: "b"}}, nil
}

func (w *world) Trusting(_ context.Context, group string, bundle [sha256.Size]byte) (connected, not []string, err error) {
	for _, id := range []string{"g1", "g2"} {
		if got, ok := w.heard[group][id]; ok {
			connected = append(connected, id)
			if got != bundle {
				not = append(not, id)
			}
		}
	}
	return connected, not, nil
}

func (w *world) BearersOfOthers(_ context.Context, issuers []string, after time.Time) (out []store.Bearer, err error) {
	known := map[string]bool{}
	for _, id := range issuers {
		known[id] = true
	}
	for issuer, all := range w.bearers {
		for _, b := range all {
			if !known[issuer] && b.NotAfter.After(after) {
				out = append(out, b)
			}
		}
	}
	return out, nil
}

func (w *world) JoinTokensOfRoot(_ context.Context, root string, _ time.Time) (int, error) {
	return w.tokens[root], nil
}

// UpdateAuthorities remembers what the audit trail is told.
func (w *world) UpdateAuthorities(ctx context.Context, plan func([]store.Authority) (pki.Plan, error)) error {
	return w.rows.UpdateAuthorities(ctx, func(stored []store.Authority) (pki.Plan, error) {
		p, err := plan(stored)
		if err == nil {
			w.orders = append(w.orders, p.Order)
		}
		return p, err
	})
}

func (w *world) Authorities(ctx context.Context) ([]store.Authority, error) {
	return w.rows.Authorities(ctx)
}

func newWorld(t *testing.T) (*world, *trust.Desk) {
	t.Helper()
	w := &world{
		rows: &pkitest.Authorities{}, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), heard: map[string]map[string][sha256.Size]byte{},
		bearers: map[string][]store.Bearer{}, tokens: map[string]int{},
	}
	var err error
	w.ca, err = pki.Open(t.Context(), pki.Config{
		Authorities: w, Sealer: pkitest.Sealer{}, TrustDomain: "kw.test", Replica: "r1", Now: func() time.Time { return w.now },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.orders = nil
	return w, trust.NewDesk(trust.Config{Authorities: w.ca, Gateways: w, Store: w, Grace: w.ca.Grace(), Now: func() time.Time { return w.now }})
}

// hear lets a gateway take over the bundle that is streamed now.
func (w *world) hear(group, id string) {
	if w.heard[group] == nil {
		w.heard[group] = map[string][sha256.Size]byte{}
	}
	w.heard[group][id] = mtls.BundleDigest(w.ca.Trust().Roots)
}

// signer is the id of the intermediate that issues.
func (w *world) signer(t *testing.T) string {
	t.Helper()
	all, err := w.ca.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if !a.IsRoot() && a.Signs() {
			return a.ID
		}
	}
	t.Fatal("nobody issues")
	return ""
}

func conflict(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || problem.Of(err).Code != problem.Conflict || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want a conflict with %q", err, want)
	}
}

func TestActivatingWaitsForEveryConnectedGateway(t *testing.T) {
	t.Parallel()
	w, desk := newWorld(t)
	w.hear("a", "g1")
	w.hear("b", "g1")
	w.hear("b", "g2")
	_, err := desk.ActivateRoot(t.Context(), "alice", false)
	conflict(t, err, "no root is prepared")
	s, err := desk.PrepareRoot(t.Context(), "alice")
	if err != nil || s.Connected != 3 || len(s.Bundle) != 2 {
		t.Fatalf("PrepareRoot = %+v, %v", s, err)
	}
	if diff := cmp.Diff([]string{"a/g1", "b/g1", "b/g2"}, s.Unaware); diff != "" {
		t.Errorf("who does not know the root (-want +got):\n%s", diff)
	}
	w.hear("a", "g1")
	w.hear("b", "g2")
	_, err = desk.ActivateRoot(t.Context(), "alice", false)
	conflict(t, err, "1 of 3 connected gateways have not taken over the trust bundle with the prepared root: b/g1")
	w.hear("b", "g1")
	before := s.Pin
	if s, err = desk.ActivateRoot(t.Context(), "alice", false); err != nil || s.Pin == before || s.Pin != w.ca.Trust().Pin || s.Former == nil {
		t.Errorf("ActivateRoot = %+v, %v", s, err)
	}
	if diff := cmp.Diff([]pki.Order{{Actor: "alice"}, {Actor: "alice"}}, w.orders); diff != "" {
		t.Errorf("the audit trail is told (-want +got):\n%s", diff)
	}
}

func TestForcingIsNotedAndAnswered(t *testing.T) {
	t.Parallel()
	w, desk := newWorld(t)
	w.hear("a", "g1")
	if _, err := desk.PrepareRoot(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	s, err := desk.ActivateRoot(t.Context(), "bob", true)
	if err != nil || len(s.Unaware) != 1 {
		t.Errorf("ActivateRoot = %+v, %v", s, err)
	}
	want := pki.Order{Actor: "bob", Detail: "forced; 1 of 1 connected gateways had not taken over the trust bundle"}
	if got := w.orders[len(w.orders)-1]; got != want {
		t.Errorf("the audit trail is told %+v, want %+v", got, want)
	}
}

func TestRetiringWaitsForGoodCertificates(t *testing.T) {
	t.Parallel()
	w, desk := newWorld(t)
	first, old := w.ca.Trust().Pin.String(), w.signer(t)
	if _, err := desk.RotateIntermediate(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	second := w.signer(t)
	for _, step := range []func() (trust.State, error){
		func() (trust.State, error) { return desk.PrepareRoot(t.Context(), "alice") },
		func() (trust.State, error) { return desk.ActivateRoot(t.Context(), "alice", false) },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	w.tokens[first] = 5
	w.tokens[w.ca.Trust().Pin.String()] = 7
	w.bearers[""] = []store.Bearer{{Group: "a", ID: "before-it-was-noted", NotAfter: w.now.Add(hour)}}
	w.bearers[old] = []store.Bearer{{Group: "a", ID: "expired", NotAfter: w.now.Add(-hour)}, {Group: "a", ID: "gone", NotAfter: w.now.Add(-31 * 24 * hour)}}
	w.bearers[second] = []store.Bearer{{Group: "b", ID: "second", NotAfter: w.now.Add(2 * hour)}}
	w.bearers[w.signer(t)] = []store.Bearer{{Group: "b", ID: "new", NotAfter: w.now.Add(20 * hour)}}
	_, err := desk.RetireRoot(t.Context(), "alice", false)
	conflict(t, err, "2 gateways have certificates under root ")
	for _, want := range []string{"a/before-it-was-noted", "b/second"} {
		conflict(t, err, want)
	}
	w.now = w.now.Add(90 * time.Minute)
	_, err = desk.RetireRoot(t.Context(), "alice", false)
	conflict(t, err, "1 gateways have certificates under root ")
	w.now = w.now.Add(hour)
	s, err := desk.RetireRoot(t.Context(), "alice", false)
	if err != nil || len(s.Bundle) != 1 {
		t.Fatalf("RetireRoot = %+v, %v", s, err)
	}
	if f := s.Former; f == nil || len(f.Holders) != 0 || f.Renewable != 3 || f.JoinTokens != 5 {
		t.Errorf("what ended with the root = %+v, want 3 that could be renewed and 5 join tokens", f)
	}
	if got := w.orders[len(w.orders)-1].Detail; got != "0 good certificates, 3 that could be renewed and 5 join tokens ended with it" {
		t.Errorf("the audit trail is told %q", got)
	}
	_, err = desk.RetireRoot(t.Context(), "alice", true)
	conflict(t, err, "there is no root that was current before")
	if s, err = desk.State(t.Context()); err != nil || s.Former != nil {
		t.Errorf("State = %+v, %v; nothing hangs on a retired root", s, err)
	}
}

func TestRetiringCanBeForced(t *testing.T) {
	t.Parallel()
	w, desk := newWorld(t)
	w.bearers[w.signer(t)] = []store.Bearer{{Group: "a", ID: "g1", NotAfter: w.now.Add(hour)}}
	if _, err := desk.PrepareRoot(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.ActivateRoot(t.Context(), "alice", false); err != nil {
		t.Fatal(err)
	}
	s, err := desk.RetireRoot(t.Context(), "alice", true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/g1"}, s.Former.Holders); diff != "" {
		t.Errorf("who has to join again (-want +got):\n%s", diff)
	}
}
