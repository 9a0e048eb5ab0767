package certstatus

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
)

// look is how it was with a group at a head.
type look struct {
	head store.HeadStamp
	// busy says that the group wants something or keeps something; then soon is when the first of it is due.
	busy bool
	soon time.Time
	// tls is what the settings of a group that is not busy say.
	tls *configv1.ServerTls
}

// at reports whether this is how it is at a head.
func (l look) at(h store.HeadStamp) bool {
	return l.head.Group == h.Group && l.head.Epoch == h.Epoch && l.head.Revision == h.Revision
}

// busy reports whether a group that was not, as far as it was looked at, wants something or keeps something.
func (k *Keeper) busy(ctx context.Context, h store.HeadStamp, was look) (busy bool, tls *configv1.ServerTls, err error) {
	vault, err := k.cfg.Unlock(ctx, h.Group)
	if err != nil {
		return false, nil, err
	}
	since := int64(0)
	if was.head.Group == h.Group && was.head.Epoch == h.Epoch {
		since, tls = was.head.Revision, was.tls
	}
	stored := map[string][]proto.Message{}
	err = k.cfg.Database.RowsSince(ctx, h.Group, append(wantingKinds(), keptKinds()...), since, func(row store.Row) error {
		if busy = busy || slices.Contains(keptKinds(), row.Kind); busy {
			return errEnough
		}
		m := open(vault, row)
		if m == nil {
			return nil
		}
		stored[row.Kind] = append(stored[row.Kind], m)
		if c, ok := m.(*configv1.Certificate); ok && elsewhere(c) { // what a reference means is known with the group opened
			busy = true
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return true, nil, nil
	case err != nil:
		return false, nil, err
	}
	for _, m := range stored[kindSettings] {
		if since > 0 { // what they say is about all certificates
			return k.busy(ctx, h, look{})
		}
		if settings, ok := m.(*configv1.Settings); ok {
			tls = settings.GetTls()
		}
	}
	for _, kind := range wantingKinds() {
		for _, m := range stored[kind] {
			busy = busy || len(wantsOf(m, tls)) > 0
		}
	}
	return busy, tls, nil
}

var errEnough = errors.New("one is enough")

// elsewhere reports whether a version of a certificate is read from somewhere.
func elsewhere(c *configv1.Certificate) bool {
	return slices.ContainsFunc(certs.Slots(c), func(s certs.Slot) bool { return certs.Reference(s.Version) != "" })
}

// open is a stored resource, nil if it cannot be read: then it wants nothing. Who opens its group tells.
func open(vault Vault, row store.Row) proto.Message {
	packed, err := vault.Open(row)
	if err != nil {
		return nil
	}
	var rec syncv1.Record
	if proto.Unmarshal(packed, &rec) != nil {
		return nil
	}
	m, err := record.Message(&rec)
	if err != nil {
		return nil
	}
	return m
}
