package sealedcache_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/state"
)

func TestACrashAtAnyStepLeavesAFileThatOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	older, newer := someSet(t, 1), someSet(t, 2)
	other := *newer // of another epoch, which is neither older nor newer
	other.Epoch++
	w.keep(older)
	c := w.cache()
	left := map[string]string{}
	c.OnStep(func(step string) {
		at := filepath.Join(t.TempDir(), "left")
		if err := os.CopyFS(at, os.DirFS(w.dir)); err != nil {
			t.Error(err)
		}
		left[fmt.Sprintf("%02d %s", len(left), step)] = at
	})
	for _, set := range []*state.Set{newer, &other} {
		c.Keep(w.id, w.key, set)
		c.Write()
	}
	if len(left) != 2*3*5 {
		t.Errorf("%d steps", len(left))
	}
	for step, dir := range left {
		w.dir = dir
		if _, err := w.open(); err != nil {
			t.Errorf("after a crash before step %s: %v", step, err)
		}
		// What comes next must be written whatever was left, and tolerate a crash as well.
		next := w.cache()
		next.OnStep(func(nextStep string) {
			if _, err := w.open(); err != nil {
				t.Errorf("after crashes before %s and %s: %v", step, nextStep, err)
			}
		})
		next.Keep(w.id, w.key, older)
		next.Write()
		if got, err := w.open(); err != nil || got.Revision != older.Revision {
			t.Errorf("the write after %s: %v", step, err)
		}
	}
}

func TestConfirmingMakesTheCacheYoungerWithoutWritingItAgain(t *testing.T) {
	t.Parallel()
	w, set := newWorld(t), someSet(t, 1)
	c := w.cache()
	c.Keep(w.id, w.key, set)
	c.Write()
	first := w.read(configFile)
	w.now = w.now.Add(50 * time.Minute)
	c.Keep(w.id, w.key, set)
	c.Write()
	if !bytes.Equal(first, w.read(configFile)) {
		t.Error("the same set was written again")
	}
	w.now = w.now.Add(50 * time.Minute)
	if _, err := w.open(); err != nil {
		t.Errorf("confirmed 50 minutes ago: %v", err)
	}
}

func TestARenewedKeyGetsAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	w, set := newWorld(t), someSet(t, 1)
	c := w.cache()
	c.Keep(w.id, w.key, set)
	c.Write()
	before := w.key
	w.key = newKey(t)
	c.Keep(w.id, w.key, set)
	c.Write()
	if _, err := w.open(); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	w.key = before
	if _, err := w.open(); err == nil {
		t.Error("the key from before opens it still")
	}
}

func TestAFailureToWriteIsCountedAndMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := os.WriteFile(w.dir, nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	c := w.cache()
	c.Keep(w.id, w.key, someSet(t, 1))
	c.Write()
	if !c.State().WriteFailed {
		t.Error("a write into no directory did not fail")
	}
	if err := os.Remove(w.dir); err != nil {
		t.Fatal(err)
	}
	c.Keep(w.id, w.key, someSet(t, 1))
	c.Write()
	if c.State().WriteFailed {
		t.Error("the next write failed, too")
	}
	if _, err := w.open(); err != nil {
		t.Error(err)
	}
}
