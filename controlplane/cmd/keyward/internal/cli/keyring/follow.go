package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// firstLook and lastLook bound how often it is asked how far it has got; each answer counts what is stored.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 2 * time.Second
	barWidth  = 30
)

var errNotRewrapped = errors.New("rewrapping has not ended")

// follow waits until a keyring has changed and everything is under its newest term.
func follow(ctx context.Context, f *factory.Factory, c adminv1.KeyringServiceClient, k *adminv1.Keyring, timeout time.Duration) (*adminv1.Keyring, error) {
	deadline := f.Now().Add(timeout)
	defer f.IO.Done()
	most := int64(0)
	for pause := firstLook; k.GetNext() != nil || k.GetRemaining() > 0; pause = min(2*pause, lastLook) {
		if !f.Now().Before(deadline) {
			f.IO.Done()
			return nil, failure.Hint(fmt.Errorf("%w after %s: %s", errNotRewrapped, timeout, line(k)), "it goes on in the background: keyward keyring list")
		}
		most = max(most, k.GetRemaining())
		status(f, k, most)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		next, err := c.GetKeyring(ctx, &adminv1.GetKeyringRequest{Group: f.Group()})
		if err != nil {
			return nil, fmt.Errorf("wait for keyring: %w", err)
		}
		k = next
	}
	return k, nil
}

func status(f *factory.Factory, k *adminv1.Keyring, most int64) {
	if k.GetNext() != nil {
		f.IO.Status("%s …", line(k))
		return
	}
	f.IO.Status("%s %d left", render.Bar(most-k.GetRemaining(), most, barWidth), k.GetRemaining())
}
