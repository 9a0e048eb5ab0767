package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// restoreBackup puts a backup into a database: all of it, in one transaction, or nothing. Before it writes anything the file
// has been read to its end and every keyring in it opened.
func (r *Restore) restoreBackup(ctx context.Context, out, terminal io.Writer, log *slog.Logger) error {
	keys, err := r.KEK.opened(ctx)
	if err != nil {
		return err
	}
	identity, err := optionalIdentity(r.Identity)
	if err != nil {
		return err
	}
	b, err := openBackup(ctx, r.In, keys, identity, terminal)
	if err != nil {
		return err
	}
	defer b.file.Close()
	l := &backupLoad{backup: b, log: log, told: newSummary(b.header, b.manifest), shown: newProgress(terminal, "restoring", b.size), at: time.Now()}
	l.told.File = r.In
	if err := l.wrap(ctx, keys); err != nil {
		return err
	}
	migrate := Migrate{Database: r.Database, RuntimeRole: r.RuntimeRole, RuntimePassword: r.RuntimePassword}
	migrated, err := migrate.config(ctx, log)
	if err != nil {
		return err
	}
	err = store.Load(ctx, store.LoadConfig{
		Migrate: migrated,
		Schema:  b.manifest.Schema, Replace: r.Replace, Fill: l.fill, Settle: l.settle,
	})
	if errors.Is(err, store.ErrNotEmpty) {
		return fmt.Errorf("%w; --replace gives up what is in it", err)
	}
	if err != nil {
		return fmt.Errorf("restore backup: %w", err)
	}
	if l.told.Valid, err = r.valid(ctx, l.told.Groups, log); err != nil {
		return fmt.Errorf("the backup is restored; list what is valid again: %w", err)
	}
	return l.told.print(out, r.Output)
}

// backupLoad is a backup on its way into a database.
type backupLoad struct {
	backup *openedBackup
	log    *slog.Logger
	told   summary
	shown  *progress
	at     time.Time
	// wrapped are the keyrings that no key of this process unwraps, wrapped anew; by uid.
	wrapped map[string]store.Keyring
}

// wrap asks the key-encryption key before anything is locked.
func (l *backupLoad) wrap(ctx context.Context, keys *openKeys) error {
	l.wrapped = map[string]store.Keyring{}
	s := sealer.NewWith(nil, keys.Keys)
	for _, g := range l.backup.manifest.Groups {
		if _, role := keys.Find(g.KEK); role != kek.RoleMissing {
			continue
		}
		row, err := s.Wrapped(ctx, l.backup.groups[g.UID], l.at.UTC().Truncate(time.Microsecond))
		if err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		l.wrapped[g.UID] = row
	}
	return nil
}

// fill reads the file a second time; what it says now has to be what it said before.
func (l *backupLoad) fill(ctx context.Context, into *store.Loading) error {
	rows := map[string]int64{}
	c, err := l.backup.each(ctx, l.shown, func(table string, columns []string, content io.Reader) error {
		have, err := into.Columns(ctx, table)
		if err != nil {
			return err
		}
		if !sameColumns(have, columns) {
			return fmt.Errorf("%w: table %s has other columns than this schema", backup.ErrFormat, table)
		}
		rows[table], err = into.Copy(ctx, table, columns, content)
		return err
	})
	if err != nil {
		return err
	}
	for _, t := range c.Tables {
		if rows[t.Name] != t.Rows {
			return fmt.Errorf("%w: table %s has %d rows, not %d", backup.ErrMalformed, t.Name, rows[t.Name], t.Rows)
		}
	}
	return nil
}

func sameColumns(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// settle begins a new epoch of every group, the installation's own first: by that replicas that run notice.
func (l *backupLoad) settle(ctx context.Context, into *store.Loading) error {
	groups := slices.Clone(l.told.Groups)
	slices.SortStableFunc(groups, func(a, b groupSummary) int {
		return systemFirst(a.UID) - systemFirst(b.UID)
	})
	for i := range groups {
		g := &groups[i]
		if err := into.Group(ctx, g.Name, func(ctx context.Context, tx *store.GroupTx) error { return l.group(ctx, tx, g) }); err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
	}
	l.told.Groups = groups
	return nil
}

func systemFirst(uid string) int {
	if uid == store.SystemUID {
		return 0
	}
	return 1
}

func (l *backupLoad) group(ctx context.Context, tx *store.GroupTx, g *groupSummary) error {
	was := slices.IndexFunc(l.backup.manifest.Groups, func(m backup.Group) bool { return m.UID == g.UID })
	if head := tx.Head(); head.GroupUID != g.UID || !bytes.Equal(head.MAC, l.backup.manifest.Groups[was].MAC) {
		return fmt.Errorf("%w: its head is another one than the manifest says", backup.ErrMalformed)
	}
	if row, ok := l.wrapped[g.UID]; ok {
		if err := tx.PutKeyring(ctx, row); err != nil {
			return err
		}
		g.Rewrapped, g.KEK = true, row.KEKID
	}
	epoch := configsvc.Epoch{
		Actor: restoreName, At: l.at, Detail: fmt.Sprintf("from backup %s of %s", l.backup.header.ID, l.backup.header.At.Format(time.RFC3339)),
	}
	_, began, err := epoch.Begin(ctx, tx, l.backup.groups[g.UID], l.log)
	g.NewEpoch = strconv.FormatUint(began, 10)
	return err
}

// valid lists the tokens that are good now.
func (r *Restore) valid(ctx context.Context, groups []groupSummary, log *slog.Logger) (*validTokens, error) {
	s, err := r.Database.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	v, now := &validTokens{Admin: []tokenSummary{}, Join: []tokenSummary{}}, time.Now()
	admin, err := s.AdminTokens(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range admin {
		if t.ExpiresAt.IsZero() || t.ExpiresAt.After(now) {
			v.Admin = append(v.Admin, tokenSummary{ID: t.ID, Name: t.Name})
		}
	}
	for _, g := range groups {
		joins, err := s.JoinTokens(ctx, g.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range joins {
			if t.ExpiresAt.After(now) && t.Used < t.Uses {
				v.Join = append(v.Join, tokenSummary{ID: t.ID, Name: t.Description, Group: g.Name})
			}
		}
	}
	return v, nil
}
