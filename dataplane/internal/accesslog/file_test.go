package accesslog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"keyward.dev/dataplane/internal/accesslog"
)

func TestAMovedFileIsReplacedAndNoLineLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	f, err := accesslog.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, end := running(t, f)
	const turns, lines = 10, 500
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		for range turns * lines {
			l.Observe(request(), accesslog.Outcome{Status: 200})
		}
	}()
	for i := range turns {
		if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
			t.Fatal(err)
		}
		if err := f.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	<-observed
	end()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != turns+1 {
		t.Fatalf("files are %v, %v", files, err)
	}
	n := 0
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			parse(t, line)
			n++
		}
	}
	if n != turns*lines || l.Dropped() != 0 {
		t.Errorf("%d lines in all files, %d dropped, want %d and none", n, l.Dropped(), turns*lines)
	}
}

func TestAFileThatCannotBeReopenedIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	f, err := accesslog.OpenFile(filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err == nil {
		t.Error("Reopen() = nil without a directory")
	}
	if _, err := f.Write([]byte("line\n")); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(moved, "access.log")); err != nil || string(content) != "line\n" {
		t.Errorf("the moved file has %q, %v", content, err)
	}
}
