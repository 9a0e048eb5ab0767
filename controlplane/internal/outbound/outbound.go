// Package outbound calls addresses that tenants name, on behalf of the control plane, without lending them its place in the
// network: the machine itself, link-local addresses and the metadata services of clouds are not called unless the operator
// allows it. It goes through no proxy and follows nobody elsewhere. Package certstatus fetches with it.
package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// ErrDenied is wrapped by the error of a call that the rules forbid.
var ErrDenied = errors.New("address denied")

// denied are never called unless an allowed range lies inside them.
func denied() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128", // this machine
		"169.254.0.0/16", "fe80::/10", // link-local; most metadata services
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // Alibaba, Azure, Oracle
		"fd00:ec2::254/128", "fd20:ce::254/128", // AWS, Google over IPv6
		"224.0.0.0/4", "ff00::/8", "255.255.255.255/32", // many at once
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Caller calls addresses. It is safe for concurrent use.
type Caller struct {
	allow, deny []netip.Prefix
	client      *http.Client
}

// connecting bounds name resolution and connecting together.
const connecting = 5 * time.Second

// New returns a caller that may call what is denied by default where a range of allow lies inside it.
func New(allow []netip.Prefix) *Caller {
	c := &Caller{allow: allow, deny: denied()}
	dialer := &net.Dialer{Timeout: connecting, Control: c.control}
	c.client = &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: connecting, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// control sees the very address that is about to be connected to, after name resolution.
func (c *Caller) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is no address", ErrDenied, address)
	}
	return c.Check(ap.Addr())
}

// Check returns nil if the address may be called.
func (c *Caller) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	for _, d := range c.deny {
		if d.Contains(a) && !c.named(a, d) {
			return fmt.Errorf("%w: %s is one of the machine itself, link-local or a metadata service", ErrDenied, a)
		}
	}
	if v4, ok := embedded(a); ok {
		return c.Check(v4)
	}
	return nil
}

// named says whether an allowed range inside the denied one contains a: 0.0.0.0/0 does not name link-local addresses.
func (c *Caller) named(a netip.Addr, denied netip.Prefix) bool {
	for _, p := range c.allow {
		if p.Contains(a) && p.Bits() >= denied.Bits() {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a NAT64 (RFC 6052) or 6to4 (RFC 3056) gateway would forward to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96).Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// Get fetches what is there, at most limit bytes.
func (c *Caller) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return c.do(req, limit)
}

// Post sends a question and fetches the answer, at most limit bytes.
func (c *Caller) Post(ctx context.Context, url, contentType string, body []byte, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	return c.do(req, limit)
}

func (c *Caller) do(req *http.Request, limit int64) ([]byte, error) {
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch: it answers %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch: %w", err)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("fetch: it has more than %d bytes", limit)
	}
	return text, nil
}
