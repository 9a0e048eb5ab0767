package secretsource_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/vaulttest"
)

// authority mounts a PKI engine with a role that issues for an hour.
func authority(t *testing.T, v *vaulttest.Server) {
	t.Helper()
	v.Write("sys/mounts/pki", map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "24h"}})
	v.Write("pki/root/generate/internal", map[string]any{"common_name": "root", "ttl": "24h"})
	v.Write("pki/roles/web", map[string]any{"allowed_domains": []string{"web.test"}, "allow_bare_domains": true, "allow_subdomains": true, "key_type": "ec", "key_bits": 256, "max_ttl": "1h", "ttl": "1h"})
}

// TestCertificatesAreIssuedAndRenewed by a PKI engine of a real Vault.
func TestCertificatesAreIssuedAndRenewed(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"the operator's", "a tenant's"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			v, b := vaultBackend(t)
			authority(t, v)
			token := v.Issue("team", time.Hour, time.Hour)
			var base []proto.Message
			setting := "none=env:NONE_?groups=g"
			if whose == "a tenant's" {
				base = []proto.Message{&configv1.CaCertificate{Name: "place", Certificates: b.ca}, made(&configv1.SecretProvider{
					Vault: &configv1.VaultProvider{Address: v.Address, Mount: "pki", PkiRole: "web", Token: plain(token), Ca: []string{"place"}},
				})}
			} else {
				file := filepath.Join(t.TempDir(), "token")
				if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
					t.Fatal(err)
				}
				setting = fmt.Sprintf("place=vault:%s/pki?pki-role=web&groups=g&refresh=1m&stale=2h&ca=%s&token-file=%s", v.Address, v.CA, file)
			}
			renewed(t, base, setting)
		})
	}
}

func renewed(t *testing.T, base []proto.Message, setting string) {
	t.Helper()
	w := newWorld(t)
	r := w.replicaWith(t, setting)
	c := elsewhere("{vault://place/web}")
	put := func(snis ...string) {
		t.Helper()
		c.Snis = snis
		if err := r.apply(t, "g", append(base, c)...); err != nil {
			t.Fatal(err)
		}
	}
	run := func(after time.Duration) *x509.Certificate {
		t.Helper()
		w.pass(after)
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, record := w.state(t)
		block, _ := pem.Decode([]byte(record.GetCertificate().GetChain()))
		if block == nil {
			t.Fatalf("nothing was issued: %s", w.logged())
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || record.GetCertificate().GetPrivateKey().GetPlaintext() == "" {
			t.Fatalf("what is kept is no certificate with a key: %v", err)
		}
		return leaf
	}
	if err := r.apply(t, "g", append(base, elsewhere("{vault://place/admin}"))...); err == nil {
		t.Error("another role is taken")
	}
	put("web.test")
	first := run(0)
	if first.VerifyHostname("web.test") != nil {
		t.Errorf("it is for %v", first.DNSNames)
	}
	for _, after := range []time.Duration{0, time.Minute, 25 * time.Minute} {
		if again := run(after); !again.Equal(first) {
			t.Errorf("%s later another one was issued", after)
		}
	}
	second := run(15 * time.Minute) // 41 minutes of an hour
	if second.Equal(first) {
		t.Error("after two thirds of its life it is still the same")
	}
	put("web.test", "a.web.test")
	if third := run(time.Minute); third.VerifyHostname("a.web.test") != nil {
		t.Errorf("for another name, too, it is for %v", third.DNSNames)
	}
	put("a.web.test", "elsewhere.test")
	w.forget()
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, record := w.state(t); certs.VersionID(record.GetCertificate()) == "" {
		t.Error("what was issued before is not kept")
	}
}
