package admission_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/admission"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

func TestWhatFIPS140DoesNotApproveOfIsNamed(t *testing.T) {
	t.Parallel()
	const good, chacha = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
	for name, tt := range map[string]struct {
		m    proto.Message
		want string
	}{
		"settings that are approved of":   {&configv1.Settings{Tls: &configv1.ServerTls{CipherSuites: []string{good}, Curves: []string{"X25519MLKEM768", "P-256"}}}, ""},
		"settings with both":              {&configv1.Settings{Tls: &configv1.ServerTls{CipherSuites: []string{good, chacha}, Curves: []string{"X25519"}}}, "tls.cipher_suites[1] tls.curves[0] "},
		"a certificate":                   {&configv1.Certificate{Tls: &configv1.ServerNameTls{CipherSuites: []string{good, chacha}, Curves: []string{"P-256", "X25519"}}}, "tls.cipher_suites[1] tls.curves[1] "},
		"a certificate that says nothing": {&configv1.Certificate{}, ""},
		"a service":                       {&configv1.Service{Tls: &configv1.UpstreamTls{CipherSuites: []string{chacha}}}, "tls.cipher_suites[0] "},
		"a service without TLS":           {&configv1.Service{}, ""},
		"something else":                  {&configv1.Consumer{}, ""},
	} {
		got := ""
		for _, v := range admission.NotApproved(tt.m) {
			got += v.Path + " "
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
