package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/app"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// whole backs everything up and answers what was said.
func (d *drill) whole(t *testing.T, name string) string {
	t.Helper()
	b := app.Backup{Database: d.database(), KEK: key(lost), Recipient: d.path("key.pub"), Out: d.path(name), Output: "text"}
	var out bytes.Buffer
	if err := b.Run(t.Context(), &out, io.Discard, quiet()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// restored is what a restore prints.
type restored struct {
	Groups []struct {
		Name, Epoch string
		NewEpoch    string `json:"new_epoch"`
		Revision    int64
		Rewrapped   bool
	}
	Valid struct {
		Admin []struct{ ID, Name string }
	} `json:"valid_tokens"`
}

// into restores a backup into a database.
func (d *drill) into(t *testing.T, db *storetest.DB, kek, identity, name string, replace bool) (restored, error) {
	t.Helper()
	r := app.Restore{
		Database: app.Database{URL: settings.NewSecret(db.Owner)}, KEK: key(kek), In: d.path(name), Replace: replace,
		RuntimeRole: db.RuntimeRole, Output: "json",
	}
	if identity != "" {
		r.Identity = d.path(identity)
	}
	var out bytes.Buffer
	var told restored
	err := r.Run(t.Context(), &out, io.Discard, quiet())
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &told)
	}
	return told, err
}

func (d *drill) verify(t *testing.T, kek, identity, name string) error {
	t.Helper()
	v := app.BackupVerify{KEK: app.KEK{Lookup: func(name string) (string, bool) { return kek, kek != "" && name == "KEYWARD_KEK" }}, In: d.path(name), Output: "json"}
	if identity != "" {
		v.Identity = d.path(identity)
	}
	if err := v.Check(); err != nil {
		return err
	}
	return v.Run(t.Context(), io.Discard, io.Discard)
}

// unchanged are tables that a restore leaves as they were; it writes to heads, keyrings and audit.
var unchanged = []string{
	"groups", "resources", "changes", "keyring_terms", "admin_tokens", "join_tokens", "gateways", "certificate_authorities", "bundle_keys",
}

func TestABackupBringsEverythingBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kek, identity string
		rewrapped     bool
	}{
		"with the key-encryption key":                      {lost, "", false},
		"with the recovery key":                            {fresh, "key", true},
		"with the key-encryption key and the recovery key": {lost, "key", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrill(t)
			d.rotate(t, "default")
			said := d.whole(t, "backup")
			if !strings.Contains(said, "default: revision 1") {
				t.Errorf("backup said\n%s", said)
			}
			before, db := d.db.Tables(t), storetest.Empty(t)
			told, err := d.into(t, db, tc.kek, tc.identity, "backup", false)
			if err != nil {
				t.Fatal(err)
			}
			after := db.Tables(t)
			for _, table := range unchanged {
				if diff := cmp.Diff(before[table], after[table]); diff != "" {
					t.Errorf("%s (-want +got):\n%.300s", table, diff)
				}
			}
			if len(told.Groups) != 2 || told.Groups[0].Name != "system" || len(told.Valid.Admin) != 1 {
				t.Fatalf("restore said %+v", told)
			}
			for _, g := range told.Groups {
				if g.NewEpoch == "" || g.NewEpoch == g.Epoch || g.Rewrapped != tc.rewrapped {
					t.Errorf("group is %+v", g)
				}
			}
			d.db = db
			if err := d.check(t, tc.kek); err != nil {
				t.Errorf("check-db: %v", err)
			}
			if _, err := d.into(t, db, tc.kek, tc.identity, "backup", false); app.ExitCode(err) != 4 {
				t.Errorf("a second time: %v, exit code %d", err, app.ExitCode(err))
			}
		})
	}
}

// TestABackupIsRefusedBeforeAnythingIsWritten: into a database without even a schema, which it has to stay.
func TestABackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	d := newDrill(t)
	d.whole(t, "backup")
	d.key(t, "other")
	whole, err := os.ReadFile(d.path("backup"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kek, identity string
		bend          func(b []byte) []byte
		want          string
	}{
		"another key-encryption key":      {fresh, "", nil, "or recovery key"},
		"another recovery key":            {fresh, "other", nil, "it is sealed to recovery key"},
		"the right kek, another identity": {lost, "other", nil, "it is sealed to recovery key"},
		"a flipped bit at the end":        {lost, "", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "damaged"},
		"a flipped bit in the middle":     {fresh, "key", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "damaged"},
		"a flipped bit in the header":     {lost, "", func(b []byte) []byte { b[30] ^= 1; return b }, "does not open with these keys"},
		"cut off":                         {lost, "", func(b []byte) []byte { return b[:len(b)*2/3] }, "damaged"},
		"empty":                           {lost, "", func([]byte) []byte { return nil }, "damaged"},
		"of a later form":                 {lost, "", func(b []byte) []byte { b[15] = 9; return b }, "of form 9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := bytes.Clone(whole)
			if tc.bend != nil {
				file = tc.bend(file)
			}
			mine := &drill{db: d.db, dir: d.dir}
			path := "bent " + name
			if err := os.WriteFile(mine.path(path), file, 0o600); err != nil {
				t.Error(err)
			}
			db := storetest.Empty(t)
			for what, err := range map[string]error{
				"restore": func() error { _, err := mine.into(t, db, tc.kek, tc.identity, path, true); return err }(),
				"verify":  mine.verify(t, tc.kek, tc.identity, path),
			} {
				if err == nil || !strings.Contains(err.Error(), tc.want) || app.ExitCode(err) != 3 {
					t.Errorf("%s: %v (exit code %d), want %q", what, err, app.ExitCode(err), tc.want)
				}
			}
			if tables := db.Tables(t); len(tables) > 0 {
				t.Errorf("%d tables were made", len(tables))
			}
		})
	}
	for name, keys := range map[string][2]string{"kek": {lost, ""}, "identity": {"", "key"}, "both": {lost, "key"}} {
		if err := d.verify(t, keys[0], keys[1], "backup"); err != nil {
			t.Errorf("verify the whole one by %s: %v", name, err)
		}
	}
	if err := d.verify(t, "", "", "backup"); err == nil {
		t.Error("verify without a key")
	}
}

// TestARestoreReplacesOnlyWhenItIsTold gives up another installation, and brings back a token that was deleted.
func TestARestoreReplacesOnlyWhenItIsTold(t *testing.T) {
	t.Parallel()
	d := newDrill(t)
	d.whole(t, "backup")
	d.db.Exec(t, `update admin_tokens set deleted_at = now()`, `insert into groups (uid, name, created_at) values ('00000000-0000-4000-8000-000000000009', 'young', now())`)
	before := d.db.Tables(t)
	if _, err := d.into(t, d.db, lost, "", "backup", false); app.ExitCode(err) != 4 || !strings.Contains(err.Error(), "--replace") {
		t.Fatalf("into a database that is not empty: %v", err)
	}
	if diff := cmp.Diff(before, d.db.Tables(t)); diff != "" {
		t.Errorf("it changed (-want +got):\n%.500s", diff)
	}
	told, err := d.into(t, d.db, lost, "", "backup", true)
	if err != nil {
		t.Fatal(err)
	}
	if len(told.Valid.Admin) != 1 || told.Valid.Admin[0].Name != "bootstrap" {
		t.Errorf("valid again are %+v", told.Valid)
	}
	if err := d.check(t, lost); err != nil {
		t.Errorf("check-db: %v", err)
	}
}

func TestAGroupThatDoesNotVerifyIsNotBackedUp(t *testing.T) {
	t.Parallel()
	d := newDrill(t)
	d.db.Exec(t, `update heads set revision = revision + 1`)
	b := app.Backup{Database: d.database(), KEK: key(lost), Recipient: d.path("key.pub"), Out: d.path("backup"), Output: "text"}
	if err := b.Run(t.Context(), io.Discard, io.Discard, quiet()); err == nil || !strings.Contains(err.Error(), "check-db") {
		t.Errorf("backup = %v", err)
	}
	left, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.Contains(f.Name(), "backup") {
			t.Errorf("%s was left", f.Name())
		}
	}
}

func TestFlagsOfTheTwoRestoresDoNotMix(t *testing.T) {
	t.Parallel()
	base := app.Restore{Database: app.Database{URL: settings.NewSecret("postgres:///x")}, KEK: key(lost), Output: "text"}
	for name, tc := range map[string]struct {
		set  func(r *app.Restore)
		fine bool
	}{
		"neither":             {func(*app.Restore) {}, true},
		"a backup":            {func(r *app.Restore) { r.In, r.Replace = "x", true }, true},
		"a group":             {func(r *app.Restore) { r.Group, r.Force = "x", true }, true},
		"a group of a backup": {func(r *app.Restore) { r.In, r.Group = "x", "y" }, false},
		"replace nothing":     {func(r *app.Restore) { r.Replace = true }, false},
		"another output":      {func(r *app.Restore) { r.In, r.Output = "x", "xml" }, false},
	} {
		r := base
		tc.set(&r)
		if err := r.Check(); (err == nil) != tc.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}
