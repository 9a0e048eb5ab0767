package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// The PROXY protocol (haproxy.org, doc/proxy-protocol.txt): what a proxy on layer 4 says, before anything else, about the
// connection it passes on. Version 1 is a line of text, version 2 is binary.
const (
	proxyV1Max    = 107
	proxyV2Header = 16
	proxyV2Max    = 4 << 10 // with its TLVs, which are passed over
)

const (
	proxyV1Begin = "PROXY "
	proxyV2Begin = "\r\n\r\n\x00\r\nQUIT\n"
)

var errProxyHeader = errors.New("malformed PROXY header")

// readProxyHeader reads the header and nothing behind it. The address is invalid if the proxy speaks for itself, as in a
// health check.
func readProxyHeader(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var (
		from   netip.AddrPort
		length int
		failed error
		seen   = make([]byte, proxyV2Header+proxyV2Max)
	)
	// What is looked at stays in the socket until the whole header is there.
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), seen, syscall.MSG_PEEK)
		switch {
		case err == syscall.EAGAIN, err == syscall.EINTR:
			return false
		case err != nil:
			failed = err
		case n == 0:
			failed = io.ErrUnexpectedEOF
		default:
			from, length, failed = parseProxyHeader(seen[:n])
		}
		return failed != nil || length > 0
	})
	if err = errors.Join(err, failed); err != nil {
		return netip.AddrPort{}, err
	}
	_, err = io.ReadFull(c, seen[:length])
	return from, err
}

// parseProxyHeader returns the client's address and the length of the header, 0 while it is not complete.
func parseProxyHeader(b []byte) (from netip.AddrPort, length int, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(proxyV1Begin)):
		return parseProxyV1(b)
	case bytes.HasPrefix(b, []byte(proxyV2Begin)):
		return parseProxyV2(b)
	case strings.HasPrefix(proxyV1Begin, string(b)), strings.HasPrefix(proxyV2Begin, string(b)):
		return netip.AddrPort{}, 0, nil
	}
	return netip.AddrPort{}, 0, fmt.Errorf("%w: neither version", errProxyHeader)
}

func parseProxyV1(b []byte) (from netip.AddrPort, length int, err error) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 && len(b) < proxyV1Max {
		return from, 0, nil
	}
	if end < 0 || end+2 > proxyV1Max {
		return from, 0, fmt.Errorf("%w: line too long", errProxyHeader)
	}
	length = end + 2
	f := strings.Split(string(b[:end]), " ")
	if f[1] == "UNKNOWN" {
		return from, length, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return from, 0, errProxyHeader
	}
	source, err1 := netip.ParseAddr(f[2])
	target, err2 := netip.ParseAddr(f[3])
	port, err3 := parsePort(f[4])
	_, err4 := parsePort(f[5])
	if errors.Join(err1, err2, err3, err4) != nil || source.Is4() != (f[1] == "TCP4") || source.Is4() != target.Is4() || source.Zone() != "" {
		return from, 0, errProxyHeader
	}
	return netip.AddrPortFrom(source.Unmap(), port), length, nil
}

func parsePort(s string) (uint16, error) {
	if s == "" || len(s) > 5 || len(s) > 1 && s[0] == '0' {
		return 0, errProxyHeader
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errProxyHeader
		}
		n = 10*n + int(c-'0')
	}
	if n > 0xffff {
		return 0, errProxyHeader
	}
	return uint16(n), nil
}

func parseProxyV2(b []byte) (from netip.AddrPort, length int, err error) {
	if len(b) < proxyV2Header {
		return from, 0, nil
	}
	n := int(binary.BigEndian.Uint16(b[14:16]))
	command := b[12]
	if command != 0x20 && command != 0x21 || n > proxyV2Max {
		return from, 0, errProxyHeader
	}
	if len(b) < proxyV2Header+n {
		return from, 0, nil
	}
	length = proxyV2Header + n
	if command == 0x20 { // LOCAL: the proxy itself
		return from, length, nil
	}
	body := b[proxyV2Header:length]
	switch family := b[13]; {
	case family == 0x11 && n >= 12: // TCP over IPv4
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:10])), length, nil
	case family == 0x21 && n >= 36: // TCP over IPv6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:34])), length, nil
	case family == 0x00:
		return from, length, nil
	}
	return from, 0, errProxyHeader
}
