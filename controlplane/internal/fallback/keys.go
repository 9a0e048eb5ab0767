package fallback

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/bundle"
)

// purpose binds sealed keys to their table.
const purpose = "bundle_keys"

// Vaults gives the vault of a group; *sealer.Sealer does.
type Vaults interface {
	Group(ctx context.Context, name string) (*sealer.Group, error)
}

// Keys keeps the bundle keys of groups and the key that signs bundles. They are made when they are first needed.
type Keys struct {
	store  *store.Store
	vaults Vaults
	now    func() time.Time
}

// NewKeys returns the keys of a database.
func NewKeys(s *store.Store, vaults Vaults, now func() time.Time) *Keys {
	return &Keys{store: s, vaults: vaults, now: now}
}

// Material is what gateways of a group need to start from a bundle.
type Material struct {
	Version uint32
	// Key is the group's bundle key, which is secret; Signer is the public key of the installation's signer.
	Key, Signer []byte
}

// Show answers what gateways need, and notes who asked.
func (k *Keys) Show(ctx context.Context, group, actor string) (Material, error) {
	if err := k.ensure(ctx, group); err != nil {
		return Material{}, err
	}
	var key bundle.Key
	err := k.inGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
		row, err := tx.BundleKey(ctx)
		if err != nil {
			return err
		}
		if key, err = open(vault, row); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, k.event(actor, "bundle-key.show", row.Version, ""))
	})
	if err != nil {
		return Material{}, fmt.Errorf("show bundle key of group %s: %w", group, err)
	}
	return k.material(ctx, key)
}

// Rotate makes a new version of the group's key, to which the next bundle is sealed.
func (k *Keys) Rotate(ctx context.Context, group, actor string) (version uint32, err error) {
	err = k.inGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
		version, err = k.next(ctx, tx, vault)
		if err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, k.event(actor, "bundle-key.rotate", version, ""))
	})
	if err != nil {
		return 0, fmt.Errorf("rotate bundle key of group %s: %w", group, err)
	}
	return version, nil
}

// Verify says what is wrong with the key of a group, or of the system, which signs. None is not wrong.
func (k *Keys) Verify(ctx context.Context, group string) error {
	_, err := k.store.BundleKey(ctx, group)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case group == store.SystemGroup:
		_, err = k.signer(ctx)
	default:
		_, err = k.key(ctx, group)
	}
	return err
}

// RotateIn makes a new version of the group's key within a transaction that revokes a gateway, which has seen the one of
// now. A group that has no key needs none.
func (k *Keys) RotateIn(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, actor string) error {
	if _, err := tx.BundleKey(ctx); errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	version, err := k.next(ctx, tx, vault)
	if err != nil {
		return fmt.Errorf("rotate bundle key: %w", err)
	}
	return audit.Record(ctx, tx, vault, k.event(actor, "bundle-key.rotate", version, "a gateway was revoked"))
}

// next writes the version after the newest.
func (k *Keys) next(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) (uint32, error) {
	last, err := tx.BundleKey(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	key, err := bundle.NewKey(vault.Name(), last.Version+1)
	if err != nil {
		return 0, err
	}
	return key.Version, k.write(ctx, tx, vault, key.Version, key.MarshalPEM())
}

func (k *Keys) write(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, version uint32, plain []byte) error {
	sealed, err := vault.SealBlob(purpose, id(version), plain)
	clear(plain)
	if err != nil {
		return err
	}
	return tx.CreateBundleKey(ctx, store.BundleKey{Version: version, Sealed: sealed, CreatedAt: k.now().UTC().Truncate(time.Microsecond)})
}

// ensure makes the first version if there is none.
func (k *Keys) ensure(ctx context.Context, group string) error {
	if _, err := k.store.BundleKey(ctx, group); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return k.inGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
		if _, err := tx.BundleKey(ctx); !errors.Is(err, store.ErrNotFound) {
			return err // somebody was faster
		}
		version, err := k.next(ctx, tx, vault)
		if err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, k.event("system", "bundle-key.create", version, ""))
	})
}

// key answers the group's key of now.
func (k *Keys) key(ctx context.Context, group string) (bundle.Key, error) {
	if err := k.ensure(ctx, group); err != nil {
		return bundle.Key{}, err
	}
	vault, err := k.vaults.Group(ctx, group)
	if err != nil {
		return bundle.Key{}, err
	}
	row, err := k.store.BundleKey(ctx, group)
	if err != nil {
		return bundle.Key{}, err
	}
	return open(vault, row)
}

// open opens a row and holds what is inside against what it says in the clear.
func open(vault *sealer.Group, row store.BundleKey) (bundle.Key, error) {
	plain, err := vault.OpenBlob(purpose, id(row.Version), row.Sealed)
	if err != nil {
		return bundle.Key{}, err
	}
	defer clear(plain)
	keys, err := bundle.ParseKeys(plain)
	if err != nil || len(keys) != 1 || keys[0].Version != row.Version || keys[0].Group != vault.Name() {
		return bundle.Key{}, fmt.Errorf("open bundle key %d of group %s: malformed", row.Version, vault.Name())
	}
	return keys[0], nil
}

// signer answers the key that signs, and makes it if there is none.
func (k *Keys) signer(ctx context.Context) (bundle.Signer, error) {
	vault, err := k.vaults.Group(ctx, store.SystemGroup)
	if err != nil {
		return bundle.Signer{}, err
	}
	row, err := k.store.BundleKey(ctx, store.SystemGroup)
	if errors.Is(err, store.ErrNotFound) {
		row, err = k.makeSigner(ctx, vault)
	}
	if err != nil {
		return bundle.Signer{}, err
	}
	seed, err := vault.OpenBlob(purpose, id(row.Version), row.Sealed)
	if err != nil {
		return bundle.Signer{}, err
	}
	defer clear(seed)
	return bundle.SignerFrom(seed)
}

func (k *Keys) makeSigner(ctx context.Context, vault *sealer.Group) (row store.BundleKey, err error) {
	made, err := bundle.NewSigner()
	if err != nil {
		return row, err
	}
	err = k.store.InSystem(ctx, func(ctx context.Context, tx *store.GroupTx) error {
		if row, err = tx.BundleKey(ctx); !errors.Is(err, store.ErrNotFound) {
			return err // somebody was faster
		}
		if err := k.write(ctx, tx, vault, 1, made.Seed()); err != nil {
			return err
		}
		if row, err = tx.BundleKey(ctx); err != nil {
			return err
		}
		return audit.Record(ctx, tx, vault, k.event("system", "bundle-signer.create", 1, ""))
	})
	return row, err
}

func (k *Keys) material(ctx context.Context, key bundle.Key) (Material, error) {
	signer, err := k.signer(ctx)
	if err != nil {
		return Material{}, fmt.Errorf("open bundle signer: %w", err)
	}
	public, err := bundle.MarshalSigner(signer.Public())
	return Material{Version: key.Version, Key: key.MarshalPEM(), Signer: public}, err
}

// inGroup runs fn with the group locked. What belongs to no group has no bundle.
func (k *Keys) inGroup(ctx context.Context, group string, fn func(context.Context, *store.GroupTx, *sealer.Group) error) error {
	if group == store.SystemGroup {
		return store.ErrNotFound
	}
	vault, err := k.vaults.Group(ctx, group)
	if err != nil {
		return err
	}
	return k.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error { return fn(ctx, tx, vault) })
}

func (k *Keys) event(actor, action string, version uint32, detail string) audit.Event {
	return audit.Event{At: k.now(), Actor: actor, Action: action, Subjects: []string{"bundle-keys/" + id(version)}, Detail: detail}
}

func id(version uint32) string { return strconv.FormatUint(uint64(version), 10) }
