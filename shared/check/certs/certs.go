// Package certs knows what certificates of the configuration are: it opens their stored form, says what is wrong with it, what
// their ids are and what they say, which version is presented at what time, and for which server names. Admission in the
// control plane and compilation in the gateway call the same functions, so what is admitted compiles. Reading what people
// write in other forms is not done here.
//
// The package is pure: no sockets, no files, no clock. Only Describe changes a message, and no violation repeats anything of a
// private key.
package certs

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// Kind and KindCA are the kinds of resources that the package is about.
const (
	Kind   = "certificates"
	KindCA = "ca-certificates"
)

// Version is an opened version of a certificate.
type Version struct {
	// ID of the leaf.
	ID string
	// Chain is the leaf and then its issuers.
	Chain []*x509.Certificate
	// Key of the leaf, nil if it is not stored.
	Key crypto.Signer
}

// Leaf is the certificate itself.
func (v *Version) Leaf() *x509.Certificate { return v.Chain[0] }

// ValidAt reports whether a time is in the validity of the leaf.
func (v *Version) ValidAt(t time.Time) bool {
	return v != nil && !t.Before(v.Leaf().NotBefore) && !t.After(v.Leaf().NotAfter)
}

// Set is an opened certificate. Next and Previous may be nil.
type Set struct {
	Name                    string
	SNIs                    []string
	Current, Next, Previous *Version
}

// Presented is the version to present at a time: the current one, the next one when the current one is not valid, nil when
// neither is.
func (s *Set) Presented(t time.Time) *Version {
	for _, v := range []*Version{s.Current, s.Next} {
		if v.ValidAt(t) {
			return v
		}
	}
	return nil
}

// End is until when there is a version to present: the end of the current one, or of the next one if that follows without a
// gap.
func (s *Set) End() time.Time {
	if s.Current == nil {
		return time.Time{}
	}
	end := s.Current.Leaf().NotAfter
	if s.Next != nil && !s.Next.Leaf().NotBefore.After(end) && s.Next.Leaf().NotAfter.After(end) {
		end = s.Next.Leaf().NotAfter
	}
	return end
}

// For is the version that a reference to the certificate means at a time: with its name the one to present, with an id the
// version of that id, whether it is valid or not. It is nil if there is none. A name that looks like an id is a name first.
func (s *Set) For(reference string, t time.Time) *Version {
	if reference == s.Name {
		return s.Presented(t)
	}
	for _, v := range []*Version{s.Current, s.Next, s.Previous} {
		if v != nil && v.ID == reference {
			return v
		}
	}
	return nil
}

// Believed are the versions that a reference means where another certificate is compared with it: with its name the current
// and the next one, with an id the version of that id.
func (s *Set) Believed(reference string) []*Version {
	byName := reference == s.Name
	var out []*Version
	for _, v := range []*Version{s.Current, s.Next, s.Previous} {
		if v != nil && (byName && v != s.Previous || !byName && v.ID == reference) {
			out = append(out, v)
		}
	}
	return out
}

// Versions are all versions that a reference means: with its name the current, the next and the previous one, with an id the
// version of that id.
func (s *Set) Versions(reference string) []*Version {
	out := s.Believed(reference)
	if reference == s.Name && s.Previous != nil {
		out = append(out, s.Previous)
	}
	return out
}

// ID of a certificate: the SHA-256 of its DER form in hex.
func ID(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// IsID reports whether a text has the form of an id.
func IsID(text string) bool {
	return len(text) == 2*sha256.Size && strings.Trim(text, "0123456789abcdef") == ""
}

// Slot is a place for a version in a certificate.
type Slot struct {
	// Name of the field.
	Name    string
	Version *configv1.CertificateVersion
}

// Slots lists the versions that a certificate has.
func Slots(c *configv1.Certificate) []Slot {
	var out []Slot
	for _, s := range []Slot{{"current", c.GetCurrent()}, {"next", c.GetNext()}, {"previous", c.GetPrevious()}} {
		if s.Version != nil {
			out = append(out, s)
		}
	}
	return out
}

// IDs lists the ids of the versions of a certificate in stored form, those that can be read.
func IDs(c *configv1.Certificate) []string {
	var out []string
	for _, s := range Slots(c) {
		if id := VersionID(s.Version); id != "" {
			out = append(out, id)
		}
	}
	return out
}

// VersionID is the id of a version in stored form, empty if it cannot be read.
func VersionID(v *configv1.CertificateVersion) string {
	block, _ := pem.Decode([]byte(v.GetChain()))
	if block == nil || block.Type != certificateBlock {
		return ""
	}
	return ID(block.Bytes)
}

// Covers reports whether a pattern, a host name or *.parent, is for a name: the same one, or, for *.parent, exactly one label
// more. The name can be a pattern itself. Both are in normal form: lower case, without a trailing dot.
func Covers(pattern, name string) bool {
	if pattern == name {
		return true
	}
	parent, wild := strings.CutPrefix(pattern, "*.")
	label, rest, ok := strings.Cut(name, ".")
	return wild && ok && label != "" && label != "*" && rest == parent
}
