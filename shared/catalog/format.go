package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/certname"
)

var (
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@-]{0,126}[A-Za-z0-9])?$`)
	tokenForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")
	labelForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	pathForm  = regexp.MustCompile(`^/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*$`)
)

// ValidName reports whether a text can be the name of a resource or group.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// normalForm returns the one form in which a string of a format is kept, or why it is not of that format. The normal
// form of a normal form is itself.
func normalForm(format optionsv1.Format, text string) (normal, reason string) {
	ok := true
	normal = text
	switch format {
	case optionsv1.Format_FORMAT_HOST_PORT:
		normal, reason = hostPort(text)
	case optionsv1.Format_FORMAT_CIDR:
		normal, reason = cidr(text)
	case optionsv1.Format_FORMAT_URL:
		normal, reason = absoluteURL(text)
	case optionsv1.Format_FORMAT_HOST_PATTERN:
		normal, reason = hostPattern(text)
	case optionsv1.Format_FORMAT_REGEX:
		reason = regexReason(text)
	case optionsv1.Format_FORMAT_HEADER_NAME:
		if ok = tokenForm.MatchString(text); !ok {
			reason = fmt.Sprintf("%s is not a field name of 1 to 128 letters, digits and !#$%%&'*+-.^_`|~", quote(text))
		}
	case optionsv1.Format_FORMAT_METHOD:
		if ok = tokenForm.MatchString(text) && strings.ToUpper(text) == text; !ok {
			reason = fmt.Sprintf("%s is not a method; methods are upper-case words such as GET", quote(text))
		}
	case optionsv1.Format_FORMAT_NAME:
		if ok = nameForm.MatchString(text); !ok {
			reason = fmt.Sprintf("%s is not a name: 1 to 128 letters, digits and . _ @ -, with a letter or digit at both ends", quote(text))
		}
	case optionsv1.Format_FORMAT_PATH:
		if ok = pathForm.MatchString(text); !ok {
			reason = fmt.Sprintf("%s is not an absolute path: it begins with /, and anything but letters, digits and -._~!$&'()*+,;=:@ is percent-encoded", quote(text))
		}
	case optionsv1.Format_FORMAT_HOST:
		normal, reason = host(text)
	case optionsv1.Format_FORMAT_SHA256:
		normal, reason = sha256Hex(text)
	case optionsv1.Format_FORMAT_TLS_VERSION:
		normal, reason = tlsVersion(text)
	case optionsv1.Format_FORMAT_PROTOCOL:
		normal, reason = protocol(text)
	case optionsv1.Format_FORMAT_SUBJECT:
		normal, reason = subject(text)
	case optionsv1.Format_FORMAT_SAN:
		normal, reason = certname.ParseSAN(text)
	case optionsv1.Format_FORMAT_DN:
		normal, reason = certname.ParseSubject(text)
	default:
	}
	return normal, reason
}

func cidr(text string) (normal, reason string) {
	reason = fmt.Sprintf("%s is not an IP address or CIDR range", quote(text))
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()).String(), ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return text, reason
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return text, reason + ": it mixes IPv4 and IPv6"
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked().String(), ""
}

// hostName checks a host name or IPv4 address in lower case, without a trailing dot.
func hostName(host string) bool {
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if !labelForm.MatchString(l) {
			return false
		}
	}
	// A name that ends in a number is an IPv4 address or nothing (WHATWG URL, "ends in a number").
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		a, err := netip.ParseAddr(host)
		return err == nil && a.Is4()
	}
	return true
}

func hostPattern(text string) (normal, reason string) {
	host := strings.TrimSuffix(strings.ToLower(text), ".")
	if a, ok := bracketed(host); ok {
		return a, ""
	}
	parent, wild := strings.CutPrefix(host, "*.")
	if wild && strings.Trim(parent, "0123456789.") == "" || !hostName(parent) {
		hint := ""
		switch {
		case text == "*":
			hint = "; leave hosts out to take every host that no other route names"
		case strings.Contains(text, "*"):
			hint = "; a star stands alone in front: *.example.com"
		case strings.Contains(text, ":"):
			hint = "; a host is written without a port"
		case strings.Trim(text, asciiPrintable) != "":
			hint = "; write international names with A-labels (xn--…)"
		}
		return text, fmt.Sprintf("%s is not a host name%s", quote(text), hint)
	}
	return host, ""
}

// host returns the normal form of a host name or address.
func host(text string) (normal, reason string) {
	if a, ok := bracketed(text); ok {
		text = strings.Trim(a, "[]")
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return a.Unmap().String(), ""
	}
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	if !hostName(name) {
		return text, fmt.Sprintf("%s is not a host name or address, without a port", quote(text))
	}
	return name, ""
}

// subject returns the normal form of a name that a certificate may have.
func subject(text string) (normal, reason string) {
	if !strings.Contains(text, "://") {
		return host(text)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return text, "is not a URI of the form scheme://name/path"
	}
	return u.String(), ""
}

// sha256Hex reads a hash as tools print it: openssl in hex, curl and browsers in Base64.
func sha256Hex(text string) (normal, reason string) {
	if pairs := strings.Split(text, ":"); len(pairs) == sha256.Size && len(text) == hex.EncodedLen(sha256.Size)+sha256.Size-1 {
		text = strings.Join(pairs, "")
	}
	raw, err := hex.DecodeString(text)
	if len(text) != hex.EncodedLen(sha256.Size) {
		raw, err = base64.RawStdEncoding.Strict().DecodeString(strings.TrimSuffix(text, "="))
	}
	if err != nil || len(raw) != sha256.Size {
		return text, fmt.Sprintf("%s is not a SHA-256 hash, 64 digits in hex or 44 characters in Base64", quote(text))
	}
	return hex.EncodeToString(raw), ""
}

// tlsVersion takes the names that other products use, too; 771 and 772 are the numbers of the protocol.
func tlsVersion(text string) (normal, reason string) {
	switch text {
	case "1.2", "TLSv1.2", "771":
		return "1.2", ""
	case "1.3", "TLSv1.3", "772":
		return "1.3", ""
	default:
		return text, fmt.Sprintf("%s is not a version of TLS that is spoken: 1.2, 1.3", quote(text))
	}
}

func protocol(text string) (normal, reason string) {
	name, version, versioned := strings.Cut(text, "/")
	if !tokenForm.MatchString(name) || versioned && !tokenForm.MatchString(version) {
		return text, fmt.Sprintf("%s is not the name of a protocol, such as websocket", quote(text))
	}
	return strings.ToLower(text), ""
}

const asciiPrintable = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// bracketed returns the canonical form of an IPv6 address in brackets.
func bracketed(host string) (string, bool) {
	inner, ok := strings.CutPrefix(host, "[")
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, "]")
	a, err := netip.ParseAddr(inner)
	if !ok || err != nil || !a.Is6() || a.Zone() != "" {
		return "", false
	}
	return "[" + a.String() + "]", true
}

func hostPort(text string) (normal, reason string) {
	reason = fmt.Sprintf("%s is not host:port; an IPv6 address stands in brackets", quote(text))
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, reason
	}
	host, port := strings.TrimSuffix(strings.ToLower(text[:i]), "."), text[i+1:]
	if a, ok := bracketed(host); ok {
		host = a
	} else if !hostName(host) {
		return text, reason
	}
	if !validPort(port) {
		return text, reason + "; ports are 1 to 65535"
	}
	return host + ":" + port, ""
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port[0] != '0' && port[0] != '+'
}

func absoluteURL(text string) (normal, reason string) {
	if text == "" {
		return text, "must not be empty"
	}
	// User and password come first: the value is not repeated, it may hold a secret.
	u, err := url.Parse(text)
	if err != nil || u.User != nil || strings.Contains(text, "@") {
		return text, "is not a URL of the form http://host:port/path, without user and password"
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return text, "must have no query and no fragment"
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return text, fmt.Sprintf("%s does not begin with http:// or https://", quote(text))
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(host, ":") {
		a, ok := bracketed("[" + host + "]")
		if !ok {
			return text, fmt.Sprintf("%s has no host name or address", quote(text))
		}
		host = a
	} else if !hostName(host) {
		return text, fmt.Sprintf("%s has no host name or address", quote(text))
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if !validPort(port) {
			return text, fmt.Sprintf("%s has a bad port; ports are 1 to 65535", quote(text))
		}
		host += ":" + port
	}
	path := u.EscapedPath()
	if path != "" && !pathForm.MatchString(path) {
		return text, fmt.Sprintf("the path of %s is not one", quote(text))
	}
	return u.Scheme + "://" + host + path, ""
}

// maxRegexProgram bounds the compiled size of an expression: x{1000}{1000} is short and huge.
const maxRegexProgram = 10_000

// regexReason says why an expression is not usable, empty if it is.
func regexReason(text string) string {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		if e, ok := err.(*syntax.Error); ok { //nolint:errorlint // syntax.Parse returns this type unwrapped
			return fmt.Sprintf("is not an RE2 expression: %s", e.Code)
		}
		return "is not an RE2 expression"
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(prog.Inst) > maxRegexProgram {
		return "the expression is too large"
	}
	return ""
}
