// Package control lets `keyward dev start|stop` speak to the `keyward dev` that owns the processes: one JSON object each
// way over a socket in the state directory that only its owner can open.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Request asks for something to be done to a process.
type Request struct {
	Action string `json:"action"` // "start" or "stop"
	Name   string `json:"name"`
}

// reply is empty if it was done.
type reply struct {
	Error    string `json:"error,omitempty"`
	NotFound bool   `json:"not_found,omitempty"`
}

// ErrNotFound is for a name that nothing has.
var ErrNotFound = errors.New("no such process")

const (
	socketName = "control.sock"
	// patience bounds how long a start or stop may take.
	patience = 90 * time.Second
	// maxMessage is far more than any request or reply has.
	maxMessage = 64 << 10
)

// Serve answers requests until ctx ends.
func Serve(ctx context.Context, dir string, handle func(context.Context, Request) error) error {
	l, err := listen(dir)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept control connection: %w", err)
		}
		calls.Go(func() { answer(ctx, conn, handle) })
	}
}

func answer(ctx context.Context, conn net.Conn, handle func(context.Context, Request) error) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var req Request
	var rep reply
	if err := json.NewDecoder(io.LimitReader(conn, maxMessage)).Decode(&req); err != nil {
		rep.Error = "malformed request"
	} else if err := handle(ctx, req); err != nil {
		rep.Error, rep.NotFound = err.Error(), errors.Is(err, ErrNotFound)
	}
	_ = json.NewEncoder(conn).Encode(rep)
}

// Call sends a request to the `keyward dev` whose state directory this is, and waits until it is done.
func Call(ctx context.Context, dir string, req Request) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx, dir)
	if err != nil {
		return fmt.Errorf("no keyward dev runs with state directory %s: %w", dir, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return fmt.Errorf("send %s %s: %w", req.Action, req.Name, err)
	}
	var rep reply
	if err := json.NewDecoder(io.LimitReader(conn, maxMessage)).Decode(&rep); err != nil {
		return fmt.Errorf("%s %s: keyward dev ended meanwhile: %w", req.Action, req.Name, err)
	}
	switch {
	case rep.NotFound:
		return &failure.Error{Code: failure.NotFound, Err: errors.New(rep.Error)}
	case rep.Error != "":
		return errors.New(rep.Error)
	}
	return nil
}

// listen replaces a socket that an earlier, killed run left; the caller holds the directory's lock.
func listen(dir string) (net.Listener, error) {
	_ = os.Remove(filepath.Join(dir, socketName))
	var l net.Listener
	err := atShortPath(dir, func(path string) (err error) {
		l, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for keyward dev start and stop: %w", err)
	}
	if err := os.Chmod(filepath.Join(dir, socketName), 0o600); err != nil {
		return nil, fmt.Errorf("protect control socket: %w", err)
	}
	return l, nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	var conn net.Conn
	err := atShortPath(dir, func(path string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// maxSocketPath is what fits into sockaddr_un on every system.
const maxSocketPath = 100

// atShortPath calls fn with a path of the socket that fits into a socket address, however deep the directory is.
func atShortPath(dir string, fn func(path string) error) error {
	path := filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer syscall.Close(fd)
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", fd, socketName))
}
