package app

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
)

// openedBackup is a backup that has been read to its end, with the keyrings in it opened and held against the heads.
type openedBackup struct {
	file     *os.File
	size     int64
	keys     backup.Keys
	header   backup.Header
	manifest backup.Manifest
	groups   map[string]*sealer.Group // by uid
}

// openBackup reads all of a file before anybody acts on it. Of the two keys either is enough.
func openBackup(ctx context.Context, path string, keys *openKeys, identity *recovery.Identity, terminal io.Writer) (*openedBackup, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	b := &openedBackup{file: file, keys: backup.Keys{KEK: keys.find, Identity: identity}}
	if err := b.verify(ctx, keys, terminal); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("backup %s: %w", path, err)
	}
	return b, nil
}

// find answers a key of that name; it may be retired, or the next one.
func (o *openKeys) find(id string) backup.Wrapper {
	if o == nil {
		return nil
	}
	if key, role := o.Find(id); role != kek.RoleMissing {
		return key
	}
	return nil
}

func (b *openedBackup) verify(ctx context.Context, keys *openKeys, terminal io.Writer) error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	b.size = info.Size()
	c, err := b.each(ctx, newProgress(terminal, "verifying", b.size), func(table string, _ []string, _ io.Reader) error {
		if !slices.Contains(store.BackupTables(), table) {
			return fmt.Errorf("%w: it has a table %.64q, which this program does not know", backup.ErrFormat, table)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.manifest = c.Manifest
	latest, err := store.LatestSchema()
	if err != nil {
		return err
	}
	if b.manifest.Schema < 1 || b.manifest.Schema > latest {
		return fmt.Errorf("%w: its schema has version %d, this program knows %d; use a program of its version or later", backup.ErrFormat, b.manifest.Schema, latest)
	}
	return b.prove(ctx, c.Keyrings, keys)
}

// each reads the file from its beginning to its end.
func (b *openedBackup) each(ctx context.Context, shown *progress, take func(string, []string, io.Reader) error) (backup.Contents, error) {
	defer shown.end()
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return backup.Contents{}, err
	}
	r, err := backup.Open(ctx, io.TeeReader(b.file, shown), b.keys)
	if err != nil {
		return backup.Contents{}, err
	}
	if b.header.ID != "" && b.header.ID != r.Header().ID {
		return backup.Contents{}, fmt.Errorf("%w: it was exchanged while it was read", backup.ErrMalformed)
	}
	b.header = r.Header()
	return r.Each(take)
}

// prove opens each keyring, with the key-encryption key that wraps it or from the part for the recovery key, and holds it
// against the head: that it authenticates it is the proof that these are the keys of what is in the backup.
func (b *openedBackup) prove(ctx context.Context, sealed []byte, keys *openKeys) error {
	entries := map[string]recovery.Entry{}
	if b.keys.Identity != nil {
		rings, err := recovery.Open(*b.keys.Identity, sealed)
		if err != nil {
			return fmt.Errorf("%w: %w", backup.ErrMalformed, err)
		}
		for _, e := range rings.Entries {
			entries[e.UID] = e
		}
	}
	b.groups = map[string]*sealer.Group{}
	for _, g := range b.manifest.Groups {
		opened, err := openGroup(ctx, g, keys, entries)
		if err != nil {
			return fmt.Errorf("group %.64q: %w", g.Name, err)
		}
		b.groups[g.UID] = opened
	}
	if b.groups[store.SystemUID] == nil {
		return fmt.Errorf("%w: it has no keyring of the installation", backup.ErrMalformed)
	}
	return nil
}

func openGroup(ctx context.Context, g backup.Group, keys *openKeys, entries map[string]recovery.Entry) (*sealer.Group, error) {
	head, row, err := storedGroup(g)
	if err != nil {
		return nil, err
	}
	if keys.find(g.KEK) != nil {
		opened, err := sealer.NewWith(nil, keys.Keys).Stored(ctx, head, row)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", backup.ErrKey, err)
		}
		return opened, nil
	}
	e, ok := entries[g.UID]
	if !ok {
		return nil, fmt.Errorf("%w: its keyring is wrapped by key-encryption key %s; that or the recovery key is needed", backup.ErrKey, g.KEK)
	}
	opened, err := sealer.Recovered(e, head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backup.ErrMalformed, err)
	}
	return opened, nil
}

// storedGroup is the reverse of manifestGroup.
func storedGroup(g backup.Group) (store.Head, store.Keyring, error) {
	head := store.Head{
		GroupUID: g.UID, Group: g.Name, Epoch: g.Epoch, Revision: g.Revision, ResourceCount: g.Resources,
		KeyringVersion: g.KeyringVersion, AuditSeq: g.AuditSeq, AuditHead: g.AuditHead, MAC: g.MAC, UpdatedAt: g.UpdatedAt,
	}
	if copy(head.Digest[:], g.Digest) != len(head.Digest) || len(g.Digest) != len(head.Digest) {
		return head, store.Keyring{}, backup.ErrMalformed
	}
	return head, store.Keyring{GroupUID: g.UID, Version: g.KeyringVersion, KEKID: g.KEK, Wrapped: bytes.Clone(g.Keyring)}, nil
}

// BackupVerify reads a backup to its end and says what is in it. It needs one of the keys, and no database.
type BackupVerify struct {
	KEK      KEK
	Identity string
	In       string
	Output   string
}

// Flags declares the settings.
func (v *BackupVerify) Flags(fs *flag.FlagSet) {
	v.KEK.Flags(fs)
	fs.StringVar(&v.In, "in", "", "`file` that backup wrote")
	fs.StringVar(&v.Identity, "identity", "", "`file` with the recovery key; needed where the key-encryption key is not")
	outputFlag(fs, &v.Output)
}

// Check names everything that is wrong.
func (v *BackupVerify) Check() error {
	var faults settings.Faults
	if v.KEK.given() || v.Identity == "" {
		v.KEK.Check(&faults)
	}
	needed(&faults, "in", v.In)
	checkOutput(&faults, v.Output)
	return faults.Err()
}

// Run verifies.
func (v *BackupVerify) Run(ctx context.Context, out, terminal io.Writer) error {
	var keys *openKeys
	var err error
	if v.KEK.given() {
		if keys, err = v.KEK.opened(ctx); err != nil {
			return err
		}
	}
	identity, err := optionalIdentity(v.Identity)
	if err != nil {
		return err
	}
	b, err := openBackup(ctx, v.In, keys, identity, terminal)
	if err != nil {
		return err
	}
	defer b.file.Close()
	told := newSummary(b.header, b.manifest)
	told.File = v.In
	return told.print(out, v.Output)
}

func optionalIdentity(path string) (*recovery.Identity, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // none was given
	}
	identity, err := readIdentity(path)
	return &identity, err
}
