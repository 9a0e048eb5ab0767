package registry_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/registry/registrytest"
	"keyward.dev/controlplane/internal/store"
)

func shown(key byte) store.Certificate {
	return store.Certificate{SPKIHash: append(make([]byte, 31), key), Serial: "77", NotAfter: time.Now().Add(time.Hour)}
}

// TestAGatewayThatTheDatabaseForgotIsNotedAgain: it enrolled after the backup that was restored.
func TestAGatewayThatTheDatabaseForgotIsNotedAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := store.NewUID()
	if err := l.SetGatewayCertificate(t.Context(), "pay", id, shown(1)); err != nil {
		t.Fatalf("renewal: %v", err)
	}
	if err := l.Adopt(t.Context(), "pay", id, shown(1)); err != nil {
		t.Errorf("Adopt, a second time: %v", err)
	}
	known, err := l.registry.List(t.Context(), "pay")
	if err != nil || len(known) != 1 || known[0].ID != id || known[0].Attestor != "certificate" {
		t.Fatalf("List = %+v, %v", known, err)
	}
	if err := l.Adopt(t.Context(), "pay", store.NewUID(), shown(1)); !errors.Is(err, registry.ErrKeyInUse) {
		t.Errorf("another gateway with its key: %v", err)
	}
	if err := l.Adopt(t.Context(), "nowhere", store.NewUID(), shown(2)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a gateway of a group that is not there: %v", err)
	}
	if err := l.Adopt(t.Context(), store.SystemGroup, store.NewUID(), shown(2)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a gateway of the system: %v", err)
	}
	if err := l.Revoke(t.Context(), "pay", id, "admin", "stolen"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Adopt": l.Adopt(t.Context(), "pay", id, shown(1)), "SetGatewayCertificate": l.SetGatewayCertificate(t.Context(), "pay", id, shown(3)),
	} {
		if !errors.Is(err, registry.ErrRevoked) {
			t.Errorf("%s of a revoked gateway = %v", what, err)
		}
	}
}

func TestAStreamOfAGatewayThatIsNotKnownNotesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		r, stop := replica(t, m, "a")
		c := r.Connect(registry.Connection{Group: "pay", ID: "lost", Version: "1", Certificate: shown(9)})
		c.Close()
		stop()
		g, err := m.Gateway(t.Context(), "pay", "lost")
		if err != nil || g.Serial != "77" || g.Version != "1" {
			t.Errorf("gateway is %+v, %v", g, err)
		}
	})
}
