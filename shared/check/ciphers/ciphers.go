// Package ciphers names the cipher suites, key exchanges and protocols of TLS that can be asked for, and says why others
// cannot. It is pure, and does not need crypto/tls. Admission and compilation go by it alike.
package ciphers

import (
	"slices"
	"strings"
)

// Suites are those of TLS 1.2 that can be asked for, with their numbers: forward secrecy and authenticated encryption.
func Suites() map[string]uint16 {
	return map[string]uint16{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256":       0xc02b,
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384":       0xc02c,
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256":         0xc02f,
		"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384":         0xc030,
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256":   0xcca8,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xcca9,
	}
}

// Curves are the key exchanges that can be asked for, with their numbers.
func Curves() map[string]uint16 {
	return map[string]uint16{
		"X25519MLKEM768": 4588, "SecP256r1MLKEM768": 4587, "SecP384r1MLKEM1024": 4589, "X25519": 29, "P-256": 23, "P-384": 24, "P-521": 25,
	}
}

// Protocols are those that can be negotiated by ALPN (RFC 7301), the preferred one first.
func Protocols() []string { return []string{"h2", "http/1.1"} }

// Reason says why a cipher suite cannot be asked for; empty if it can.
func Reason(name string) string {
	if _, ok := Suites()[name]; ok {
		return ""
	}
	const taken = "; taken are "
	suites := Names(Suites())
	switch {
	case name == "TLS_AES_128_GCM_SHA256", name == "TLS_AES_256_GCM_SHA384", name == "TLS_CHACHA20_POLY1305_SHA256":
		return "is of TLS 1.3, whose suites cannot be chosen: all of them are spoken. To forbid TLS 1.3 set max_version"
	case strings.HasPrefix(name, "TLS_RSA_"):
		return "has no forward secrecy" + taken + suites
	case strings.Contains(name, "_CBC_"), strings.Contains(name, "_RC4_"), strings.Contains(name, "_3DES_"), strings.Contains(name, "_NULL_"):
		return "has no authenticated encryption" + taken + suites
	default:
		return "is not known" + taken + suites
	}
}

// Names lists what a table has.
func Names(table map[string]uint16) string {
	all := make([]string, 0, len(table))
	for name := range table {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
