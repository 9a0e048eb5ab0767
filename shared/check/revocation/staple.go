package revocation

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// KindStaple is the kind of the system records with answers that are sent with certificates. Their names are ids of versions.
const KindStaple = "ocsp-staples"

// extensionFeature is by which a certificate demands that answers are sent with it (RFC 7633).
var extensionFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

// featureStatus is the number of the TLS extension status_request (RFC 6066).
const featureStatus = 5

// MustStaple reports whether a certificate demands to be shown with an answer of its responder only.
func MustStaple(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		var features []int
		if !e.Id.Equal(extensionFeature) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &features); err != nil || slices.Contains(features, featureStatus) {
			return true // what cannot be read may demand it
		}
	}
	return false
}

// Stapling says whether an answer of its responder is to be sent with a certificate, and whether it must not be shown without.
func Stapling(mode configv1.OcspStapling, c *x509.Certificate) (wanted, needed bool) {
	must := MustStaple(c)
	switch mode {
	case configv1.OcspStapling_OCSP_STAPLING_UNSPECIFIED:
		return must, must
	case configv1.OcspStapling_OCSP_STAPLING_OFF:
		return false, false
	case configv1.OcspStapling_OCSP_STAPLING_ON:
		return true, must
	default: // also what is not known here: to show less is safe
		return true, true
	}
}

// ResponderOf is who can be asked about a certificate with its chain, and its issuer; false if nobody can.
func ResponderOf(chain []*x509.Certificate) (url string, issuer *x509.Certificate, ok bool) {
	if len(chain) < 2 || len(chain[0].OCSPServer) == 0 {
		return "", nil, false
	}
	return chain[0].OCSPServer[0], chain[1], true
}
