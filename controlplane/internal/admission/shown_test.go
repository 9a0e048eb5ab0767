package admission_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

// TestGatewaysNeedNotChooseBetweenCertificates gives one name to several certificates, in one document and in two.
func TestGatewaysNeedNotChooseBetweenCertificates(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	shown := func(name string, c *certtest.Cert, more string, snis ...string) string {
		return fmt.Sprintf("  - {name: %s, snis: [%s], current: %q%s}\n", name, strings.Join(snis, ", "), c.PEM()+c.KeyPEM(t), more)
	}
	names := certtest.Names("a.test", "b.test", "*.c.test")
	ecdsa := func() *certtest.Cert { return certtest.SelfSigned(t, "x", names) }
	byRSA := certtest.SelfSigned(t, "x", names, certtest.Key(key))
	staged := fmt.Sprintf(", next: %q", byRSA.PEM()+byRSA.KeyPEM(t))
	first := shown("first", ecdsa(), "", "a.test", `"*.c.test"`)
	for _, tt := range []struct{ name, second, want string }{
		{"another name", shown("second", ecdsa(), "", "b.test"), ""},
		{"another kind of key", shown("second", byRSA, "", "a.test"), ""},
		{"a name below the wildcard", shown("second", certtest.SelfSigned(t, "x", certtest.Names("x.c.test")), "", "x.c.test"), ""},
		{"the same kind of key", shown("second", ecdsa(), "", "b.test", "a.test"), "snis[1]: certificates/first is presented for a.test with a key of the same kind, ECDSA: gateways could not choose"},
		{"the same wildcard", shown("second", ecdsa(), "", `"*.c.test"`), "snis[0]: certificates/first is presented for *.c.test with a key of the same kind, ECDSA: gateways could not choose"},
		{"one of two versions", shown("second", ecdsa(), staged, "a.test"), "snis[0]: certificates/first is presented for a.test with a key of the same kind, ECDSA: gateways could not choose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const head = "group: g\ncertificates:\n"
			_, vs := newGroup(t).apply(head+first+tt.second, false)
			if got := reasons(vs); !strings.HasSuffix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("in one document: %s, want %s", got, tt.want)
			}
			g := newGroup(t)
			g.must(head + first)
			_, vs = g.apply(head+tt.second, false)
			if got := reasons(vs); !strings.HasSuffix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("one after the other: %s, want %s", got, tt.want)
			}
			if _, vs = g.apply(head+first, false); len(vs) > 0 {
				t.Errorf("the same again: %s", reasons(vs))
			}
		})
	}
}
