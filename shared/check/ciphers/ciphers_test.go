package ciphers_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/check/ciphers"
)

// TestSuitesAreThoseThatAreSpokenAndSafe compares the table with what crypto/tls can do.
func TestSuitesAreThoseThatAreSpokenAndSafe(t *testing.T) {
	t.Parallel()
	want := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		forward := strings.HasPrefix(s.Name, "TLS_ECDHE_")
		aead := strings.Contains(s.Name, "_GCM_") || strings.Contains(s.Name, "_POLY1305_")
		if forward && aead {
			want[s.Name] = s.ID
		}
	}
	if diff := cmp.Diff(want, ciphers.Suites()); diff != "" {
		t.Errorf("suites (-want +got):\n%s", diff)
	}
}

func TestCurvesHaveTheirNumbers(t *testing.T) {
	t.Parallel()
	want := map[string]uint16{
		"X25519MLKEM768": uint16(tls.X25519MLKEM768), "SecP256r1MLKEM768": uint16(tls.SecP256r1MLKEM768), "SecP384r1MLKEM1024": uint16(tls.SecP384r1MLKEM1024),
		"X25519": uint16(tls.X25519), "P-256": uint16(tls.CurveP256), "P-384": uint16(tls.CurveP384), "P-521": uint16(tls.CurveP521),
	}
	if diff := cmp.Diff(want, ciphers.Curves()); diff != "" {
		t.Errorf("curves (-want +got):\n%s", diff)
	}
}

func TestOtherSuitesAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "",
		"TLS_AES_128_GCM_SHA256":                "is of TLS 1.3",
		"TLS_RSA_WITH_AES_128_GCM_SHA256":       "has no forward secrecy",
		"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA":    "has no authenticated encryption",
		"TLS_ECDHE_RSA_WITH_RC4_128_SHA":        "has no authenticated encryption",
		"ECDHE-RSA-AES128-GCM-SHA256":           "is not known",
		"":                                      "is not known",
	} {
		got := ciphers.Reason(name)
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("Reason(%q) = %q, want %q", name, got, want)
		}
	}
}
