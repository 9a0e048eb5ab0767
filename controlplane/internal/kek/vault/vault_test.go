package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/kektest"
	"keyward.dev/controlplane/internal/kek/vault"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/testkit/vaulttest"
)

func connect(t *testing.T, v *vaulttest.Server, token string) *vaultclient.Client {
	t.Helper()
	c, err := vaultclient.New(vaultclient.Config{
		Address: v.Address, CAFile: v.CA, Timeout: 5 * time.Second,
		Auth: vaultclient.Auth{Method: vaultclient.MethodToken, Secret: settings.NewSecret(token)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformance(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	var keys atomic.Int32
	t.Run("Derived", func(t *testing.T) {
		t.Parallel()
		kektest.Run(t, func(t *testing.T) kek.Wrapper {
			name := fmt.Sprintf("k%d", keys.Add(1))
			v.Transit("transit", name)
			return vault.New(connect(t, v, v.Issue(v.Policy("transit", name), time.Hour, time.Hour)), "transit", name)
		})
	})
	t.Run("NotDerived", func(t *testing.T) {
		t.Parallel()
		kektest.Run(t, func(t *testing.T) kek.Wrapper {
			name := fmt.Sprintf("plain%d", keys.Add(1))
			v.Transit("team/transit", "unused")
			v.Write("team/transit/keys/"+name, map[string]any{"derived": false, "type": "chacha20-poly1305"})
			return vault.New(connect(t, v, v.Token), "team/transit", name)
		})
	})
}

var secret, wrapContext = []byte("thirty-two bytes or a few of them"), []byte("group version")

func TestARotatedKeyOpensWhatItWrapped(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	k := vault.New(connect(t, v, v.Token), "transit", "k")
	id := k.ID()
	before, err := k.Wrap(t.Context(), wrapContext, secret)
	if err != nil {
		t.Fatal(err)
	}
	v.Write("transit/keys/k/rotate", nil)
	after, err := k.Wrap(t.Context(), wrapContext, secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrapped := range map[string][]byte{"before": before, "after": after} {
		if got, err := k.Unwrap(t.Context(), wrapContext, wrapped); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("wrapped %s the rotation: %v", name, err)
		}
	}
	if bytes.Equal(before[:5], after[:5]) || k.ID() != id || id != "vault:transit/k" {
		t.Errorf("id %s, versions %x and %x", k.ID(), before[:5], after[:5])
	}
}

// TestWhatMayPassIsNotTakenForDamage: a ring is damaged only when Vault, asked with a good token for a key that it has,
// cannot decrypt it.
func TestWhatMayPassIsNotTakenForDamage(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Transit("transit", "k")
	client := connect(t, v, v.Token)
	k := vault.New(client, "transit", "k")
	wrapped, err := k.Wrap(t.Context(), wrapContext, secret)
	if err != nil {
		t.Fatal(err)
	}
	none := connect(t, v, v.Issue("default", time.Hour, time.Hour))
	unavailable := func(name string, k *vault.Key, also error) {
		t.Helper()
		_, errWrap := k.Wrap(t.Context(), wrapContext, secret)
		_, errUnwrap := k.Unwrap(t.Context(), wrapContext, wrapped)
		for _, err := range []error{errWrap, errUnwrap} {
			if !errors.Is(err, kek.ErrUnavailable) || errors.Is(err, kek.ErrRefused) || !errors.Is(err, also) {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil && (strings.Contains(err.Error(), string(secret)) || !strings.Contains(err.Error(), k.ID())) {
				t.Errorf("%s: the error shows the secret, or does not name the key: %v", name, err)
			}
		}
	}
	unavailable("a token without rights", vault.New(none, "transit", "k"), vaultclient.ErrForbidden)
	unavailable("no such mount", vault.New(client, "other", "k"), vaultclient.ErrNotFound)
	if _, err := vault.New(client, "transit", "gone").Unwrap(t.Context(), wrapContext, wrapped); !errors.Is(err, kek.ErrUnavailable) {
		t.Errorf("no such key: %v", err)
	}
	v.Seal()
	unavailable("sealed", k, vaultclient.ErrSealed)
	v.Stop()
	unavailable("stopped", k, vaultclient.ErrUnreachable)
	v.Restart()
	v.Unseal()
	if got, err := k.Unwrap(t.Context(), wrapContext, wrapped); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("in service again: %v", err)
	}
}

// answers is a Vault that answers always the same.
type answers map[string]any

func (a answers) Write(context.Context, string, map[string]any) (map[string]any, error) {
	return a, nil
}

func TestAnswersThatAreNoneAreNotStored(t *testing.T) {
	t.Parallel()
	for _, ciphertext := range []any{nil, 7, "", "vault:v1", "vault:vx:AAAA", "vault:v1:%%", "v1:AAAA", "vault:v99999999999:AAAA"} {
		k := vault.New(answers{"ciphertext": ciphertext}, "transit", "k")
		if got, err := k.Wrap(t.Context(), wrapContext, secret); !errors.Is(err, kek.ErrUnavailable) || got != nil {
			t.Errorf("%v: %q, %v", ciphertext, got, err)
		}
	}
	wrapped := []byte{1, 0, 0, 0, 1, 9}
	for plaintext, want := range map[any]error{nil: kek.ErrUnavailable, "%%": kek.ErrUnavailable, "AAAA": kek.ErrRefused} {
		k := vault.New(answers{"plaintext": plaintext}, "transit", "k")
		if got, err := k.Unwrap(t.Context(), wrapContext, wrapped); !errors.Is(err, want) || got != nil {
			t.Errorf("%v: %q, %v, want %v", plaintext, got, err, want)
		}
	}
}
