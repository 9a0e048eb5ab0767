package server

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// v2 makes a header of version 2.
func v2(command, family byte, addresses []byte) string {
	b := append([]byte(proxyV2Begin), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	return string(append(b, addresses...))
}

func addresses(from, to string, more ...byte) []byte {
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	out := append(a.Addr().AsSlice(), b.Addr().AsSlice()...)
	out = binary.BigEndian.AppendUint16(out, a.Port())
	out = binary.BigEndian.AppendUint16(out, b.Port())
	return append(out, more...)
}

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, header, from string
		refused            bool
	}{
		{name: "version 1, IPv4", header: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", from: "192.0.2.1:56324"},
		{name: "version 1, IPv6", header: "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", from: "[2001:db8::1]:1"},
		{name: "version 1, the proxy itself", header: "PROXY UNKNOWN ffff::1 ::2 1 2\r\n"},
		{name: "version 1, other family", header: "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", refused: true},
		{name: "version 1, port too large", header: "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", refused: true},
		{name: "version 1, port with a leading zero", header: "PROXY TCP4 192.0.2.1 192.0.2.2 01 443\r\n", refused: true},
		{name: "version 1, port with a sign", header: "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n", refused: true},
		{name: "version 1, zone", header: "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", refused: true},
		{name: "version 1, too few words", header: "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", refused: true},
		{name: "version 1, two spaces", header: "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", refused: true},
		{name: "version 1, too long", header: "PROXY TCP4 " + strings.Repeat("1", 120), refused: true},
		{name: "version 1, unknown protocol", header: "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", refused: true},
		{name: "version 2, IPv4", header: v2(0x21, 0x11, addresses("192.0.2.1:5", "192.0.2.2:6")), from: "192.0.2.1:5"},
		{name: "version 2, IPv6", header: v2(0x21, 0x21, addresses("[2001:db8::1]:5", "[2001:db8::2]:6")), from: "[2001:db8::1]:5"},
		{name: "version 2, with more behind the addresses", header: v2(0x21, 0x11, addresses("192.0.2.1:5", "192.0.2.2:6", 4, 0, 1, 0)), from: "192.0.2.1:5"},
		{name: "version 2, the proxy itself", header: v2(0x20, 0x00, nil)},
		{name: "version 2, unknown family", header: v2(0x21, 0x00, nil)},
		{name: "version 2, addresses too short", header: v2(0x21, 0x11, make([]byte, 11)), refused: true},
		{name: "version 2, UDP", header: v2(0x21, 0x12, make([]byte, 12)), refused: true},
		{name: "version 2, unknown command", header: v2(0x22, 0x11, make([]byte, 12)), refused: true},
		{name: "version 2, version 3", header: v2(0x31, 0x11, make([]byte, 12)), refused: true},
		{name: "version 2, too long", header: v2(0x21, 0x11, make([]byte, proxyV2Max+1)), refused: true},
		{name: "a request", header: "GET / HTTP/1.1\r\n\r\n", refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, n, err := parseProxyHeader([]byte(tt.header + "GET /"))
			if tt.refused {
				if err == nil {
					t.Errorf("parseProxyHeader() = %v, %d, want an error", from, n)
				}
				return
			}
			if err != nil || n != len(tt.header) {
				t.Fatalf("parseProxyHeader() = %d, %v, want %d", n, err, len(tt.header))
			}
			if want, _ := netip.ParseAddrPort(tt.from); from != want {
				t.Errorf("parseProxyHeader() = %v, want %v", from, want)
			}
			for i := range len(tt.header) {
				if _, n, err := parseProxyHeader([]byte(tt.header[:i])); n != 0 || err != nil {
					t.Fatalf("parseProxyHeader() of the first %d bytes = %d, %v, want to wait for more", i, n, err)
				}
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET"))
	f.Add([]byte(v2(0x21, 0x11, addresses("192.0.2.1:5", "192.0.2.2:6"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		from, n, err := parseProxyHeader(b)
		if n < 0 || n > len(b) || err != nil && (n != 0 || from.IsValid()) {
			t.Fatalf("parseProxyHeader() = %v, %d, %v", from, n, err)
		}
		if n == 0 {
			return
		}
		// What stands behind the header makes no difference, and less than the header is not enough.
		if again, m, err := parseProxyHeader(b[:n]); again != from || m != n || err != nil {
			t.Fatalf("parseProxyHeader() of the header alone = %v, %d, %v, want %v, %d", again, m, err, from, n)
		}
		if _, m, err := parseProxyHeader(b[:n-1]); m != 0 || err != nil {
			t.Fatalf("parseProxyHeader() of a part = %d, %v", m, err)
		}
	})
}
