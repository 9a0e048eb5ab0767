package syncclient_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"keyward.dev/dataplane/internal/syncclient"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

func bundle(roots ...[]byte) *syncv1.ConfigResponse {
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_TrustBundle{TrustBundle: &syncv1.TrustBundle{Roots: roots}}}
}

func TestNewRootsAreTrustedAndThatIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, next := newControl(t), newControl(t)
		w := start(t, c, nil)
		defer w.end()
		w.until(t, 0)
		one, both := [][]byte{c.authority.Root.Raw}, [][]byte{c.authority.Root.Raw, next.authority.Root.Raw}
		c.send(bundle(both...))
		c.send(bundle()) // refused
		c.change(route("u1", "a", ""))
		w.until(t, 1)
		if !w.client.Status().Connected {
			t.Error("a trust bundle dropped the stream")
		}
		for _, want := range [][][]byte{one, both} {
			digest := mtls.BundleDigest(want)
			if got := <-c.trusted; !bytes.Equal(got, digest[:]) {
				t.Errorf("the gateway says that it trusts %x, want %x", got, digest)
			}
		}
		synctest.Wait()
		if len(c.trusted) > 0 {
			t.Error("a bundle that was refused is acknowledged")
		}
	})
}

// TestRootsThatAreNotKeptAreNotSaidToBeTrusted holds that nobody relies on what a restart would forget.
func TestRootsThatAreNotKeptAreNotSaidToBeTrusted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "identity")
	synctest.Test(t, func(t *testing.T) {
		c, next := newControl(t), newControl(t)
		w := start(t, c, func(cfg *syncclient.Config) { cfg.IdentityDir = dir })
		defer w.end()
		w.until(t, 0)
		<-c.trusted
		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		both := bundle(c.authority.Root.Raw, next.authority.Root.Raw)
		c.send(both)
		c.change(route("u1", "a", ""))
		w.until(t, 1)
		synctest.Wait()
		if len(c.trusted) > 0 {
			t.Error("a bundle that could not be kept is acknowledged")
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		c.send(both)
		c.change(route("u2", "b", ""))
		w.until(t, 2)
		synctest.Wait()
		if len(c.trusted) != 1 {
			t.Errorf("%d bundles are acknowledged once the same can be kept, want 1", len(c.trusted))
		}
	})
}

// TestAnIdentityUnderARetiredRootJoinsAnew is of a gateway that was restarted, with another token, after a root was retired on
// which its certificate still hung.
func TestAnIdentityUnderARetiredRootJoinsAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		before, after := newControl(t), newControl(t)
		w := start(t, before, func(cfg *syncclient.Config) { cfg.IdentityDir = dir })
		w.until(t, 0)
		before.send(bundle(after.authority.Root.Raw))
		before.change(route("u1", "a", ""))
		w.until(t, 1)
		w.end()
		if _, err := syncclient.New(syncclient.Config{Addresses: []string{"cp.test:7444"}, TrustDomain: domain, IdentityDir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Error("an identity that nobody trusts is taken although there is nothing to join with")
		}
		again := start(t, after, func(cfg *syncclient.Config) { cfg.IdentityDir = dir })
		defer again.end()
		again.until(t, 0)
		if len(after.keys) != 1 {
			t.Errorf("joined %d times, want once", len(after.keys))
		}
	})
}
