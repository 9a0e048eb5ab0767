package revocation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
)

// Kind is the kind of the system records with fetched lists.
const Kind = "revocation-lists"

// Defaults of what is left out.
const (
	DefaultRefresh = time.Hour
	DefaultTimeout = 2 * time.Second
)

// Rules are what a CA certificate says about revocation.
type Rules struct {
	// Strict: a certificate of which nobody can tell is not let in.
	Strict bool
	// Lists are those that are given.
	Lists []*List
	// URLs are where further ones are fetched.
	URLs []string
	// OCSP: responders are asked; Responder instead of those that certificates name, if it is not empty.
	OCSP      bool
	Responder string
	// Timeout is how long a handshake waits for a responder.
	Timeout time.Duration
	// Refresh is how often sources are asked again.
	Refresh time.Duration
}

// maxLists bounds the lists of a CA certificate.
const maxLists = 256

// RecordName is the name of the system record with the list that was fetched for a CA certificate.
func RecordName(authority, url string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "revocation list %q %q", authority, url))
	return hex.EncodeToString(sum[:])
}

// Open reads what a CA certificate says about revocation and tells everything that is wrong with it; nil if nobody asks.
func Open(m *configv1.CaCertificate, authorities []*x509.Certificate) (*Rules, []problem.Violation) {
	said := m.GetRevocation()
	if said == nil {
		return nil, nil
	}
	r := &Rules{
		URLs: said.GetCrlUrls(), OCSP: said.GetOcsp() != nil, Responder: said.GetOcsp().GetUrl(),
		Timeout: DefaultTimeout, Refresh: DefaultRefresh,
	}
	if d := said.GetOcsp().GetTimeout(); d != nil {
		r.Timeout = d.AsDuration()
	}
	if d := said.GetRefresh(); d != nil {
		r.Refresh = d.AsDuration()
	}
	var vs []problem.Violation
	fail := func(path, reason string) { vs = append(vs, problem.Violation{Path: path, Reason: reason}) }
	ignored := false
	switch said.GetMode() {
	case configv1.RevocationMode_REVOCATION_MODE_IGNORE:
		ignored = true
	case configv1.RevocationMode_REVOCATION_MODE_SOFT:
	case configv1.RevocationMode_REVOCATION_MODE_STRICT, configv1.RevocationMode_REVOCATION_MODE_UNSPECIFIED:
		r.Strict = true
	default:
		fail("revocation.mode", "is none that is known")
	}
	for i, list := range given(said.GetCrl(), fail) {
		l, err := Parse(list, authorities)
		if err != nil {
			fail("revocation.crl", fmt.Sprintf("the list at place %d %v", i+1, err))
			continue
		}
		r.Lists = append(r.Lists, l)
	}
	if !ignored && said.GetCrl() == "" && len(r.URLs) == 0 && !r.OCSP {
		fail("revocation", "names no source: give crl, crl_urls or ocsp, or say mode: ignore")
	}
	if ignored || len(vs) > 0 {
		return nil, vs
	}
	return r, nil
}

// given takes the lists in PEM apart.
func given(text string, fail func(path, reason string)) (lists [][]byte) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != listBlock {
			fail("revocation.crl", "holds something else than revocation lists (-----BEGIN X509 CRL-----)")
			return nil
		}
		if lists = append(lists, block.Bytes); len(lists) > maxLists {
			fail("revocation.crl", fmt.Sprintf("holds more than %d lists", maxLists))
			return nil
		}
	}
	if strings.TrimSpace(string(rest)) != "" {
		fail("revocation.crl", "holds something that is no revocation list in PEM (-----BEGIN X509 CRL-----)")
	}
	return lists
}
