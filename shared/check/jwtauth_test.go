package check_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// edKey is the key of RFC 8037 appendix A.2.
const edKey = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

func TestJwtAuthRules(t *testing.T) {
	t.Parallel()
	jwt := func(change func(*policyv1.JwtAuth, *policyv1.JwtIssuer)) proto.Message {
		i := &policyv1.JwtIssuer{Name: "bank", Issuer: "https://id.test", JwksUri: "https://id.test/jwks"}
		m := &policyv1.JwtAuth{Issuers: []*policyv1.JwtIssuer{i}}
		change(m, i)
		return &configv1.Route{Policies: []*configv1.Binding{binding(t, "jwt-auth", m)}}
	}
	type (
		policy = policyv1.JwtAuth
		issuer = policyv1.JwtIssuer
	)
	const at, first = "policies[0].config.", "policies[0].config.issuers[0]."
	holds(t, []rule{
		{"header in framing", jwt(func(m *policy, _ *issuer) { m.Header = []string{"X-Token"} }), jwt(func(m *policy, _ *issuer) { m.Header = []string{"Connection"} }), at + "header[0]"},
		{"header of cookies", jwt(func(m *policy, _ *issuer) { m.Cookie = []string{"t"} }), jwt(func(m *policy, _ *issuer) { m.Header = []string{"Cookie"} }), at + "header[0]"},
		{"optional consumers", jwt(func(m *policy, _ *issuer) {
			m.ConsumerOptional, m.ConsumerBy = true, []policyv1.JwtConsumerBy{policyv1.JwtConsumerBy_JWT_CONSUMER_BY_NAME}
		}), jwt(func(m *policy, _ *issuer) { m.ConsumerOptional = true }), at + "consumer_optional"},
		{"issuers differ", jwt(func(m *policy, i *issuer) {
			m.Issuers = append(m.Issuers, &issuer{Issuer: "https://b.test", JwksUri: i.JwksUri})
		}), jwt(func(m *policy, i *issuer) { m.Issuers = append(m.Issuers, proto.CloneOf(i)) }), at + "issuers[1].issuer"},
		{"keys by https", jwt(func(_ *policy, i *issuer) { i.JwksUri = "http://127.0.0.1:8080/jwks" }), jwt(func(_ *policy, i *issuer) { i.JwksUri = "http://id.test/jwks" }), first + "jwks_uri"},
		{"not the name of this machine", jwt(func(_ *policy, i *issuer) { i.JwksUri = "http://[::1]/jwks" }), jwt(func(_ *policy, i *issuer) { i.JwksUri = "http://localhost/jwks" }), first + "jwks_uri"},
		{"issuers with metadata", jwt(func(_ *policy, i *issuer) { i.JwksUri, i.Discovery = "", true }), jwt(func(_ *policy, i *issuer) { i.JwksUri, i.Discovery, i.Issuer = "", true, "bank" }), first + "issuer"},
		{"public keys", jwt(func(_ *policy, i *issuer) { i.JwksUri, i.PublicKeys = "", []string{edKey} }), jwt(func(_ *policy, i *issuer) { i.JwksUri, i.PublicKeys = "", []string{`{"kty":"oct","k":"AA"}`} }), first + "public_keys[0]"},
		{"times of fetching", jwt(func(_ *policy, i *issuer) { i.Refresh = durationpb.New(1) }), jwt(func(_ *policy, i *issuer) {
			i.JwksUri, i.PublicKeys, i.Refresh = "", []string{edKey}, durationpb.New(1)
		}), first + "refresh"},
		{"an audience of access tokens", jwt(func(m *policy, _ *issuer) {
			m.Profile, m.Audiences = policyv1.JwtProfile_JWT_PROFILE_ACCESS_TOKEN, []string{"api"}
		}), jwt(func(m *policy, _ *issuer) { m.Profile = policyv1.JwtProfile_JWT_PROFILE_ACCESS_TOKEN }), first + "audiences"},
	})
}

func TestJwtCredentialRules(t *testing.T) {
	t.Parallel()
	credential := func(m *credentialv1.JwtAuth) proto.Message {
		m.Issuer = "alice"
		return &configv1.Credential{Type: "jwt-auth", Config: pack(t, m)}
	}
	key := func(n int, alg string, base64 bool) proto.Message {
		return credential(&credentialv1.JwtAuth{
			Key: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: strings.Repeat("A", n)}}, Algorithm: alg, KeyBase64: base64,
		})
	}
	public := func(text, alg string) proto.Message {
		return credential(&credentialv1.JwtAuth{PublicKey: text, Algorithm: alg})
	}
	holds(t, []rule{
		{"length of secrets", key(32, "HS256", false), key(31, "HS256", false), "config.key"},
		{"length of longer secrets", key(64, "HS512", false), key(63, "HS512", false), "config.key"},
		{"length in Base64", key(43, "HS256", true), key(42, "HS256", true), "config.key"},
		{"secrets are for HMAC", key(64, "HS384", false), key(64, "RS256", false), "config.key"},
		{"public keys", public(edKey, ""), public("x", ""), "config.public_key"},
		{"public keys for the algorithm", public(edKey, "EdDSA"), public(edKey, "RS256"), "config.public_key"},
		{"one public key", public(`{"keys":[`+edKey+`]}`, ""), public(`{"keys":[`+edKey+`,`+edKey+`]}`, ""), "config.public_key"},
		{"keys by https", credential(&credentialv1.JwtAuth{JwksUri: "https://id.test"}), credential(&credentialv1.JwtAuth{JwksUri: "http://id.test"}), "config.jwks_uri"},
		{"Base64 of a key", key(43, "HS256", true), credential(&credentialv1.JwtAuth{PublicKey: edKey, KeyBase64: true}), "config.key_base64"},
	})
}
