package app

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"keyward.dev/dataplane/internal/accesslog"
)

// accessSink is where the access log goes: nowhere, to standard output, or to a file.
type accessSink struct {
	out  io.Writer
	file *accesslog.File
}

func openAccessSink(where string, stdout io.Writer) (accessSink, error) {
	switch where {
	case "off", "":
		return accessSink{}, nil
	case "stdout":
		return accessSink{out: stdout}, nil
	}
	f, err := accesslog.OpenFile(where)
	if err != nil {
		return accessSink{}, err
	}
	return accessSink{out: f, file: f}, nil
}

func (s accessSink) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// rotate opens the access log's file anew whenever the process gets SIGHUP, until ctx ends. Without a file the signal is
// taken as well: it must not end the process.
func (g *Gateway) rotate(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
		}
		if g.accessTo.file == nil {
			continue
		}
		if err := g.accessTo.file.Reopen(); err != nil {
			g.log.ErrorContext(ctx, "access log goes on in its old file", "err", err)
		}
	}
}
