package admission_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/controlplane/internal/admission"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
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
		"a password":                      {passwordCredential(t, "$pbkdf2-sha256$i=29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw+qxtasIBS/3PnV5Q49G0"), ""},
		"a password with little salt":     {passwordCredential(t, "$pbkdf2-sha256$i=10000$AAECAwQFBgc$5WFmNUEJcnGagZZ/aIvhmxNBp8byfCMfAYrdt6AgAYo"), "config.password "},
		"a password by bcrypt":            {passwordCredential(t, "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2"), "config.password "},
		"a password by argon2id":          {passwordCredential(t, "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"), "config.password "},
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

func passwordCredential(t *testing.T, hash string) *configv1.Credential {
	t.Helper()
	secret := &configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: hash}}}
	cfg, err := anypb.New(&credentialv1.BasicAuth{Username: "alice", Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return &configv1.Credential{Name: "a", Consumer: "alice", Type: "basic-auth", Config: cfg}
}
