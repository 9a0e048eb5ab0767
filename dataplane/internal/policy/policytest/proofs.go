package policytest

import (
	"encoding/json"
	"regexp"
	"testing"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

var (
	thumbprintPlaceholder = regexp.MustCompile(`\$JKT_([a-z0-9_]+)`)
	proofPlaceholder      = regexp.MustCompile(`\$PROOF\(([a-z0-9_]+) ([^\n]*)\)`)
	provedToken           = regexp.MustCompile(`Authorization: DPoP (\S+)`)
	// answeredNonce is one that the gateway has made for proofs.
	answeredNonce = regexp.MustCompile(`(DPoP-Nonce: )(\S+)`)
)

// thumbprints puts the RFC 7638 thumbprints of keys in the place of their placeholders.
func (w *world) thumbprints(t testing.TB, b []byte) []byte {
	t.Helper()
	return thumbprintPlaceholder.ReplaceAllFunc(b, func(p []byte) []byte {
		members, err := json.Marshal(public(w.signer(t, string(thumbprintPlaceholder.FindSubmatch(p)[1]))))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := jwk.Parse(string(members))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		print, _ := keys[0].Thumbprint()
		return []byte(print)
	})
}

// proofs puts proofs of possession (RFC 9449 section 4.2) for the token of the request in the place of their placeholders.
func (w *world) proofs(t testing.TB, b []byte) []byte {
	t.Helper()
	return proofPlaceholder.ReplaceAllFunc(b, func(p []byte) []byte {
		parts := proofPlaceholder.FindSubmatch(p)
		var claims map[string]any
		if err := json.Unmarshal(parts[2], &claims); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if of := provedToken.FindSubmatch(b); of != nil && claims["ath"] == nil {
			claims["ath"] = token.Hash(of[1])
		}
		if claims["nonce"] == "$NONCE" {
			claims["nonce"] = w.nonce
		}
		later, _ := claims["iat"].(float64)
		claims["iat"] = Epoch().Unix() + int64(later)
		key := w.signer(t, string(parts[1]))
		return []byte(key.Token(map[string]any{"typ": "dpop+jwt", "jwk": public(key)}, claims))
	})
}

func public(k *tokentest.Key) map[string]any {
	m := k.Members()
	delete(m, "kid")
	return m
}

// noted keeps the nonce that the gateway has answered for the proofs of later requests.
func (w *world) noted(b []byte) []byte {
	if m := answeredNonce.FindSubmatch(b); m != nil {
		w.nonce = string(m[2])
	}
	return answeredNonce.ReplaceAll(b, []byte("${1}$$NONCE"))
}
