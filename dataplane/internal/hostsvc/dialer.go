package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"keyward.dev/shared/check/address"
)

// ErrDenied is wrapped by the error of a dial that egress rules forbid.
var ErrDenied = errors.New("address denied by upstream_networks")

// EgressRules say which addresses may be dialled. Make them with NewEgressRules; they are immutable.
type EgressRules struct {
	allow, deny []netip.Prefix
	unsafe      address.Classes
}

// NewEgressRules makes rules from the ranges of upstream_networks.
func NewEgressRules(allow, deny []string) (*EgressRules, error) {
	r := &EgressRules{unsafe: address.Unsafe()}
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
	for _, v4 := range address.Embedded(a) { // only the unsafe and denied ranges matter for these
		if r.check(v4) != nil {
			return fmt.Errorf("%w: %s leads to %s", ErrDenied, a, v4)
		}
	}
	return nil
}

func (r *EgressRules) check(a netip.Addr) error {
	if contains(r.deny, a) {
		return fmt.Errorf("%w: %s", ErrDenied, a)
	}
	if r.unsafe.Denies(a, r.allow) {
		return fmt.Errorf("%w: %s is a link-local, metadata or unspecified address", ErrDenied, a)
	}
	return nil
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
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
func (d *Dialer) DialContext(ctx context.Context, network, hostPort string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("dial %s: network %q is not TCP", hostPort, network)
	}
	c, err := d.dialer.DialContext(ctx, network, hostPort)
	if err != nil {
		return nil, fmt.Errorf("dial upstream: %w", err)
	}
	return c, nil
}

func (d *Dialer) control(_, to string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(to)
	if err != nil {
		return fmt.Errorf("%w: %q is no address", ErrDenied, to)
	}
	return d.rules.Check(ap.Addr())
}
