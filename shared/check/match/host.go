package match

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
)

// ErrHost is the error of Host. It is answered 400.
var ErrHost = errors.New("host is not a host name or address with an optional port")

var colon = []byte(":")

const (
	maxHost  = 253 // RFC 1035 section 2.3.4, without the trailing dot
	maxLabel = 63
)

// Host normalises the host of a request: lower case, without port and trailing dot. Names are A-labels; anything but
// letters, digits, hyphen and underscore is refused, as are empty labels. An IPv6 address loses its brackets and takes
// its shortest form. A host that is normal already is returned as a slice of raw without copying, else it is built in buf.
func Host(buf, raw []byte) ([]byte, error) {
	if len(raw) > 0 && raw[0] == '[' {
		return hostV6(buf, raw)
	}
	host, port, _ := bytes.Cut(raw, colon)
	if !validPort(port) {
		return nil, ErrHost
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	upper, ok := checkName(host)
	if !ok {
		return nil, ErrHost
	}
	if !upper {
		return host, nil
	}
	buf = append(buf[:0], host...)
	for i, c := range buf {
		if c >= 'A' && c <= 'Z' {
			buf[i] = c + 'a' - 'A'
		}
	}
	return buf, nil
}

// checkName checks a name and reports whether it has upper-case letters.
func checkName(host []byte) (upper, ok bool) {
	if len(host) == 0 || len(host) > maxHost {
		return false, false
	}
	label := 0
	for _, c := range host {
		switch {
		case c == '.':
			if label == 0 {
				return false, false
			}
			label = 0
			continue
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
		default:
			return false, false
		}
		label++
		if label > maxLabel {
			return false, false
		}
	}
	return upper, label > 0
}

func hostV6(buf, raw []byte) ([]byte, error) {
	end := bytes.IndexByte(raw, ']')
	if end < 0 {
		return nil, ErrHost
	}
	if rest := raw[end+1:]; len(rest) > 0 && (rest[0] != ':' || !validPort(rest[1:])) {
		return nil, ErrHost
	}
	addr, err := netip.ParseAddr(string(raw[1:end]))
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return nil, ErrHost
	}
	return addr.AppendTo(buf[:0]), nil
}

// validPort accepts the empty port of RFC 3986 section 3.2.3.
func validPort(port []byte) bool {
	if len(port) > 5 {
		return false
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return len(port) == 0 || n >= 1 && n <= 65535
}

// Pattern normalises a host pattern of a document: a host without port, or `*.` before the name of a parent domain.
func Pattern(p string) (string, error) {
	rest, wild := strings.CutPrefix(p, "*.")
	if strings.HasPrefix(rest, "[") || !wild && strings.Contains(rest, ":") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]"))
		if err != nil || wild || !addr.Is6() || addr.Zone() != "" {
			return "", ErrHost
		}
		return addr.String(), nil
	}
	if strings.Contains(rest, ":") {
		return "", ErrHost
	}
	host, err := Host(nil, []byte(rest))
	if err != nil {
		return "", err
	}
	if wild {
		return "*." + string(host), nil
	}
	return string(host), nil
}

// Parent returns the host without its first label, "" if it has only one or is an IPv6 address.
func Parent(host []byte) []byte {
	if i := bytes.IndexByte(host, '.'); i >= 0 && bytes.IndexByte(host, ':') < 0 {
		return host[i+1:]
	}
	return nil
}
