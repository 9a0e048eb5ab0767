package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ErrDenied is wrapped by the error of a dial that egress rules forbid.
var ErrDenied = errors.New("address denied by upstream_networks")

// defaultDenied are never dialled unless an allowed range lies inside them: link-local addresses and the metadata
// services of clouds, through which a tenant's route could read the machine's own credentials.
func defaultDenied() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"169.254.0.0/16", "fe80::/10", // link-local; most metadata services
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // Alibaba, Azure, Oracle
		"fd00:ec2::254/128", "fd20:ce::254/128", // AWS, Google over IPv6
		"0.0.0.0/8", "::/128", // dialling "no address" reaches this machine, past rules on loopback
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// EgressRules say which addresses may be dialled. Make them with NewEgressRules; they are immutable.
type EgressRules struct {
	allow, deny, builtin []netip.Prefix
}

// NewEgressRules makes rules from the ranges of upstream_networks.
func NewEgressRules(allow, deny []string) (*EgressRules, error) {
	r := &EgressRules{builtin: defaultDenied()}
	var err error
	if r.allow, err = ParsePrefixes(allow); err != nil {
		return nil, fmt.Errorf("parse allow: %w", err)
	}
	if r.deny, err = ParsePrefixes(deny); err != nil {
		return nil, fmt.Errorf("parse deny: %w", err)
	}
	return r, nil
}

// Check returns nil if the address may be dialled.
func (r *EgressRules) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if err := r.check(a); err != nil {
		return err
	}
	if len(r.allow) > 0 && !contains(r.allow, a) {
		return fmt.Errorf("%w: %s is not in allow", ErrDenied, a)
	}
	if v4, ok := embedded(a); ok && r.check(v4) != nil {
		return fmt.Errorf("%w: %s leads to %s", ErrDenied, a, v4)
	}
	return nil
}

func (r *EgressRules) check(a netip.Addr) error {
	if contains(r.deny, a) {
		return fmt.Errorf("%w: %s", ErrDenied, a)
	}
	for _, d := range r.builtin {
		if d.Contains(a) && !r.named(a, d) {
			return fmt.Errorf("%w: %s is a link-local, metadata or unspecified address", ErrDenied, a)
		}
	}
	return nil
}

// named says whether an allowed range inside the denied one contains a: 0.0.0.0/0 does not name link-local addresses.
func (r *EgressRules) named(a netip.Addr, denied netip.Prefix) bool {
	for _, p := range r.allow {
		if p.Contains(a) && p.Bits() >= denied.Bits() {
			return true
		}
	}
	return false
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a NAT64 (RFC 6052) or 6to4 (RFC 3056) gateway would forward to. Only the
// built-in and denied ranges matter for it, see Check.
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

// Dialer dials within egress rules. The check sees the very address the socket is about to connect to, after name
// resolution, so that no second answer of the resolver can lead elsewhere.
type Dialer struct {
	rules  *EgressRules
	dialer net.Dialer
}

// NewDialer makes a dialer; timeout bounds name resolution and connecting together.
func NewDialer(rules *EgressRules, timeout time.Duration) *Dialer {
	d := &Dialer{rules: rules}
	d.dialer = net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Control: d.control}
	return d
}

// DialContext connects to host:port over TCP.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("dial %s: network %q is not TCP", address, network)
	}
	c, err := d.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial upstream: %w", err)
	}
	return c, nil
}

func (d *Dialer) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is no address", ErrDenied, address)
	}
	return d.rules.Check(ap.Addr())
}
