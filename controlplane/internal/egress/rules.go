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
	"slices"

	"keyward.dev/shared/check/address"
)

// ErrDenied is wrapped by the error of a connection that the rules forbid.
var ErrDenied = errors.New("address denied")

// Rules say which addresses may be dialled: public ones, and those of the ranges that the operator allows. They are immutable.
type Rules struct {
	allowed   []netip.Prefix
	notPublic address.Classes
	own       func() ([]netip.Addr, error)
}

// New makes rules from the ranges that are allowed beside public addresses; own answers the addresses of this machine.
func New(allowed []string, own func() ([]netip.Addr, error)) (*Rules, error) {
	r := &Rules{own: own, notPublic: address.NotPublic()}
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

// Check returns nil if the address may be dialled.
func (r *Rules) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if err := r.check(a); err != nil {
		return err
	}
	for _, v4 := range address.Embedded(a) {
		if r.check(v4) != nil {
			return fmt.Errorf("%w: %s leads to %s", ErrDenied, a, v4)
		}
	}
	own, err := r.own()
	if err != nil { // then nobody can say that it is not ours
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	for _, o := range own {
		if o == a && !a.IsLoopback() && !slices.Contains(r.allowed, netip.PrefixFrom(a, a.BitLen())) {
			return fmt.Errorf("%w: %s is an address of the control plane", ErrDenied, a)
		}
	}
	return nil
}

func (r *Rules) check(a netip.Addr) error {
	if !a.IsValid() {
		return fmt.Errorf("%w: it is no address", ErrDenied)
	}
	if r.notPublic.Denies(a, r.allowed) {
		return fmt.Errorf("%w: %s is not public, and not in a range that the operator of the control plane allows", ErrDenied, a)
	}
	return nil
}
