package issuance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrAddress says that an authority is not at a public address.
var ErrAddress = errors.New("is not a public address, and not in acme-network of the control plane")

// Networks says which addresses may be dialled: public ones, and these.
type Networks []netip.Prefix

// special are the networks whose addresses are not public, or stand for others (RFC 6890 and its registries).
func special() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/3", "2001::/23", "2001:db8::/32", "2002::/16", "4000::/2", "8000::/1", // 64:ff9b::/96, which stands for IPv4, is in the first
	}
}

// ParseNetworks reads networks in CIDR form.
func ParseNetworks(texts []string) (Networks, error) {
	var out Networks
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return nil, fmt.Errorf("%.64q is not a network such as 10.0.0.0/8", text)
		}
		out = append(out, p)
	}
	return out, nil
}

// Allows reports whether an address may be dialled.
func (n Networks) Allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	if !a.IsValid() || slices.ContainsFunc(n, in) {
		return a.IsValid()
	}
	return !slices.ContainsFunc(special(), func(text string) bool { return netip.MustParsePrefix(text).Contains(a) })
}

// control judges the address that is dialled, after its name was looked up.
func (n Networks) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !n.Allows(at.Addr()) {
		return fmt.Errorf("%s %w", at.Addr(), ErrAddress)
	}
	return nil
}

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
func newTransport(networks Networks, roots *x509.CertPool) *transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: networks.control}
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
