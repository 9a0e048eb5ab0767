package accesslog

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"keyward.dev/dataplane/internal/runtime"
)

// maxFields bounds how many header fields are logged.
const maxFields = 32

// view is what settings mean for a line.
type view struct {
	of     *runtime.AccessLog
	hidden uint64 // a bit for each member that is redacted
	fields []field
	form   runtime.ClientIPForm
}

// field is a header field that is logged.
type field struct {
	name string
	key  string // its name as a JSON string, and a colon
}

func newView(s *runtime.AccessLog) view {
	v := view{of: s}
	if s == nil {
		return v
	}
	v.form = s.ClientIP
	for m, key := range keys {
		if _, ok := s.Redact[memberName(key)]; ok {
			v.hidden |= 1 << m
		}
	}
	for _, name := range s.Headers {
		name = strings.ToLower(name)
		known := slices.ContainsFunc(v.fields, func(f field) bool { return f.name == name })
		if known || len(v.fields) == maxFields || carriesCredentials(name) || v.form != runtime.ClientIPFull && carriesAddress(name) {
			continue
		}
		v.fields = append(v.fields, field{name: name, key: strconv.Quote(name) + ":"})
	}
	return v
}

// carriesCredentials names the fields whose values are never logged. X-API-Key is where key-auth looks if it is not told.
func carriesCredentials(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key":
		return true
	}
	return false
}

// carriesAddress names the fields that would show the address which client_ip does not.
func carriesAddress(name string) bool {
	switch name {
	case "forwarded", "x-forwarded-for", "x-real-ip":
		return true
	}
	return false
}

// hashKey makes hashes of addresses useless to whoever does not know it. It is drawn for each process.
type hashKey [32]byte

// appendAddress appends as much of an address as is to be shown.
func appendAddress(b []byte, a netip.Addr, form runtime.ClientIPForm, key *hashKey) []byte {
	a = a.Unmap().WithZone("")
	switch form {
	case runtime.ClientIPTruncated:
		bits := 48
		if a.Is4() {
			bits = 24
		}
		if p, err := a.Prefix(bits); err == nil {
			a = p.Addr()
		}
	case runtime.ClientIPHashed:
		return appendHash(b, a, key)
	}
	return a.AppendTo(b)
}

// appendHash appends 64 bits of SHA-256 over the key and the address. Both have a fixed length, so nothing can be
// appended to what was hashed, and no HMAC is needed.
func appendHash(b []byte, a netip.Addr, key *hashKey) []byte {
	const digits = "0123456789abcdef"
	var in [len(key) + 16]byte
	copy(in[:], key[:])
	text := a.As16()
	copy(in[len(key):], text[:])
	sum := sha256.Sum256(in[:])
	for _, c := range sum[:8] {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
