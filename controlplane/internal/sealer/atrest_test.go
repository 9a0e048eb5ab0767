package sealer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/testkit/pgtest"
)

// TestNeitherTablesNorFilesHoldPlainText writes a canary everywhere something is sealed and looks for it in a copy of
// every table and in all files of the server, its write-ahead log included.
func TestNeitherTablesNorFilesHoldPlainText(t *testing.T) {
	t.Parallel()
	canary, marker := "canary-"+rand.Text(), "marker-"+rand.Text()
	w := newWorld(t)
	w.put(t, w.a, 1, marker, canary)
	system, err := w.sealer.System(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := system.SealBlob("certificate_authorities", "c1", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	err = w.Store.InSystem(t.Context(), func(ctx context.Context, tx *store.GroupTx) error {
		return tx.CreateAuthority(ctx, store.Authority{
			ID: "c1", Kind: "root", State: "current", Certificate: []byte("certificate"), Sealed: sealed, NotBefore: now(), NotAfter: now(),
			CreatedAt: now(),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	tables := w.Tables(t)
	if len(tables) < 14 {
		t.Errorf("only %d tables were copied", len(tables))
	}
	for table, content := range tables {
		if bytes.Contains(content, []byte(canary)) {
			t.Errorf("table %s holds the canary", table)
		}
	}
	if !bytes.Contains(tables["resources"], []byte(marker)) {
		t.Error("the copies do not even hold the name, which is in the clear: the search proves nothing")
	}
	w.Exec(t, "checkpoint")
	if found := filesWith(t, pgtest.ForTest(t).Dir(), canary); len(found) > 0 {
		t.Errorf("files of the server hold the canary: %v", found)
	}
	wal := 0
	for _, name := range filesWith(t, pgtest.ForTest(t).Dir(), marker) {
		if strings.Contains(name, "pg_wal") {
			wal++
		}
	}
	if wal == 0 {
		t.Error("the log of the server does not even hold the name: the search proves nothing")
	}
}

// filesWith searches all files below dir.
func filesWith(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			found = append(found, path)
		}
		return ignoreGone(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// ignoreGone is for files of other tests' databases, which come and go.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func TestGroupsDoNotShareKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sealed, err := w.a.Seal("routes", uid(1), "one", nil, 1, []byte("record"))
	if err != nil {
		t.Fatal(err)
	}
	row := store.Row{Kind: "routes", UID: uid(1), Name: "one", Revision: 1, Sealed: sealed}
	if _, err := w.a.Open(row); err != nil {
		t.Fatal(err)
	}
	for _, other := range []*sealer.Group{w.b, mustSystem(t, w)} {
		if got, err := other.Open(row); err == nil || got != nil {
			t.Errorf("group %s opened it", other.Name())
		}
	}
}

func mustSystem(t *testing.T, w *world) *sealer.Group {
	t.Helper()
	g, err := w.sealer.System(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}
