package control_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/control"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// serve answers requests in dir until the test ends.
func serve(t *testing.T, dir string, handle func(context.Context, control.Request) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, dir, handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

// call repeats until somebody listens.
func call(t *testing.T, dir string, req control.Request) error {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := control.Call(t.Context(), dir, req)
		if err == nil || !strings.Contains(err.Error(), "no keyward dev runs") || time.Now().After(deadline) {
			return err
		}
	}
}

func TestRequestsAreDoneAndRefusalsComeBack(t *testing.T) {
	t.Parallel()
	// A directory deeper than a socket address is long.
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	got := make(chan control.Request, 2)
	serve(t, dir, func(_ context.Context, req control.Request) error {
		got <- req
		if req.Name == "nobody" {
			return control.ErrNotFound
		}
		return nil
	})
	want := control.Request{Action: "stop", Name: "gateway-1"}
	if err := call(t, dir, want); err != nil {
		t.Fatal(err)
	}
	if req := <-got; req != want {
		t.Errorf("got %v, want %v", req, want)
	}
	if err := call(t, dir, control.Request{Action: "stop", Name: "nobody"}); failure.Code(err) != failure.NotFound || err.Error() != "no such process" {
		t.Errorf("Call(nobody) = %v, want the refusal", err)
	}
	info, err := os.Stat(filepath.Join(dir, "control.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", info, err)
	}
}

func TestNobodyThereIsSaid(t *testing.T) {
	t.Parallel()
	err := control.Call(t.Context(), t.TempDir(), control.Request{Action: "stop", Name: "x"})
	if err == nil || !strings.Contains(err.Error(), "no keyward dev runs") {
		t.Errorf("Call() = %v, want that nobody is there", err)
	}
}
