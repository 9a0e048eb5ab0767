package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	statusHeadTimeout  = 5 * time.Second
	statusWriteTimeout = 30 * time.Second
	statusIdleTimeout  = 2 * time.Minute
	statusHeadBytes    = 8 << 10
	statusDrain        = time.Second
)

// ServeStatus serves a status handler on l until ctx ends, and closes l. Whoever reaches the port may be slow or hostile,
// so everything about a connection is bounded.
func ServeStatus(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: statusHeadTimeout,
		WriteTimeout:      statusWriteTimeout,
		IdleTimeout:       statusIdleTimeout,
		MaxHeaderBytes:    statusHeadBytes,
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusDrain)
		defer cancel()
		if err := s.Shutdown(grace); err != nil {
			_ = s.Close()
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-drained
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve status: %w", err)
}
