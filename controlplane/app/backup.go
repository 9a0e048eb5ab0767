package app

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Backup writes everything that is stored to one file, as it was at one moment. Replicas may run.
type Backup struct {
	Database  Database
	KEK       KEK
	Log       telemetry.LogOptions
	Recipient string
	Out       string
	Output    string
}

// Flags declares the settings.
func (b *Backup) Flags(fs *flag.FlagSet) {
	b.Database.Flags(fs)
	b.KEK.Flags(fs)
	b.Log.Flags(fs)
	fs.StringVar(&b.Recipient, "recipient", "", "`file` with the public half of the recovery key, which keyring recovery-key printed")
	fs.StringVar(&b.Out, "out", "", "`file` to write the backup to; one that is there is replaced when the new one is whole")
	outputFlag(fs, &b.Output)
}

// Check names everything that is wrong.
func (b *Backup) Check() error {
	var faults settings.Faults
	b.Database.Check(&faults)
	b.KEK.Check(&faults)
	needed(&faults, "recipient", b.Recipient)
	needed(&faults, "out", b.Out)
	checkOutput(&faults, b.Output)
	return faults.Err()
}

// Run writes the backup and says what is in it. The file is whole or not there.
func (b *Backup) Run(ctx context.Context, out, terminal io.Writer, log *slog.Logger) error {
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
	options := backup.Options{At: time.Now(), Program: telemetry.Version(), KEK: keys.Current, Recipient: to}
	var told summary
	err = replaceFile(b.Out, func(file io.Writer) error {
		return core.store.InImage(ctx, func(ctx context.Context, image *store.Image) error {
			told, err = writeBackup(ctx, file, image, core.sealer, options, terminal)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	told.File = b.Out
	return told.print(out, b.Output)
}

func writeBackup(
	ctx context.Context, file io.Writer, image *store.Image, s *sealer.Sealer, o backup.Options, terminal io.Writer,
) (summary, error) {
	groups, keyrings, err := readGroups(ctx, image, s, o)
	if err != nil {
		return summary{}, err
	}
	all, err := image.Size(ctx)
	if err != nil {
		return summary{}, err
	}
	shown := newProgress(terminal, "backing up", all)
	defer shown.end()
	w, err := backup.Create(ctx, file, o)
	if err != nil {
		return summary{}, err
	}
	for _, table := range store.BackupTables() {
		columns, err := image.Columns(ctx, table)
		if err != nil {
			return summary{}, err
		}
		err = w.Table(table, columns, func(out io.Writer) (int64, error) {
			return image.Copy(ctx, table, columns, io.MultiWriter(out, shown))
		})
		if err != nil {
			return summary{}, err
		}
	}
	if err := w.Keyrings(keyrings); err != nil {
		return summary{}, err
	}
	m, err := w.Close(backup.Manifest{Schema: image.Schema(), Groups: groups})
	return newSummary(w.Header(), m), err
}

// readGroups opens the keyring of every group and holds it against the head: a backup that opens nothing is none.
func readGroups(ctx context.Context, image *store.Image, s *sealer.Sealer, o backup.Options) (groups []backup.Group, sealed []byte, err error) {
	heads, err := image.Heads(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(heads) == 0 {
		return nil, nil, errNotBootstrapped
	}
	rings := recovery.Backup{At: o.At}
	for _, head := range heads {
		row, err := image.Keyring(ctx, head.GroupUID)
		if err != nil {
			return nil, nil, fmt.Errorf("group %s: %w", head.Group, err)
		}
		g, err := s.Stored(ctx, head, row)
		if err != nil {
			return nil, nil, fmt.Errorf("group %s, see check-db: %w", head.Group, err)
		}
		rings.Entries = append(rings.Entries, g.Backup())
		groups = append(groups, manifestGroup(head, row))
	}
	sealed, err = recovery.Seal(o.Recipient, rings)
	return groups, sealed, err
}

func manifestGroup(h store.Head, k store.Keyring) backup.Group {
	return backup.Group{
		UID: h.GroupUID, Name: h.Group, Epoch: h.Epoch, Revision: h.Revision, Resources: h.ResourceCount, Digest: h.Digest[:],
		KeyringVersion: h.KeyringVersion, AuditSeq: h.AuditSeq, AuditHead: h.AuditHead, MAC: h.MAC, UpdatedAt: h.UpdatedAt,
		KEK: k.KEKID, Keyring: k.Wrapped,
	}
}
