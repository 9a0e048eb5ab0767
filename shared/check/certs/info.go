package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// Describe fills in what the versions of a certificate say of themselves. What cannot be read is left alone.
func Describe(c *configv1.Certificate) {
	for _, s := range Slots(c) {
		s.Version.Info = VersionInfo(s.Version)
	}
}

// Authorities is what the certificates of authorities say of themselves; nothing if they cannot be read.
func Authorities(c *configv1.CaCertificate) []*configv1.CertificateInfo {
	all, _ := parseAll(c.GetCertificates(), maxAuthorities)
	var out []*configv1.CertificateInfo
	for _, ca := range all {
		out = append(out, Info(ca))
	}
	return out
}

// End is until when a certificate can be presented, or the first of the authorities is valid; false for resources of other
// kinds, and for what cannot be read.
func End(m proto.Message) (time.Time, bool) {
	switch m := m.(type) {
	case *configv1.Certificate:
		set, _ := Open(m)
		return set.End(), set.Current != nil
	case *configv1.CaCertificate:
		all, _ := parseAll(m.GetCertificates(), maxAuthorities)
		var first time.Time
		for _, c := range all {
			if first.IsZero() || c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		return first, len(all) > 0
	default:
		return time.Time{}, false
	}
}

// Chain is the chain of a version in stored form, nil if it cannot be read.
func Chain(v *configv1.CertificateVersion) []*x509.Certificate {
	chain, _ := parseAll(v.GetChain(), maxChain)
	return chain
}

// VersionInfo is what a version in stored form, or with its key hidden, says of itself; nil if it cannot be read.
func VersionInfo(v *configv1.CertificateVersion) *configv1.CertificateInfo {
	chain, reason := parseAll(v.GetChain(), maxChain)
	if reason != "" {
		return nil
	}
	info := Info(chain[0])
	info.HasPrivateKey = v.GetPrivateKey().GetValue() != nil || v.GetPrivateKey().GetSet()
	for _, c := range chain[1:] {
		info.Chain = append(info.Chain, printable(c.Subject.String()))
	}
	return info
}

// Info is what a certificate says of itself.
func Info(c *x509.Certificate) *configv1.CertificateInfo {
	sum := sha256.Sum256(c.Raw)
	public := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return &configv1.CertificateInfo{
		Id:           hex.EncodeToString(sum[:]),
		Fingerprint:  strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"),
		PublicKey:    hex.EncodeToString(public[:]),
		Subject:      printable(c.Subject.String()),
		Issuer:       printable(c.Issuer.String()),
		Serial:       c.SerialNumber.Text(16),
		Sans:         sans(c),
		NotBefore:    timestamppb.New(c.NotBefore),
		NotAfter:     timestamppb.New(c.NotAfter),
		KeyAlgorithm: algorithm(c),
	}
}

func sans(c *x509.Certificate) []string {
	var out []string
	for _, name := range c.DNSNames {
		out = append(out, printable(name))
	}
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	for _, mail := range c.EmailAddresses {
		out = append(out, printable(mail))
	}
	for _, uri := range c.URIs {
		out = append(out, printable(uri.String()))
	}
	return out
}

func algorithm(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA-" + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return c.PublicKeyAlgorithm.String()
	}
}

// Title names a certificate for people: its common name, else its first name, else its serial number.
func Title(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return fmt.Sprintf("%.64q", c.Subject.CommonName)
	case len(c.DNSNames) > 0:
		return fmt.Sprintf("%.64q", c.DNSNames[0])
	default:
		return "of serial number " + c.SerialNumber.Text(16)
	}
}

// printable makes text of what a certificate says: it may hold any bytes, and answers are UTF-8 without control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
