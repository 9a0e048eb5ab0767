package revocation_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

func TestStapling(t *testing.T) {
	t.Parallel()
	feature := func(value []byte) *x509.Certificate {
		return certtest.SelfSigned(t, "x", certtest.Template(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: value}}
		})).Cert
	}
	plain, must, other, junk := certtest.SelfSigned(t, "x").Cert, feature([]byte{0x30, 3, 2, 1, 5}), feature([]byte{0x30, 3, 2, 1, 17}), feature([]byte{1})
	off, on, hard := configv1.OcspStapling_OCSP_STAPLING_OFF, configv1.OcspStapling_OCSP_STAPLING_ON, configv1.OcspStapling_OCSP_STAPLING_MUST
	for _, tt := range []struct {
		name           string
		mode           configv1.OcspStapling
		of             *x509.Certificate
		wanted, needed bool
	}{
		{"nothing is said", 0, plain, false, false},
		{"nothing is said, and it demands it", 0, must, true, true},
		{"it demands something else", 0, other, false, false},
		{"nobody knows what it demands", 0, junk, true, true},
		{"off", off, plain, false, false},
		{"off, and it demands it", off, must, false, false},
		{"on", on, plain, true, false},
		{"on, and it demands it", on, must, true, true},
		{"must", hard, plain, true, true},
		{"a mode of later", 99, plain, true, true},
	} {
		if wanted, needed := revocation.Stapling(tt.mode, tt.of); wanted != tt.wanted || needed != tt.needed {
			t.Errorf("%s: wanted %v, needed %v", tt.name, wanted, needed)
		}
	}
}
