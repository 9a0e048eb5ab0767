// Package address says what addresses are, for those who dial what others have named: which are never meant unless somebody says
// so, and which IPv4 address is behind one of IPv6. Gateways judge upstreams by it, and the control plane what its groups have
// it call. It decides nothing alone: what is allowed its callers know. It is pure.
package address

import "net/netip"

// Classes are ranges of addresses each of which has to be named by itself to be allowed.
type Classes struct{ ranges []netip.Prefix }

// Unsafe are addresses through which the machine's own credentials could be read: link-local ones, the metadata services of
// clouds, and no address, which reaches this machine past rules on loopback.
func Unsafe() Classes {
	return classes(
		"169.254.0.0/16", "fe80::/10", // link-local; most metadata services
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", // metadata: Alibaba, Azure, Oracle
		"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", // metadata, also of containers, apart from what is beside it
		"fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128", // metadata: AWS, Google over IPv6
		"0.0.0.0/8", "::/128",
	)
}

// NotPublic are those, and all others that are not public.
func NotPublic() Classes {
	all := classes(
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10", // this machine; private
		"192.0.0.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", // nobody's
		"::/96", "64:ff9b:1::/48", "2001::/32", // this machine and IPv4 in other clothes
	)
	return Classes{append(all.ranges, Unsafe().ranges...)}
}

func classes(ranges ...string) (c Classes) {
	for _, s := range ranges {
		c.ranges = append(c.ranges, netip.MustParsePrefix(s))
	}
	return c
}

// Denies reports whether an address, without a zone and not IPv4 inside IPv6, is in a class inside of which no allowed range
// has it: 0.0.0.0/0 names none of them, and 169.254.0.0/16 not 169.254.169.254.
func (c Classes) Denies(a netip.Addr, allowed []netip.Prefix) bool {
	for _, class := range c.ranges {
		if class.Contains(a) && !named(a, class, allowed) {
			return true
		}
	}
	return false
}

func named(a netip.Addr, class netip.Prefix, allowed []netip.Prefix) bool {
	for _, p := range allowed {
		if p.Contains(a) && p.Bits() >= class.Bits() {
			return true
		}
	}
	return false
}

// Embedded are the IPv4 addresses to which something on the way could forward an address of IPv6: gateways of NAT64 (RFC 6052, RFC
// 8215, in the form of 96 bits) and 6to4 (RFC 3056), relays of Teredo (RFC 4380), and who still reads IPv4-compatible addresses (RFC
// 4291).
func Embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return nil
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case in(b, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0), in(b, 0, 0x64, 0xff, 0x9b, 0, 1):
		return []netip.Addr{last}
	case in(b, 0x20, 0x02):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case in(b, 0x20, 0x01, 0, 0):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case in(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) && !a.IsLoopback() && !a.IsUnspecified():
		return []netip.Addr{last}
	}
	return nil
}

func in(b [16]byte, prefix ...byte) bool { return string(b[:len(prefix)]) == string(prefix) }
