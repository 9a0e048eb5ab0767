package policytest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/testkit/certtest"
)

var signedToken = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+`)

// certified returns what a placeholder for a part of a certificate stands for: $CHAIN_ the certificate, $PRIVATE_ its key, both
// with the line breaks of a quoted text.
func (w *world) certified(t testing.TB, kind, name string) string {
	t.Helper()
	key := w.signer(t, name)
	if w.certs == nil {
		w.certs = map[string]*certtest.Cert{}
	}
	c := w.certs[name]
	if c == nil {
		c = certtest.SelfSigned(t, name, certtest.Key(key.Private()))
		w.certs[name], w.keys["$KID_"+name] = c, c.ID()
		for _, coordinate := range []string{"n", "x", "y"} {
			if text, ok := key.Members()[coordinate].(string); ok {
				w.keys["$"+strings.ToUpper(coordinate)+"_"+name] = text
			}
		}
	}
	text := c.PEM()
	if kind == "PRIVATE" {
		text = c.KeyPEM(t)
	}
	return strings.ReplaceAll(text, "\n", `\n`)
}

// read writes tokens that the gateway has signed as what they say: $SIGNED(es256_a header claims), with the name of the key whose
// signature they have and with times as in $TOKEN.
func (w *world) read(t testing.TB, b []byte) []byte {
	t.Helper()
	return signedToken.ReplaceAllFunc(b, func(raw []byte) []byte {
		for _, ours := range w.keys {
			if ours == string(raw) {
				return raw
			}
		}
		parsed, fault := token.Parse(raw)
		if fault != token.OK {
			t.Fatalf("the gateway signed %s: %s", raw, fault)
		}
		names := slices.Collect(func(yield func(string) bool) {
			for name, c := range w.certs {
				if k, err := jwk.FromPublic(c.Cert.PublicKey, c.ID(), ""); err == nil && c.ID() == parsed.KeyID {
					if got, _ := parsed.Verify([]*jwk.Key{k}, []jwk.Algorithm{parsed.Algorithm}); got != nil && !yield(name) {
						return
					}
				}
			}
		})
		claims := parsed.Claims
		for _, at := range []string{"exp", "nbf", "iat"} {
			if v, ok := claims[at].(int64); ok {
				claims[at] = v - Epoch().Unix()
			}
		}
		if id, _ := claims["jti"].(string); len(id) > 20 {
			claims["jti"] = "random"
		}
		said, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, "$SIGNED(%s %s %s)", strings.Join(names, ","), parsed.Algorithm, said)
	})
}
