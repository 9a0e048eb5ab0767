package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/problem"
)

// The types of PEM blocks in stored form.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// Bounds of what one field may hold.
const (
	maxChain       = 16
	maxAuthorities = 256
)

// faults collects what is wrong.
type faults []problem.Violation

func (f *faults) add(path, format string, args ...any) {
	*f = append(*f, problem.Violation{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// Open opens a certificate in stored form and tells everything that is wrong with it, with paths relative to it. Of what is
// told the set is not complete. Of references it says nothing: versions that have one have no key, and are not there if the
// chain is read with the key. Resolve puts in what references mean.
func Open(c *configv1.Certificate) (*Set, []problem.Violation) {
	var vs faults
	s := &Set{Name: c.GetName(), SNIs: c.GetSnis()}
	into := map[string]**Version{"current": &s.Current, "next": &s.Next, "previous": &s.Previous}
	seen := map[string]string{}
	for _, slot := range Slots(c) {
		if elsewhere(slot.Version) { // it is judged once it is read
			place := Reference(slot.Version) + "\n" + slot.Version.GetChain()
			if first := seen[place]; first != "" {
				vs.add(slot.Name, "is the same reference as %s", first)
			}
			seen[place] = slot.Name
			continue
		}
		v, found := openVersion(slot.Version)
		vs = append(vs, problem.Under(slot.Name, found)...)
		if v == nil {
			continue
		}
		if slot.Version.GetPassphrase() != nil {
			vs.add(slot.Name+".passphrase", "opens nothing: the private key is not encrypted")
		}
		*into[slot.Name] = v
		if first := seen[v.ID]; first != "" {
			vs.add(slot.Name, "is the same certificate as %s", first)
		}
		seen[v.ID] = slot.Name
		if slot.Name != "previous" && len(s.SNIs) > 0 {
			vs = append(vs, serves(slot, v, s.SNIs)...)
		}
	}
	for i, sni := range s.SNIs {
		if _, err := netip.ParseAddr(strings.Trim(sni, "[]")); err == nil {
			vs.add(problem.Index("snis", i), "is an address, which is never asked for as a server name")
		}
	}
	return s, vs
}

// serves tells why a version cannot be presented for the server names.
func serves(slot Slot, v *Version, snis []string) faults {
	var vs faults
	if key := slot.Version.GetPrivateKey(); key.GetValue() == nil && !key.GetSet() {
		vs.add(slot.Name+".private_key", "required: without it the certificate cannot be presented for its snis")
	}
	var missing []string
	for _, sni := range snis {
		if !v.covers(sni) {
			missing = append(missing, sni)
		}
	}
	switch {
	case len(missing) == 0:
	case len(v.Leaf().DNSNames) == 0:
		vs.add(slot.Name+".chain", "is for no host names (it has none among its subject alternative names), so not for snis")
	default:
		vs.add(slot.Name+".chain", "is not for %s of snis; it is for %s", strings.Join(missing, ", "), abridged(v.Leaf().DNSNames))
	}
	return vs
}

func hostForm(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// abridged lists names, at most a handful.
func abridged(names []string) string {
	const most = 10
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// openVersion opens one version, nil if its leaf cannot be read.
func openVersion(v *configv1.CertificateVersion) (*Version, faults) {
	var vs faults
	chain, reason := parseAll(v.GetChain(), maxChain)
	if reason != "" {
		vs.add("chain", "%s", reason)
		return nil, vs
	}
	out := &Version{ID: ID(chain[0].Raw), Chain: chain}
	if reason := Strength(chain[0].PublicKey); reason != "" {
		vs.add("chain", "%s", reason)
	}
	for i, c := range chain {
		if reason := outdated(c); reason != "" {
			vs.add("chain", "%s: %s", Title(c), reason)
		}
		if i > 0 && !Issued(c, chain[i-1]) {
			vs.add("chain", "%s did not issue %s, which stands before it", Title(c), Title(chain[i-1]))
		}
	}
	if text := v.GetPrivateKey().GetPlaintext(); text != "" {
		var reason string
		if out.Key, reason = parseKey(text); reason == "" && !SameKey(out.Key.Public(), chain[0].PublicKey) {
			reason = "does not belong to the certificate " + Title(chain[0])
		}
		if reason != "" {
			vs.add("private_key", "%s", reason)
			out.Key = nil
		}
	}
	return out, vs
}

// parseAll reads PEM that holds nothing but certificates.
func parseAll(text string, most int) ([]*x509.Certificate, string) {
	var out []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != certificateBlock {
			return nil, "holds something else than certificates"
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("the certificate at place %d cannot be read: %v", len(out)+1, err)
		}
		if out = append(out, c); len(out) > most {
			return nil, fmt.Sprintf("holds more than %d certificates", most)
		}
	}
	switch {
	case len(out) == 0:
		return nil, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, "has something behind its last certificate"
	}
	return out, ""
}

func parseKey(text string) (crypto.Signer, string) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != keyBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "is not one private key in PEM, PKCS#8"
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil { // its text could repeat something of the key
		return nil, "cannot be read"
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, "is of a kind that cannot sign"
	}
	return signer, Strength(signer.Public())
}

// Strength says why a public key is too weak, or of a kind that is not taken; empty if it is fine.
func Strength(key crypto.PublicKey) string {
	const kinds = "; taken are RSA from 2048 to 8192 bits, ECDSA on P-256, P-384 and P-521, and Ed25519"
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Sprintf("has an RSA key of %d bits%s", n, kinds)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return fmt.Sprintf("has an ECDSA key on %s%s", k.Curve.Params().Name, kinds)
		}
	case ed25519.PublicKey:
	default:
		return "has a key of another kind" + kinds
	}
	return ""
}

// outdated says why nobody believes the signature on a certificate; a root's own is not looked at.
func outdated(c *x509.Certificate) string {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			return "is signed with " + c.SignatureAlgorithm.String() + ", which is not safe"
		}
	default:
	}
	return ""
}

// Issued reports whether a certificate was issued by another one.
func Issued(issuer, c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil
}

// SameKey compares public keys.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// OpenCA opens the certificates of authorities in stored form and tells everything that is wrong with them.
func OpenCA(c *configv1.CaCertificate) ([]*x509.Certificate, []problem.Violation) {
	var vs faults
	all, reason := parseAll(c.GetCertificates(), maxAuthorities)
	if reason != "" {
		vs.add("certificates", "%s", reason)
		return nil, vs
	}
	first := map[string]int{}
	for i, ca := range all {
		if reason := authority(ca); reason != "" {
			vs.add("certificates", "the certificate at place %d, %s, %s", i+1, Title(ca), reason)
		}
		if j, ok := first[string(ca.Raw)]; ok {
			vs.add("certificates", "the certificate at place %d is the same as the one at place %d", i+1, j)
			continue
		}
		first[string(ca.Raw)] = i + 1
	}
	return all, vs
}

// authority says why a certificate is not one of an authority that can be believed.
func authority(c *x509.Certificate) string {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return "is not one of an authority (its basic constraints do not say CA)"
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return "may not sign certificates (by its key usage)"
	}
	if reason := Strength(c.PublicKey); reason != "" {
		return reason
	}
	return outdated(c)
}
