package issuance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/egress"
)

const (
	requestTimeout = 30 * time.Second
	// maxAnswer bounds what is read of an answer: a chain of certificates is far smaller.
	maxAnswer = 1 << 20
)

// transport asks an authority, and keeps what it said of when to come back.
type transport struct {
	base *http.Transport

	mu    sync.Mutex
	after time.Time // guarded by mu: not to be asked before, by its last refusal
}

// newTransport verifies authorities by roots; nil: those of the system.
func newTransport(rules *egress.Rules, roots *x509.CertPool) *transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: rules.Control}
	return &transport{base: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: requestTimeout, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}}
}

// client goes where it is told and nowhere else: authorities say their URLs in documents.
func (t *transport) client() *http.Client {
	return &http.Client{Transport: t, Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errors.New("the authority names a URL without https")
	}
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
		return resp, nil
	}
	t.refused(resp)
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(kind) == "application/problem+json" {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
		return resp, nil
	}
	// Errors repeat what no problem document is. It may be anything that answers at the address.
	_ = resp.Body.Close()
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(nil)), 0
	return resp, nil
}

func (t *transport) refused(resp *http.Response) {
	value := resp.Header.Get("Retry-After")
	after, err := http.ParseTime(value)
	if seconds, numeric := strconv.ParseUint(value, 10, 31); numeric == nil {
		after, err = time.Now().Add(time.Duration(seconds)*time.Second), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after = time.Time{}
	if err == nil {
		t.after = after
	}
}

func (t *transport) retryAfter() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.after
}
