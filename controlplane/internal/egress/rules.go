// Package egress makes HTTP clients for places that tenants name. Nothing that a tenant writes, and nothing that the place
// answers, leads them to the control plane's own surroundings: each address is checked when it is dialled, after its name was
// resolved; redirects are not followed, proxies of the environment not used, and answers bounded in size and time.
// Package secretsource reads from tenants' secret providers with them, package issuance talks to ACME authorities, and
// package certstatus fetches revocation lists and answers of responders. What may be dialled is decided here for all of them.
package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrDenied is wrapped by the error of a connection that the rules forbid.
var ErrDenied = errors.New("address denied")

// Rules say which addresses may be dialled: public ones, and those of the ranges that the operator allows. They are immutable.
type Rules struct {
	allowed, classes []netip.Prefix
	own              func() ([]netip.Addr, error)
}

// New makes rules from the ranges that are allowed beside public addresses; own answers the addresses of this machine.
func New(allowed []string, own func() ([]netip.Addr, error)) (*Rules, error) {
	r := &Rules{own: own, classes: classes()}
	for _, text := range allowed {
		p, err := parse(text)
		if err != nil {
			return nil, err
		}
		r.allowed = append(r.allowed, p)
	}
	return r, nil
}

func parse(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, errAddr := netip.ParseAddr(text); errAddr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q is not an address range such as 10.20.0.0/16", text)
	}
	return p, nil
}

// Interfaces answers the addresses of this machine.
func Interfaces() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// classes are the ranges that are not public. Each has to be named by itself to be allowed: 0.0.0.0/0 names none of them.
func classes() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"127.0.0.0/8", "169.254.0.0/16", "fe80::/10", // this machine; link-local, with most metadata services
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // metadata: Alibaba, Azure, Oracle
		"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", // metadata, also of containers, apart from what is beside it
		"fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128", // metadata: AWS, Google over IPv6
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10", // private
		"0.0.0.0/8", "192.0.0.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", // nobody's
		"::/96", "64:ff9b:1::/48", "2001::/32", // this machine and IPv4 in other clothes
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Check returns nil if the address may be dialled.
func (r *Rules) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if err := r.check(a); err != nil {
		return err
	}
	if v4, ok := embedded(a); ok && r.check(v4) != nil {
		return fmt.Errorf("%w: %s leads to %s", ErrDenied, a, v4)
	}
	own, err := r.own()
	if err != nil { // then nobody can say that it is not ours
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	for _, o := range own {
		if o == a && !a.IsLoopback() && !r.names(a, netip.PrefixFrom(a, a.BitLen())) {
			return fmt.Errorf("%w: %s is an address of the control plane", ErrDenied, a)
		}
	}
	return nil
}

func (r *Rules) check(a netip.Addr) error {
	if !a.IsValid() {
		return fmt.Errorf("%w: it is no address", ErrDenied)
	}
	for _, class := range r.classes {
		if class.Contains(a) && !r.names(a, class) {
			return fmt.Errorf("%w: %s is not public, and not in a range that the operator of the control plane allows", ErrDenied, a)
		}
	}
	return nil
}

// names says whether an allowed range that lies inside the class contains the address.
func (r *Rules) names(a netip.Addr, class netip.Prefix) bool {
	for _, p := range r.allowed {
		if p.Contains(a) && p.Bits() >= class.Bits() {
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
