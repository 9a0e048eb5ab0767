package status

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"keyward.dev/shared/run"
)

// Serve serves the status port until ctx ends.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return run.Group(ctx,
		func(context.Context) error {
			if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve status: %w", err)
			}
			return nil
		},
		func(ctx context.Context) error {
			<-ctx.Done()
			return s.Close()
		})
}
