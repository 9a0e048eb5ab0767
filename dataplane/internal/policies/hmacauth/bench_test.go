package hmacauth_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func pemOf(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// byEd25519 is a request signed so, and the credential.
func byEd25519(t testing.TB, g *gateway) (directory.Credential, exchange.Headers) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	input := fmt.Sprintf(`("@method" "@target-uri");created=%d;keyid="ed"`, g.now.Unix())
	base := fmt.Sprintf("\"@method\": GET\n\"@target-uri\": https://hello.test/a\n\"@signature-params\": %s", input)
	return credential(t, &credentialv1.HmacAuth{KeyId: "ed", PublicKey: pemOf(t, private.Public())}), exchange.Headers{
		exchange.Field("Host", "hello.test"), exchange.Field("Signature-Input", "s="+input),
		exchange.Field("Signature", "s=:"+base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(base)))+":"),
	}
}

// BenchmarkRequest: warm is a caller who comes again, cold one of many whose key was not used lately, stranger one whose key
// nobody has.
func BenchmarkRequest(b *testing.B) {
	const many = 10_000
	g := newGateway(b)
	ed, byEd := byEd25519(b, g)
	creds := []directory.Credential{ed}
	cold := make([]exchange.Headers, many)
	for i := range many {
		id := fmt.Sprint("k", i)
		creds = append(creds, withSecret(b, id))
		cold[i] = signed(g.now, id, secret, "")
	}
	now := g.now
	g = newGateway(b, creds...)
	g.now = now
	tests := []struct {
		name       string
		algorithms []string
		requests   []exchange.Headers
		want       policy.Verdict
	}{
		{"hmac-sha256 warm", nil, cold[:1], policy.Next},
		{"hmac-sha256 cold", nil, cold, policy.Next},
		{"hmac-sha256 stranger", nil, []exchange.Headers{signed(g.now, "nobody", secret, "")}, policy.Stop},
		{"ed25519", []string{"ed25519"}, []exchange.Headers{byEd}, policy.Next},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			c, x, i := g.build(b, "r", &policyv1.HmacAuth{Algorithms: tt.algorithms}), &exchange.Exchange{}, 0
			b.ReportAllocs()
			for b.Loop() {
				g.fill(x, tt.requests[i%len(tt.requests)])
				if c.Request(x) != tt.want {
					b.Fatalf("answer %d", x.Response.Status)
				}
				i++
			}
		})
	}
}
