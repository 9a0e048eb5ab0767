// Package certinput reads certificates as people have them, PEM with certificates and a private key in any order and any usual
// form, encrypted or not, and brings them into the form in which they are stored and which shared/check/certs opens. It
// decides no rules about what it read, except what nobody can store. It is pure; the write path calls it before any lock,
// because opening an encrypted key is slow on purpose. Nothing it says repeats anything of a key or passphrase.
package certinput

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// maxBlocks bounds the PEM blocks of one version.
const maxBlocks = 64

// Version brings a version into stored form and tells what cannot be: paths are relative to it. A version that needs nothing
// done stays as it is. The passphrase is gone afterwards.
func Version(v *configv1.CertificateVersion, work *Work) []problem.Violation {
	r := &reader{passphrase: v.GetPassphrase().GetPlaintext(), work: work}
	given := v.GetPassphrase()
	if given.GetValue() != nil {
		v.Passphrase = nil
	}
	r.read("chain", v.GetChain())
	if text := v.GetPrivateKey().GetPlaintext(); text != "" {
		r.read("private_key", text)
		if len(r.keys) == 0 && len(r.violations) == 0 {
			r.fail("private_key", "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
		}
	}
	if r.passphrase != "" && !r.opened && len(r.violations) == 0 {
		r.fail("passphrase", "there is no encrypted private key that it could open")
	}
	chain, key := r.chain(), r.key()
	if len(r.violations) > 0 {
		redact(v)
		return problem.Sort(r.violations)
	}
	v.Chain = Encode(chain)
	if key != nil {
		v.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key.pem}}
	}
	return nil
}

// redact takes keys out of a chain that could not be read, so that whatever looks at it later finds none.
func redact(v *configv1.CertificateVersion) {
	if strings.Contains(v.GetChain(), "KEY") {
		v.Chain = ""
	}
}

// Encode writes certificates in PEM.
func Encode(chain []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder never fails
	}
	return b.String()
}

// reader collects what the PEM of a version holds.
type reader struct {
	passphrase string
	work       *Work
	// opened says that the passphrase was used.
	opened     bool
	certs      []*x509.Certificate
	keys       []*key
	violations []problem.Violation
}

// key is a private key in stored form.
type key struct {
	pem    string
	public crypto.PublicKey
	path   string
}

func (r *reader) fail(path, format string, args ...any) {
	r.violations = append(r.violations, problem.Violation{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// read takes up the blocks of a text. What stands around them, such as what openssl writes before each, is passed over.
func (r *reader) read(path, text string) {
	rest, n := []byte(text), 0
	for {
		var block *pem.Block
		before := rest
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if n++; n > maxBlocks {
			r.fail(path, "holds more than %d PEM blocks", maxBlocks)
			return
		}
		if skipped := before[:len(before)-len(rest)]; bytes.Count(skipped, []byte("-----BEGIN ")) > 1 {
			r.fail(path, "has a damaged block before the PEM block at place %d", n)
		}
		r.block(path, n, block)
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		r.fail(path, "has a damaged PEM block at place %d", n+1)
	}
}

func (r *reader) block(path string, n int, block *pem.Block) {
	switch {
	case block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.fail(path, "the certificate at place %d cannot be read: %v", n, err)
			return
		}
		if !slices.ContainsFunc(r.certs, c.Equal) {
			r.certs = append(r.certs, c)
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		k, reason := r.privateKey(block)
		if reason != "" {
			r.fail(path, "the private key at place %d %s", n, reason)
			return
		}
		k.path = path
		if !slices.ContainsFunc(r.keys, func(o *key) bool { return certs.SameKey(o.public, k.public) }) {
			r.keys = append(r.keys, k)
		}
	case block.Type == "EC PARAMETERS": // openssl writes them before a key; the key says them itself
	default:
		r.fail(path, "the PEM block at place %d is neither a certificate nor a private key", n)
	}
}

// key is the one private key, nil if there is none.
func (r *reader) key() *key {
	switch len(r.keys) {
	case 0:
		return nil
	case 1:
		return r.keys[0]
	}
	r.fail(r.keys[1].path, "there are %d private keys; a version has one", len(r.keys))
	return nil
}

// chain puts the certificates in order: the one that the key belongs to, or that issued none of the others, and then each
// one's issuer.
func (r *reader) chain() []*x509.Certificate {
	if len(r.certs) == 0 {
		if len(r.violations) == 0 {
			r.fail("chain", "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
		}
		return nil
	}
	leaf := r.leaf()
	if leaf == nil {
		return nil
	}
	out := []*x509.Certificate{leaf}
	left := slices.DeleteFunc(slices.Clone(r.certs), leaf.Equal)
	for {
		last := out[len(out)-1]
		i := slices.IndexFunc(left, func(c *x509.Certificate) bool { return certs.Issued(c, last) })
		if i < 0 {
			break
		}
		out = append(out, left[i])
		left = slices.Delete(left, i, i+1)
	}
	for _, c := range left {
		r.fail("chain", "%s issued neither %s nor one of its issuers; it does not belong there", certs.Title(c), certs.Title(leaf))
	}
	return out
}

// leaf finds the certificate among its issuers.
func (r *reader) leaf() *x509.Certificate {
	if len(r.keys) == 1 {
		var mine []*x509.Certificate
		for _, c := range r.certs {
			if certs.SameKey(r.keys[0].public, c.PublicKey) {
				mine = append(mine, c)
			}
		}
		switch {
		case len(mine) == 0:
			r.fail(r.keys[0].path, "the private key belongs to none of the certificates")
			return nil
		case len(mine) == 1:
			return mine[0]
		}
	}
	var candidates []*x509.Certificate
	for _, c := range r.certs {
		if !slices.ContainsFunc(r.certs, func(o *x509.Certificate) bool { return !o.Equal(c) && certs.Issued(c, o) }) {
			candidates = append(candidates, c)
		}
	}
	if len(candidates) != 1 {
		titles := make([]string, len(candidates))
		for i, c := range candidates {
			titles[i] = certs.Title(c)
		}
		r.fail("chain", "holds %d certificates that issued none of the others (%s); a version has one, and its issuers", len(candidates), strings.Join(titles, ", "))
		return nil
	}
	return candidates[0]
}

// Authorities brings the certificates of authorities into stored form: PEM without anything around it, each one once.
func Authorities(text string) (string, []problem.Violation) {
	r := &reader{work: &Work{}}
	r.read("certificates", text)
	if len(r.keys) > 0 {
		r.fail("certificates", "holds a private key; authorities are believed by their certificates alone")
	}
	if len(r.violations) > 0 {
		if strings.Contains(text, "KEY") {
			text = ""
		}
		return text, problem.Sort(r.violations)
	}
	if len(r.certs) == 0 {
		return text, nil // told by the rules about what is stored
	}
	return Encode(r.certs), nil
}
