package sealer_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/vault"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit/vaulttest"
)

// TestVaultIsSealedAtEachStep has Vault sealed, or killed, before whatever needs it. Nothing is stored then, and when it is back
// everything works.
func TestVaultIsSealedAtEachStep(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	client, err := vaultclient.New(vaultclient.Config{
		Address: v.Address, CAFile: v.CA, Timeout: 5 * time.Second,
		Auth: vaultclient.Auth{Method: vaultclient.MethodToken, Secret: settings.NewSecret(v.Token)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	s := sealer.NewWith(w.Store, kek.Keys{Current: vault.New(client, "transit", "k"), Retired: []kek.Wrapper{w.kek}})
	steps := []struct {
		name string
		do   func() error
	}{
		{"KEK change", func() error { _, err := s.Rewrap(t.Context(), "test", quiet); return err }},
		{"new group", func() error {
			_, err := s.CreateGroup(t.Context(), sealer.NewGroup{Name: "c", Actor: "test", At: now()})
			return err
		}},
		{"rotation", func() error { return rotate(t, s, "a") }},
		{"start", func() error {
			_, err := sealer.New(w.Store, vault.New(client, "transit", "k")).OpenAll(t.Context())
			return err
		}},
	}
	for _, step := range steps {
		before := w.Tables(t)
		for how, outage := range map[string]struct {
			begin, end func()
			want       error
		}{
			"sealed": {v.Seal, v.Unseal, vaultclient.ErrSealed},
			"killed": {v.Stop, func() { v.Restart(); v.Unseal() }, vaultclient.ErrUnreachable},
		} {
			outage.begin()
			if err := step.do(); !errors.Is(err, sealer.ErrUnavailable) || !errors.Is(err, outage.want) {
				t.Errorf("%s, %s: %v", step.name, how, err)
			}
			w.put(t, w.a, 1, "one", "record of "+step.name+how) // what is open goes on
			outage.end()
		}
		for _, table := range []string{"keyrings", "groups"} {
			if !bytes.Equal(before[table], w.Tables(t)[table]) {
				t.Errorf("%s: table %s was changed", step.name, table)
			}
		}
		if err := step.do(); err != nil {
			t.Errorf("%s when Vault is back: %v", step.name, err)
		}
		if w.a, err = s.Group(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

// sealsAfter seals Vault after it was asked some times.
type sealsAfter struct {
	kek.Wrapper
	left atomic.Int32
	seal func()
}

func (s *sealsAfter) Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	if s.left.Add(-1) == -1 {
		s.seal()
	}
	return s.Wrapper.Wrap(ctx, wrapContext, plaintext)
}

func TestAKEKChangeGoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	role, secret := v.AppRole(v.Policy("transit", "k"), time.Minute, time.Hour)
	client, err := vaultclient.New(vaultclient.Config{
		Address: v.Address, CAFile: v.CA, Timeout: 5 * time.Second,
		Auth: vaultclient.Auth{Method: vaultclient.MethodAppRole, Role: role, Secret: settings.NewSecret(secret)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	key := &sealsAfter{Wrapper: vault.New(client, "transit", "k"), seal: v.Seal}
	key.left.Store(2)
	s := sealer.NewWith(w.Store, kek.Keys{Current: key, Retired: []kek.Wrapper{w.kek}})
	if done, err := s.Rewrap(t.Context(), "test", quiet); done != 2 || !errors.Is(err, vaultclient.ErrSealed) {
		t.Errorf("Rewrap with Vault sealed on the way = %d, %v; want 2", done, err)
	}
	v.Unseal()
	if done, err := s.Rewrap(t.Context(), "test", quiet); done != 1 || err != nil {
		t.Errorf("Rewrap again = %d, %v; want 1", done, err)
	}
	if damaged, err := sealer.New(w.Store, key).OpenAll(t.Context()); err != nil || len(damaged) > 0 {
		t.Errorf("with Vault's key alone: %v, %v", damaged, err)
	}
}
