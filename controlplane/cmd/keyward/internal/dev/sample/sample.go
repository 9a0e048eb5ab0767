// Package sample is the upstream of `keyward dev`: a small HTTP server that answers with what it was sent, so that one
// sees what gateways forward.
package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxEcho bounds how much of a request body is counted.
const maxEcho = 64 << 20

// Serve answers on the listener until ctx ends.
func Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve sample upstream: %w", err)
	}
	return nil
}

// answer is what the sample upstream says.
type answer struct {
	Message string      `json:"message"`
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Host    string      `json:"host"`
	Header  http.Header `json:"header"`
	Body    int64       `json:"body_bytes"`
}

func echo(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxEcho))
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(answer{
		Message: "hello from the sample upstream", Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header, Body: n,
	})
}
