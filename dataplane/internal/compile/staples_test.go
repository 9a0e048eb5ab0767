package compile_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestAnswersAreSentWithCertificates has certificates that demand it and such that do not, in every mode, and looks at what is
// shown with and without an answer, while it is in force and after.
func TestAnswersAreSentWithCertificates(t *testing.T) {
	t.Parallel()
	now, ca := time.Now(), certtest.CA(t, "ca")
	issue := func(name string, must bool) *certtest.Cert {
		return ca.CA(t, "middle").Issue(t, name, certtest.Names(name), certtest.Template(func(c *x509.Certificate) {
			if c.OCSPServer = []string{"http://ocsp.test"}; must {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
			}
		}))
	}
	plain, must := issue("plain.test", false), issue("must.test", true)
	const off, on, hard = configv1.OcspStapling_OCSP_STAPLING_OFF, configv1.OcspStapling_OCSP_STAPLING_ON, configv1.OcspStapling_OCSP_STAPLING_MUST
	staple := func(c *certtest.Cert, answer string) statetest.Record {
		return record(known.KindStaple, "staple-"+c.ID(), c.ID(), &systemv1.OcspStaple{
			Certificate: c.ID(), Answer: []byte(answer), Until: timestamppb.New(now.Add(time.Hour)),
		})
	}
	of := func(c *certtest.Cert) statetest.Record {
		name := c.Cert.DNSNames[0]
		v := &configv1.CertificateVersion{Chain: c.ChainPEM(), PrivateKey: &configv1.Secret{Set: true, Value: &configv1.Secret_Plaintext{Plaintext: c.KeyPEM(t)}}}
		return record(certs.Kind, name, name, &configv1.Certificate{Name: name, Snis: []string{name}, Current: v})
	}
	settings := func(mode configv1.OcspStapling) statetest.Record {
		return record("settings", "settings", "settings", &configv1.Settings{Tls: &configv1.ServerTls{OcspStapling: mode, DefaultCertificate: []string{"plain.test"}}})
	}
	g := newGroup(t, settings(0), of(plain), of(must))
	hello := &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	shown := func(name string, at time.Time) string {
		c := g.rt.Certificates.Find(name).For(hello, at)
		switch {
		case c == nil:
			return "nothing"
		case len(c.OCSPStaple) == 0:
			return "without"
		}
		return string(c.OCSPStaple)
	}
	for _, step := range []struct {
		name                     string
		do                       statetest.Record
		plain, must, later, most string // later: must.test when the answer is out of date; most: plain.test then
	}{
		{"nothing is said", settings(0), "without", "nothing", "nothing", "without"},
		{"there is an answer", staple(must, "one"), "without", "one", "nothing", "without"},
		{"a newer one", staple(must, "two"), "without", "two", "nothing", "without"},
		{"for both, but it is not asked for", staple(plain, "three"), "without", "two", "nothing", "without"},
		{"on", settings(on), "three", "two", "nothing", "without"},
		{"must", settings(hard), "three", "two", "nothing", "nothing"},
		{"it is revoked", staple(plain, ""), "nothing", "two", "nothing", "nothing"},
		{"on again", settings(on), "without", "two", "nothing", "without"},
		{"off", settings(off), "without", "without", "without", "without"},
		{"another certificate of the name", of(issue("plain.test", false)), "without", "without", "without", "without"},
	} {
		before, _ := g.rt.Held.Get("must.test")
		g.put(step.do)
		after, _ := g.rt.Held.Get("must.test")
		got := [4]string{shown("plain.test", now), shown("must.test", now), shown("must.test", now.Add(2*time.Hour)), shown("plain.test", now.Add(2*time.Hour))}
		if want := [4]string{step.plain, step.must, step.later, step.most}; got != want {
			t.Errorf("%s: %q, want %q", step.name, got, want)
		}
		if before != after {
			t.Errorf("%s: a certificate was opened again", step.name)
		}
		if got := shown("other.test", now); got != step.plain {
			t.Errorf("%s: as the default %q, want %q", step.name, got, step.plain)
		}
		fresh, faults := newCompiler().Build(g.rt.Set, nil)
		if len(faults) != len(g.rt.Faults) || (len(faults) > 0) != (step.plain == "nothing" || step.must == "nothing") {
			t.Errorf("%s: faults %v, and of the change %v", step.name, faults, g.rt.Faults)
		}
		if fresh.Certificates.Find("must.test").Valid(now) != (step.must != "nothing") {
			t.Errorf("%s: of the whole set something else is shown", step.name)
		}
	}
}
