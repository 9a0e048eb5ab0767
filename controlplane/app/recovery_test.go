package app_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
)

// lost and fresh are key-encryption keys: the one that was used, and the one after its loss.
var lost, fresh = strings.Repeat("5f", 32), strings.Repeat("a7", 32)

// drill is an installation with a recovery key.
type drill struct {
	db  *storetest.DB
	dir string
}

func newDrill(t *testing.T) *drill {
	t.Helper()
	d := &drill{db: storetest.New(t), dir: t.TempDir()}
	bootstrap(t, d.db, lost, settings.Secret{})
	d.key(t, "key")
	return d
}

func (d *drill) path(name string) string { return filepath.Join(d.dir, name) }

// key makes a recovery key and its public half, name.pub.
func (d *drill) key(t *testing.T, name string) {
	t.Helper()
	var public bytes.Buffer
	if err := (&app.RecoveryKey{Identity: d.path(name)}).Run(&public); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(name+".pub"), public.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *drill) database() app.Database { return app.Database{URL: settings.NewSecret(d.db.Runtime)} }

func key(text string) app.KEK {
	return app.KEK{Lookup: func(name string) (string, bool) { return text, name == "KEYWARD_KEK" }}
}

func (d *drill) backup(t *testing.T, name string) {
	t.Helper()
	b := app.KeyringBackup{Database: d.database(), KEK: key(lost), Recipient: d.path("key.pub"), Out: d.path(name)}
	if err := b.Run(t.Context(), io.Discard, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

func (d *drill) restore(t *testing.T, kek, identity, backup string) (string, error) {
	t.Helper()
	r := app.KeyringRestore{Database: d.database(), KEK: key(kek), Identity: d.path(identity), Backup: d.path(backup)}
	var out bytes.Buffer
	err := r.Run(t.Context(), &out, slog.New(slog.DiscardHandler))
	return out.String(), err
}

func (d *drill) check(t *testing.T, kek string) error {
	t.Helper()
	return (&app.CheckDB{Database: d.database(), KEK: key(kek)}).Run(t.Context(), io.Discard)
}

// sealer is one with the key that will be lost.
func (d *drill) sealer(t *testing.T) *sealer.Sealer {
	t.Helper()
	k, err := file.Parse([]byte(lost))
	if err != nil {
		t.Fatal(err)
	}
	return sealer.New(d.db.Store, k)
}

func (d *drill) rotate(t *testing.T, group string) {
	t.Helper()
	s := d.sealer(t)
	next, err := s.Prepare(t.Context(), sealer.Plan{Group: group, Action: sealer.Rotate, Actor: "test", At: time.Now()})
	if err == nil {
		err = s.Commit(t.Context(), group, next.ID, time.Now(), func(context.Context, *store.GroupTx) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestABackupOfKeyringsSurvivesTheKeyEncryptionKey(t *testing.T) {
	t.Parallel()
	d := newDrill(t)
	d.rotate(t, "default")
	d.rotate(t, store.SystemGroup)
	d.backup(t, "backup")
	if err := d.check(t, fresh); err == nil {
		t.Fatal("another key-encryption key opens everything")
	}
	if said, err := d.restore(t, lost, "key", "backup"); err != nil || strings.Contains(said, "restored") {
		t.Errorf("where nothing is lost: %v, said\n%s", err, said)
	}
	said, err := d.restore(t, fresh, "key", "backup")
	if err != nil || !strings.Contains(said, "default: version 2 is restored") || !strings.Contains(said, "system: version 2 is restored") {
		t.Fatalf("restore: %v, said\n%s", err, said)
	}
	if err := d.check(t, fresh); err != nil {
		t.Errorf("after the restore: %v", err)
	}
	if err := d.check(t, lost); err == nil {
		t.Error("the lost key still opens everything")
	}
	if said, err := d.restore(t, fresh, "key", "backup"); err != nil || strings.Contains(said, "restored") {
		t.Errorf("a second time: %v, said\n%s", err, said)
	}
}

func TestARestoreThatCannotBeWholeSaysSoAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		after    func(t *testing.T, d *drill)
		identity string
		want     string
	}{
		"a backup from before a rotation": {func(t *testing.T, d *drill) { d.rotate(t, "default") }, "key", "has version 1, the database 2"},
		"a group made since": {func(t *testing.T, d *drill) {
			if _, err := d.sealer(t).CreateGroup(t.Context(), sealer.NewGroup{Name: "young", Actor: "test", At: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}, "key", "group young is not in the backup"},
		"an altered head": {func(t *testing.T, d *drill) {
			d.db.Exec(t, `update heads set revision = revision + 1 where group_uid <> '`+store.SystemUID+`'`)
		}, "key", "does not authenticate the group's head"},
		"another recovery key": {func(t *testing.T, d *drill) { d.key(t, "other") }, "other", "sealed to another one"},
		"another installation": {func(t *testing.T, d *drill) {
			other := newDrill(t)
			d.db = other.db
		}, "key", "another group of that name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrill(t)
			d.backup(t, "backup")
			tc.after(t, d)
			before := d.db.Tables(t)
			_, err := d.restore(t, fresh, tc.identity, "backup")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("restore = %v, want %q", err, tc.want)
			}
			after := d.db.Tables(t)
			for _, table := range []string{"resources", "changes", "certificate_authorities", "groups"} {
				if !bytes.Equal(before[table], after[table]) {
					t.Errorf("%s changed", table)
				}
			}
			if name == "another recovery key" && !bytes.Equal(before["keyrings"], after["keyrings"]) {
				t.Error("keyrings changed")
			}
		})
	}
}

// TestAnOlderDatabaseTakesALaterBackup: a keyring has all it ever had, but for what was removed.
func TestAnOlderDatabaseTakesALaterBackup(t *testing.T) {
	t.Parallel()
	d := newDrill(t)
	d.db.Exec(t, `create table old_heads as table heads`, `create table old_keyrings as table keyrings`, `create table old_audit as table audit`)
	d.rotate(t, "default")
	d.backup(t, "backup")
	d.db.Exec(t, `delete from heads`, `insert into heads table old_heads`, `delete from keyrings`, `insert into keyrings table old_keyrings`,
		`delete from audit`, `insert into audit table old_audit`)
	if said, err := d.restore(t, fresh, "key", "backup"); err != nil || !strings.Contains(said, "default: version 2 is restored") {
		t.Fatalf("restore: %v, said\n%s", err, said)
	}
	if err := d.check(t, fresh); err != nil {
		t.Error(err)
	}
}

func TestARecoveryKeyIsNotWrittenOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := (&app.RecoveryKey{Identity: path}).Run(io.Discard); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	var out bytes.Buffer
	if err := (&app.RecoveryKey{Identity: path}).Run(&out); err == nil || out.Len() > 0 {
		t.Errorf("a second key was written over the first: %v", err)
	}
}
