package app

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/settings"
)

// TestOnlyARestoreMakesAReplicaBeginAnew: another epoch of the installation that its keyring does not authenticate is logged,
// once, and nothing else.
func TestOnlyARestoreMakesAReplicaBeginAnew(t *testing.T) {
	t.Parallel()
	db, dir := storetest.New(t), t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	kek := KEK{Lookup: func(name string) (string, bool) { return strings.Repeat("5f", 32), name == "KEYWARD_KEK" }}
	runtime, owner := Database{URL: settings.NewSecret(db.Runtime)}, Database{URL: settings.NewSecret(db.Owner)}
	b := Bootstrap{Database: runtime, KEK: kek, TrustDomain: "keyward.test", Group: "default"}
	if err := b.Run(t.Context(), io.Discard, quiet); err != nil {
		t.Fatal(err)
	}
	var public, logged bytes.Buffer
	file, recipient := filepath.Join(dir, "whole"), filepath.Join(dir, "key.pub")
	if err := (&RecoveryKey{Identity: filepath.Join(dir, "key")}).Run(&public); err != nil {
		t.Fatal(err)
	}
	err := replaceFile(recipient, func(out io.Writer) error { _, err := out.Write(public.Bytes()); return err })
	if err != nil {
		t.Fatal(err)
	}
	backup := Backup{Database: runtime, KEK: kek, Recipient: recipient, Out: file}
	if err := backup.Run(t.Context(), io.Discard, io.Discard, quiet); err != nil {
		t.Fatal(err)
	}
	keys, err := kek.open()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReplacement(t.Context(), db.Store, keys.Keys, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if r.happened(t.Context()) {
		t.Error("nothing happened")
	}
	db.Exec(t, `update heads set epoch = epoch + 1 where group_uid = '`+store.SystemUID+`'`)
	for range 3 {
		if r.happened(t.Context()) {
			t.Error("an epoch that does not verify is taken for a restore")
		}
	}
	if n := strings.Count(logged.String(), "cannot be verified"); n != 1 {
		t.Errorf("it was logged %d times:\n%s", n, logged.String())
	}
	restore := Restore{Database: owner, KEK: kek, In: file, Replace: true, RuntimeRole: db.RuntimeRole}
	if err := restore.Run(t.Context(), io.Discard, io.Discard, quiet); err != nil {
		t.Fatal(err)
	}
	if !r.happened(t.Context()) {
		t.Error("a restore is not noticed")
	}
}
