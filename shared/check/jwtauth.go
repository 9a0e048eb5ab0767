package check

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"net/url"
	"strings"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/problem"
)

func jwtAuth(cfg *policyv1.JwtAuth) violations {
	var vs violations
	carries(&vs, "header", cfg.GetHeader(), "a token")
	if cfg.GetConsumerOptional() && len(cfg.GetConsumerBy()) == 0 {
		vs.add("consumer_optional", "goes with consumer_by: without it nobody is looked for")
	}
	if cfg.GetReplayStore() != "" && cfg.GetDpop() == policyv1.JwtProof_JWT_PROOF_OFF && !cfg.GetOneTime() {
		vs.add("replay_store", "nothing is remembered with dpop: off and without one_time; leave one of them out")
	}
	sharedStore(&vs, cfg)
	first := map[string]int{}
	for i, m := range cfg.GetIssuers() {
		at := problem.Index("issuers", i)
		if j, twice := first[m.GetIssuer()]; twice {
			vs.add(at+".issuer", "is that of element %d, too; give both keys to one", j)
		} else {
			first[m.GetIssuer()] = i
		}
		jwtIssuer(&vs, at, m)
		if cfg.GetProfile() == policyv1.JwtProfile_JWT_PROFILE_ACCESS_TOKEN && len(m.GetAudiences())+len(cfg.GetAudiences()) == 0 {
			vs.add(at+".audiences", "required with profile access-token, here or for all issuers: RFC 9068 tokens are for somebody")
		}
	}
	return vs
}

func jwtIssuer(vs *violations, at string, m *policyv1.JwtIssuer) {
	if reason := KeyURL(m.GetJwksUri()); m.GetJwksUri() != "" && reason != "" {
		vs.add(at+".jwks_uri", "%s", reason)
	}
	if reason := KeyURL(m.GetIssuer()); m.GetDiscovery() && reason != "" {
		vs.add(at+".issuer", "%s, for its metadata are fetched from there", reason)
	}
	for i, text := range m.GetPublicKeys() {
		if _, err := jwk.Parse(text); err != nil {
			vs.add(problem.Index(at+".public_keys", i), "%v", err)
		}
	}
	if m.GetJwksUri() == "" && !m.GetDiscovery() {
		for name, given := range map[string]bool{"refresh": m.Refresh != nil, "stale_bound": m.StaleBound != nil, "timeout": m.Timeout != nil} {
			if given {
				vs.add(at+"."+name, "goes with jwks_uri and discovery: nothing is fetched")
			}
		}
	}
}

// KeyURL says why keys cannot be fetched from a URL, empty if they can: whoever could change them on the way could be anybody.
func KeyURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return "must be a URL"
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http":
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
			return ""
		}
	}
	return "must be an https URL; http only to a loopback address"
}

// carries tells header fields that cannot carry a credential.
func carries(vs *violations, path string, headers []string, what string) {
	for i, h := range headers {
		switch {
		case framing(h):
			vs.add(problem.Index(path, i), "%s belongs to the connection and cannot carry %s", h, what)
		case strings.EqualFold(h, "Cookie"):
			vs.add(problem.Index(path, i), "name the cookie in cookie instead")
		}
	}
	sameFold(vs, path, headers)
}

// jwtCredential checks a credential of a consumer that signs its own tokens. A secret that is not there in the clear is not
// checked.
func jwtCredential(vs *violations, m *credentialv1.JwtAuth) {
	if reason := KeyURL(m.GetJwksUri()); m.GetJwksUri() != "" && reason != "" {
		vs.add("config.jwks_uri", "%s", reason)
	}
	if m.GetPublicKey() != "" {
		if _, err := PublicKey(m); err != nil {
			vs.add("config.public_key", "%v", err)
		}
	}
	if m.GetKey().GetPlaintext() != "" {
		if _, err := SecretKey(m); err != nil {
			vs.add("config.key", "%v", err)
		}
	}
	if m.GetKeyBase64() && m.GetKey() == nil {
		vs.add("config.key_base64", "goes with key")
	}
}

// PublicKey reads the public key of a credential.
func PublicKey(m *credentialv1.JwtAuth) (*jwk.Key, error) {
	keys, err := jwk.Parse(m.GetPublicKey())
	switch {
	case err != nil:
		return nil, err
	case len(keys) != 1:
		return nil, errors.New("has several keys; give one, or publish them and give jwks_uri")
	case m.GetAlgorithm() != "" && !keys[0].Permits(jwk.Algorithm(m.GetAlgorithm())):
		return nil, errors.New("is not a key for the algorithm")
	}
	return keys[0], nil
}

// SecretKey reads the secret of a credential, which is there in the clear.
func SecretKey(m *credentialv1.JwtAuth) (*jwk.Key, error) {
	secret := []byte(m.GetKey().GetPlaintext())
	if m.GetKeyBase64() {
		text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(string(secret)), "=")
		var err error
		if secret, err = base64.RawStdEncoding.DecodeString(text); err != nil {
			return nil, errors.New("is not Base64")
		}
	}
	return jwk.FromSecret(secret, jwk.Algorithm(m.GetAlgorithm()))
}
