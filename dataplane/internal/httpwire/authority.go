package httpwire

import "bytes"

// maxAuthority is more than a host name of 255 characters with a port needs.
const maxAuthority = 300

// validAuthority accepts host names of letters, digits, '-', '_' and '.', IPv4 addresses and IPv6 addresses in brackets,
// each with an optional port. User information is never accepted.
func validAuthority(b []byte) bool {
	if len(b) == 0 || len(b) > maxAuthority {
		return false
	}
	if b[0] == '[' {
		address, port, ok := bytes.Cut(b[1:], []byte{']'})
		return ok && validIPv6(address) && (len(port) == 0 || port[0] == ':' && validPort(port[1:]))
	}
	host, port, _ := bytes.Cut(b, []byte{':'})
	return len(host) > 0 && allOf(host, hostByte) && validPort(port)
}

// validPort accepts a decimal port, or nothing.
func validPort(b []byte) bool {
	port, ok := parseDecimal(b)
	return len(b) == 0 || ok && len(b) <= len("65535") && port <= 65535
}

// validIPv6 accepts the addresses of RFC 4291 section 2.2, without a zone. netip.ParseAddr would allocate a string.
func validIPv6(b []byte) bool {
	before, after, gap := bytes.Cut(b, []byte("::"))
	if !gap {
		return countGroups(b, true) == 8
	}
	n, m := countGroups(before, false), countGroups(after, true)
	return n >= 0 && m >= 0 && n+m < 8
}

// countGroups returns of how many 16-bit groups a part of an IPv6 address is; -1 if it is malformed. The last part may end
// with an IPv4 address.
func countGroups(b []byte, last bool) int {
	n := 0
	for more := len(b) > 0; more; n++ {
		var group []byte
		group, b, more = bytes.Cut(b, []byte{':'})
		if last && !more && validIPv4(group) {
			return n + 2
		}
		if len(group) == 0 || len(group) > 4 || !allOf(group, hexByte) {
			return -1
		}
	}
	return n
}

func validIPv4(b []byte) bool {
	n := 0
	for more := true; more; n++ {
		var octet []byte
		octet, b, more = bytes.Cut(b, []byte{'.'})
		v, ok := parseDecimal(octet)
		if !ok || v > 255 || len(octet) > 1 && octet[0] == '0' {
			return false
		}
	}
	return n == 4
}
