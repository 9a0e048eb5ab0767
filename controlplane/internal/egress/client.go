package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Config says what a client is for.
type Config struct {
	// Networks narrow down where it may connect to; none: nothing beside the rules does.
	Networks []netip.Prefix
	// Roots are the authorities it believes; nil: the system's.
	Roots *x509.CertPool
	// ServerName is whom the certificate has to be for; empty: the host of the URL.
	ServerName string
	// Timeout bounds a request with its answer.
	Timeout time.Duration
	// MaxBody bounds an answer, in bytes.
	MaxBody int64
}

// What is wrong with an answer, or a request. Errors wrap them.
var (
	ErrRedirect  = errors.New("the answer is a redirect, which is not followed")
	ErrTooLarge  = errors.New("the answer is too large")
	errPlaintext = errors.New("the address must begin with https://")
)

// Client makes a client.
func (r *Rules) Client(c Config) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout, KeepAlive: 30 * time.Second}
	dialer.Control = func(_, address string, _ syscall.RawConn) error { return r.dial(address, c.Networks) }
	return &http.Client{
		Timeout: c.Timeout,
		Transport: &bounded{max: c.MaxBody, next: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots, ServerName: c.ServerName},
			DialContext:     dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.Timeout,
			ResponseHeaderTimeout: c.Timeout, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 30 * time.Second,
			MaxIdleConnsPerHost: 2, MaxConnsPerHost: 8, DisableCompression: true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
	}
}

// Control refuses connections that the rules forbid: a net.Dialer calls it after names were resolved, with the very address that
// it is about to connect to.
func (r *Rules) Control(_, address string, _ syscall.RawConn) error { return r.dial(address, nil) }

func (r *Rules) dial(address string, networks []netip.Prefix) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it is no address", ErrDenied)
	}
	return r.within(networks, ap.Addr())
}

func (r *Rules) within(networks []netip.Prefix, a netip.Addr) error {
	if err := r.Check(a); err != nil {
		return err
	}
	plain := a.WithZone("").Unmap()
	for _, p := range networks {
		if p.Contains(plain) {
			return nil
		}
	}
	if len(networks) > 0 {
		return fmt.Errorf("%w: %s is not in the provider's networks", ErrDenied, plain)
	}
	return nil
}

// bounded refuses redirects, which some libraries follow by themselves, requests in the clear, and long answers.
type bounded struct {
	next http.RoundTripper
	max  int64
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, errPlaintext
	}
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close() // nothing of it is used
		return nil, ErrRedirect
	}
	resp.Body = &limited{ReadCloser: resp.Body, left: b.max}
	return resp, nil
}

// CloseIdleConnections is called by the client's method of that name.
func (b *bounded) CloseIdleConnections() {
	if t, ok := b.next.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// limited fails where io.LimitReader would pretend that the answer ends.
type limited struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, ErrTooLarge
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
