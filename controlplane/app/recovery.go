package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// RecoveryKey makes a recovery key: the private half into a file, to be taken offline, the public one to stdout.
type RecoveryKey struct{ Identity string }

// Flags declares the settings.
func (k *RecoveryKey) Flags(fs *flag.FlagSet) {
	fs.StringVar(&k.Identity, "identity", "", "`file` to write the private half to; must not be there yet. Take it offline: it opens every backup")
}

// Check names what is missing.
func (k *RecoveryKey) Check() error {
	var faults settings.Faults
	needed(&faults, "identity", k.Identity)
	return faults.Err()
}

// Run makes the key.
func (k *RecoveryKey) Run(out io.Writer) error {
	identity, err := recovery.NewIdentity()
	if err != nil {
		return err
	}
	secret, err := identity.MarshalPEM()
	if err != nil {
		return err
	}
	defer clear(secret)
	f, err := os.OpenFile(k.Identity, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	if _, err = f.Write(secret); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write recovery key: %w", err)
	}
	_, err = out.Write(identity.Recipient().MarshalPEM())
	return err
}

// KeyringBackup writes all keyrings to a file, sealed to a recovery key.
type KeyringBackup struct {
	Database  Database
	KEK       KEK
	Log       telemetry.LogOptions
	Recipient string
	Out       string
}

// Flags declares the settings.
func (b *KeyringBackup) Flags(fs *flag.FlagSet) {
	b.Database.Flags(fs)
	b.KEK.Flags(fs)
	b.Log.Flags(fs)
	fs.StringVar(&b.Recipient, "recipient", "", "`file` with the public half of the recovery key, which keyring recovery-key printed")
	fs.StringVar(&b.Out, "out", "", "`file` to write the backup to; one that is there is replaced when the new one is whole")
}

// Check names everything that is wrong.
func (b *KeyringBackup) Check() error {
	var faults settings.Faults
	b.Database.Check(&faults)
	b.KEK.Check(&faults)
	needed(&faults, "recipient", b.Recipient)
	needed(&faults, "out", b.Out)
	return faults.Err()
}

// Run writes the backup. It is whole or not there.
func (b *KeyringBackup) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	to, err := readRecipient(b.Recipient)
	if err != nil {
		return err
	}
	keys, err := b.KEK.opened(ctx)
	if err != nil {
		return err
	}
	core, err := openCore(ctx, b.Database, keys.Keys, references{}, log)
	if err != nil {
		return err
	}
	defer core.store.Close()
	groups, err := names(ctx, core)
	if err != nil {
		return err
	}
	backup := recovery.Backup{At: time.Now()}
	for _, group := range append([]string{store.SystemGroup}, groups...) {
		g, err := core.sealer.Group(ctx, group)
		if err != nil {
			return fmt.Errorf("back up keyring: %w", err)
		}
		backup.Entries = append(backup.Entries, g.Backup())
	}
	file, err := recovery.Seal(to, backup)
	if err != nil {
		return err
	}
	err = replaceFile(b.Out, func(out io.Writer) error {
		_, err := out.Write(file)
		return err
	})
	if err != nil {
		return fmt.Errorf("write backup of keyrings: %w", err)
	}
	fmt.Fprintf(out, "%d keyrings are in %s\n", len(backup.Entries), b.Out)
	return nil
}

// KeyringRestore puts keyrings from a backup back into a database whose key-encryption key is lost.
type KeyringRestore struct {
	Database Database
	KEK      KEK
	Log      telemetry.LogOptions
	Identity string
	Backup   string
}

// Flags declares the settings.
func (r *KeyringRestore) Flags(fs *flag.FlagSet) {
	r.Database.Flags(fs)
	r.KEK.Flags(fs)
	r.Log.Flags(fs)
	fs.StringVar(&r.Identity, "identity", "", "`file` with the recovery key")
	fs.StringVar(&r.Backup, "backup", "", "`file` that keyring backup wrote")
}

// Check names everything that is wrong.
func (r *KeyringRestore) Check() error {
	var faults settings.Faults
	r.Database.Check(&faults)
	r.KEK.Check(&faults)
	needed(&faults, "identity", r.Identity)
	needed(&faults, "backup", r.Backup)
	return faults.Err()
}

const keyringRestoreName = "keyring restore"

// Run puts back what is not in order, and says of each keyring what it did. One that fails does not keep the others from it.
func (r *KeyringRestore) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	backup, err := r.open()
	if err != nil {
		return err
	}
	keys, err := r.KEK.opened(ctx)
	if err != nil {
		return err
	}
	core, err := openCore(ctx, r.Database, keys.Keys, references{}, log)
	if err != nil {
		return err
	}
	defer core.store.Close()
	groups, err := names(ctx, core)
	if err != nil {
		return err
	}
	entries := map[string]recovery.Entry{}
	for _, e := range backup.Entries {
		entries[e.Group] = e
	}
	fmt.Fprintf(out, "backup of %s\n", backup.At.UTC().Format(time.RFC3339))
	var errs []error
	for _, group := range append([]string{store.SystemGroup}, groups...) {
		text, err := restoreOne(ctx, core, group, entries)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "%s: %s\n", group, text)
	}
	return errors.Join(errs...)
}

func restoreOne(ctx context.Context, core *core, group string, entries map[string]recovery.Entry) (string, error) {
	e, ok := entries[group]
	if !ok {
		if _, err := core.sealer.Group(ctx, group); err != nil {
			return "", fmt.Errorf("keyring of group %s is not in the backup, and what there is cannot be used: %w", group, err)
		}
		return "is not in the backup and needs nothing", nil
	}
	done, err := core.sealer.Recover(ctx, e, keyringRestoreName, time.Now().UTC().Truncate(time.Microsecond))
	switch {
	case err != nil:
		return "", err
	case !done:
		return "needs nothing", nil
	default:
		return fmt.Sprintf("version %d is restored", e.Ring.Version()), nil
	}
}

func (r *KeyringRestore) open() (recovery.Backup, error) {
	identity, err := readIdentity(r.Identity)
	if err != nil {
		return recovery.Backup{}, err
	}
	info, err := os.Stat(r.Backup)
	if err != nil {
		return recovery.Backup{}, fmt.Errorf("read backup of keyrings: %w", err)
	}
	if info.Size() > recovery.MaxSize {
		return recovery.Backup{}, fmt.Errorf("backup of keyrings is larger than %d bytes", recovery.MaxSize)
	}
	file, err := os.ReadFile(r.Backup)
	if err != nil {
		return recovery.Backup{}, fmt.Errorf("read backup of keyrings: %w", err)
	}
	return recovery.Open(identity, file)
}

func readRecipient(path string) (recovery.Recipient, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return recovery.Recipient{}, fmt.Errorf("read public recovery key: %w", err)
	}
	return recovery.ParseRecipient(text)
}

func readIdentity(path string) (recovery.Identity, error) {
	secret, err := os.ReadFile(path)
	if err != nil {
		return recovery.Identity{}, fmt.Errorf("read recovery key: %w", err)
	}
	defer clear(secret)
	return recovery.ParseIdentity(secret)
}

func needed(faults *settings.Faults, name, value string) {
	if value == "" {
		faults.Addf(name, "is needed")
	}
}
