// Package certmap says which client certificate goes with which upstream: a list of domains, each with a certificate, of
// which the most specific one decides. Admission and the gateway's compilation read the lists with it, and agree.
//
// The package is pure: no sockets, no files, no clock.
package certmap

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/match"
)

const anything = "*"

// Map is a list of domains with their certificates. The nil Map is empty.
type Map struct {
	by map[string]string // normal form of a domain: certificate
}

// ErrNoCertificate is what is wrong with an entry without a certificate.
var ErrNoCertificate = errors.New("has no certificate")

// New returns the map of a list. What is wrong with an entry is told by its index; the map then is not to be used.
func New(list []*configv1.UpstreamCertificate) (*Map, map[int]error) {
	m, wrong := &Map{by: make(map[string]string, len(list))}, map[int]error{}
	for i, e := range list {
		domain, err := Parse(e.GetDomain())
		if err == nil {
			if _, twice := m.by[domain]; twice {
				err = fmt.Errorf("%s is in the list already", domain)
			}
		}
		if err == nil && e.GetCertificate() == "" {
			err = ErrNoCertificate
		}
		if err != nil {
			wrong[i] = err
			continue
		}
		m.by[domain] = e.GetCertificate()
	}
	return m, wrong
}

// Parse returns the normal form of a domain: `host:port`, `host`, `*.parent:port`, `*.parent` or `*`, in lower case and
// without a trailing dot; an address of IPv6 stands in brackets.
func Parse(domain string) (normal string, err error) {
	if err := foreign(domain); err != nil {
		return "", err
	}
	if domain == anything {
		return domain, nil
	}
	rest, wild := strings.CutPrefix(domain, "*.")
	if strings.Contains(rest, anything) {
		return "", errors.New("a star stands for the first label, as in *.example.com, or alone for everything")
	}
	host, port, ported, err := split(rest)
	if err != nil {
		return "", err
	}
	host, address, err := normalHost(host)
	switch {
	case err != nil:
		return "", err
	case wild && address:
		return "", errors.New("a star goes with names, not with addresses")
	case wild:
		host = "*." + host
	}
	if ported {
		if !validPort(port) {
			return "", fmt.Errorf("%q is not a port; ports are 1 to 65535", port)
		}
		host += ":" + port
	}
	return host, nil
}

// foreign tells what belongs to a URL, not to a domain.
func foreign(domain string) error {
	switch {
	case domain == "":
		return errors.New("must not be empty")
	case strings.Contains(domain, "://"):
		return errors.New("is a URL; a domain has no scheme: write host or host:port")
	case strings.ContainsAny(domain, "/?#@"):
		return errors.New("is more than a host name and a port")
	}
	return nil
}

// split divides a host, which may be an address in brackets, from its port.
func split(text string) (host, port string, ported bool, err error) {
	if !strings.HasPrefix(text, "[") {
		host, port, ported = strings.Cut(text, ":")
		if strings.Contains(port, ":") {
			return "", "", false, errors.New("an address of IPv6 stands in brackets")
		}
		return host, port, ported, nil
	}
	end := strings.IndexByte(text, ']')
	if end < 0 {
		return "", "", false, errors.New("a bracket is not closed")
	}
	host, rest := text[:end+1], text[end+1:]
	if rest == "" {
		return host, "", false, nil
	}
	if port, ported = strings.CutPrefix(rest, ":"); !ported {
		return "", "", false, errors.New("only a port can follow an address")
	}
	return host, port, true, nil
}

var errHost = errors.New("is not a host name or address; international names are written with A-labels (xn--…)")

// normalHost returns the normal form of a name or address and says which it is.
func normalHost(text string) (host string, address bool, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		switch {
		case err != nil || !a.Is6() || a.Zone() != "":
			return "", false, errors.New("there is no address of IPv6 between the brackets")
		case a.Is4In6():
			return a.Unmap().String(), true, nil
		}
		return "[" + a.String() + "]", true, nil
	}
	raw, err := match.Host(nil, []byte(text))
	if err != nil {
		return "", false, errHost
	}
	host = string(raw)
	if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") != "" {
		return host, false, nil
	}
	// A name that ends in a number is an address of IPv4 or nothing (WHATWG URL, "ends in a number").
	if a, err := netip.ParseAddr(host); err != nil || !a.Is4() {
		return "", false, errHost
	}
	return host, true, nil
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port[0] != '0'
}

// Pick returns the certificate for an upstream, host:port, from the first level that has one; empty if none has. Within a
// level `host:port` goes before `host`, that before `*.parent:port`, that before `*.parent`, and that before `*`. A star
// stands for exactly one label of a name. It fails if the upstream is none that could be told from others.
func Pick(upstream string, levels ...*Map) (certificate string, err error) {
	text, port, ported, err := split(upstream)
	if err != nil {
		return "", err
	}
	host, address, err := normalHost(text)
	if err != nil {
		return "", err
	}
	if !ported || !validPort(port) {
		return "", errors.New("has no port")
	}
	keys := []string{host + ":" + port, host}
	if parent := match.Parent([]byte(host)); parent != nil && !address {
		keys = append(keys, "*."+string(parent)+":"+port, "*."+string(parent))
	}
	keys = append(keys, anything)
	for _, m := range levels {
		if m == nil {
			continue
		}
		for _, k := range keys {
			if c, ok := m.by[k]; ok {
				return c, nil
			}
		}
	}
	return "", nil
}
