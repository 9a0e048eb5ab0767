package upstream_test

import (
	"syscall"
	"testing"
)

// backlogOfOne has a listener queue next to nothing.
func backlogOfOne(t *testing.T, raw syscall.RawConn) {
	t.Helper()
	if err := raw.Control(func(fd uintptr) {
		if err := syscall.Listen(int(fd), 0); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
