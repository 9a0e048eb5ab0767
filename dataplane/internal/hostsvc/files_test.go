package hostsvc_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func put(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadOnlyBelowTheirRoots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, narrow := filepath.Join(dir, "root"), filepath.Join(dir, "root", "narrow")
	secret := put(t, filepath.Join(dir, "secret"), "secret")
	put(t, filepath.Join(dir, "rootless"), "secret")
	put(t, filepath.Join(root, "a"), "A")
	put(t, filepath.Join(narrow, "b"), "B")
	put(t, filepath.Join(root, "versions", "1", "ca"), "CA")
	link(t, filepath.Join("versions", "1"), filepath.Join(root, "current"))
	link(t, filepath.Join("current", "ca"), filepath.Join(root, "ca"))
	link(t, secret, filepath.Join(root, "absolute"))
	link(t, filepath.Join("..", "secret"), filepath.Join(root, "relative"))
	link(t, dir, filepath.Join(root, "up"))
	link(t, filepath.Join("..", "a"), filepath.Join(narrow, "wider"))
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "long"), strings.Repeat("x", 1<<20+1))

	f, err := hostsvc.NewFiles([]string{root, narrow + "/"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"root/a": "A", "root/./narrow//b": "B", "root/narrow/../a": "A", "root/ca": "CA", "root/current/ca": "CA",
	} {
		if b, err := f.Read(dir + "/" + path); err != nil || string(b) != want {
			t.Errorf("Read(%s) = %q, %v, want %q", path, b, err, want)
		}
	}
	for _, path := range []string{"secret", "rootless", "root/../secret", "root", "root/", "root/narrow/../../secret"} {
		if b, err := f.Read(dir + "/" + path); err == nil {
			t.Errorf("Read(%s) = %q, want an error", path, b)
		}
		if s := f.Stamp(dir + "/" + path); s != "none" {
			t.Errorf("Stamp(%s) = %s, which tells that the file is there", path, s)
		}
	}
	for _, path := range []string{"absolute", "relative", "up/secret", "narrow/wider", "pipe", "long", "missing", "versions", "a/b"} {
		if b, err := f.Read(filepath.Join(root, path)); err == nil {
			t.Errorf("Read(root/%s) = %.20q, want an error", path, b)
		}
	}
	for _, path := range []string{"", "a", "./root/a"} {
		if _, err := f.Read(path); !errors.Is(err, hostsvc.ErrOutside) {
			t.Errorf("Read(%q) = %v, want ErrOutside", path, err)
		}
	}
}

func TestNoRootsNoFiles(t *testing.T) {
	t.Parallel()
	f, err := hostsvc.NewFiles(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(put(t, filepath.Join(t.TempDir(), "a"), "A")); !errors.Is(err, hostsvc.ErrOutside) {
		t.Errorf("Read() = %v, want ErrOutside", err)
	}
	if _, err := hostsvc.NewFiles([]string{"relative"}); err == nil {
		t.Error("NewFiles(relative) = nil error")
	}
}

func TestStampChangesWithTheFile(t *testing.T) {
	t.Parallel()
	path := put(t, filepath.Join(t.TempDir(), "a"), "A")
	f, err := hostsvc.NewFiles([]string{filepath.Dir(path)})
	if err != nil {
		t.Fatal(err)
	}
	first := f.Stamp(path)
	if again := f.Stamp(path); again != first || first == "none" {
		t.Errorf("stamps of an unchanged file are %s and %s", first, again)
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if second := f.Stamp(path); second == first {
		t.Errorf("the stamp of a changed file is %s again", second)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if s := f.Stamp(path); s != "none" {
		t.Errorf("the stamp of a removed file is %s", s)
	}
}
