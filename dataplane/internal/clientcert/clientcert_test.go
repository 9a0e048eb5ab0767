package clientcert_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/testkit/certtest"
)

func chain(certificates ...*certtest.Cert) (out []*x509.Certificate) {
	for _, c := range certificates {
		out = append(out, c.Cert)
	}
	return out
}

func believed(certificates ...*certtest.Cert) []clientcert.Authorities {
	return []clientcert.Authorities{{Certificates: chain(certificates...)}}
}

func pin(c *certtest.Cert) [][sha256.Size]byte { return [][sha256.Size]byte{sha256.Sum256(c.Cert.Raw)} }

func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "ca") // of the same name
	short := ca.CA(t, "short", certtest.Valid(now.Add(-time.Hour), now.Add(time.Minute)))
	valid := func(from, to time.Duration) certtest.Option { return certtest.Valid(now.Add(from), now.Add(to)) }
	leaf, foreign, deep := ca.Issue(t, "leaf", valid(-time.Hour, time.Hour)), other.Issue(t, "leaf"), short.Issue(t, "deep")
	own := certtest.SelfSigned(t, "own")
	expired, early := ca.Issue(t, "leaf", valid(-2*time.Hour, -time.Hour)), ca.Issue(t, "leaf", valid(time.Hour, 2*time.Hour))
	server := ca.Issue(t, "leaf", certtest.Template(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	expiredOwn := certtest.SelfSigned(t, "own", valid(-2*time.Hour, -time.Hour))
	byCA := clientcert.New(nil, believed(ca), nil)
	for _, tt := range []struct {
		name   string
		policy *clientcert.Policy
		shown  []*x509.Certificate
		want   error
		until  time.Time
	}{
		{"issued by the authority", byCA, chain(leaf), nil, leaf.Cert.NotAfter},
		{"through an intermediate, as long as it lasts", byCA, chain(deep, short), nil, short.Cert.NotAfter},
		{"without the intermediate", byCA, chain(deep), clientcert.ErrRefused, time.Time{}},
		{"an intermediate that is believed itself", clientcert.New(nil, believed(short), nil), chain(deep), nil, short.Cert.NotAfter},
		{"issued by another one of the same name", byCA, chain(foreign), clientcert.ErrRefused, time.Time{}},
		{"its own issuer", byCA, chain(own), clientcert.ErrRefused, time.Time{}},
		{"for servers only", byCA, chain(server), clientcert.ErrRefused, time.Time{}},
		{"expired", byCA, chain(expired), clientcert.ErrInvalid, time.Time{}},
		{"not valid yet", byCA, chain(early), clientcert.ErrInvalid, time.Time{}},
		{"none", byCA, nil, clientcert.ErrMissing, time.Time{}},
		{"allowed as it is", clientcert.New(pin(own), nil, nil), chain(own), nil, own.Cert.NotAfter},
		{"allowed as it is, but another one", clientcert.New(pin(own), nil, nil), chain(leaf), clientcert.ErrRefused, time.Time{}},
		{"allowed as it is, and expired", clientcert.New(pin(expiredOwn), nil, nil), chain(expiredOwn), clientcert.ErrInvalid, time.Time{}},
		{"allowed, but only in the chain", clientcert.New(pin(ca), nil, nil), chain(leaf, ca), clientcert.ErrRefused, time.Time{}},
		{"one of both: as it is", clientcert.New(pin(own), believed(ca), nil), chain(own), nil, own.Cert.NotAfter},
		{"one of both: by the authority", clientcert.New(pin(own), believed(ca), nil), chain(leaf), nil, leaf.Cert.NotAfter},
		{"nobody is believed", clientcert.New(nil, nil, nil), chain(leaf), clientcert.ErrRefused, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			until, err := tt.policy.Verify(tt.shown, now)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil || !until.Equal(tt.until) {
				t.Errorf("Verify() = %v, %v, want %v, %v", until, err, tt.until, tt.want)
			}
		})
	}
	if byCA.Authorities() == nil || clientcert.New(pin(own), believed(ca), nil).Authorities() != nil {
		t.Error("clients are to be told of authorities if and only if nobody else is believed")
	}
}

// TestPeersAreJudgedAnew asks several policies about one peer, and one policy over time.
func TestPeersAreJudgedAnew(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf", certtest.Valid(now.Add(-time.Hour), now.Add(time.Hour)))
	p := clientcert.NewPeer(&tls.ConnectionState{ServerName: "A.Test", PeerCertificates: chain(leaf)})
	if p.Name != "a.test" {
		t.Errorf("the name is %q", p.Name)
	}
	good, bad := clientcert.New(nil, believed(ca), nil), clientcert.New(nil, nil, nil)
	for i, tt := range []struct {
		policy *clientcert.Policy
		at     time.Time
		want   error
	}{
		{good, now, nil},
		{good, now.Add(time.Minute), nil},
		{bad, now.Add(time.Minute), clientcert.ErrRefused},
		{bad, now.Add(time.Minute), clientcert.ErrRefused},
		{good, now.Add(time.Minute), nil},
		{good, now.Add(2 * time.Hour), clientcert.ErrInvalid},
	} {
		if err := p.Verify(tt.policy, tt.at); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%d: Verify() = %v, want %v", i, err, tt.want)
		}
	}
	early := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: chain(ca.Issue(t, "leaf", certtest.Valid(now.Add(time.Hour), now.Add(3*time.Hour))))})
	if err := early.Verify(good, now); !errors.Is(err, clientcert.ErrInvalid) {
		t.Errorf("before its time: %v", err)
	}
	if err := early.Verify(good, now.Add(2*time.Hour)); err != nil {
		t.Errorf("a refusal holds for ever: %v", err)
	}
	for name, none := range map[string]*clientcert.Peer{"no TLS": nil, "no certificate": clientcert.NewPeer(&tls.ConnectionState{})} {
		if err := none.Verify(good, now); !errors.Is(err, clientcert.ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASecondLookAllocatesNothing(t *testing.T) {
	ca := certtest.CA(t, "ca")
	p, policy, now := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: chain(ca.Issue(t, "leaf"))}), clientcert.New(nil, believed(ca), nil), time.Now()
	if n := testing.AllocsPerRun(100, func() { _ = p.Verify(policy, now) }); n > 0 {
		t.Errorf("Verify() allocates %v times", n)
	}
}

// Requests of one connection may meet several policies, each of which it remembers, and not without end.
func TestSeveralPoliciesAreRemembered(t *testing.T) {
	ca, now := certtest.CA(t, "ca"), time.Now()
	peer := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: chain(ca.Issue(t, "leaf"))})
	var policies []*clientcert.Policy
	for i := range 20 {
		policies = append(policies, clientcert.New(nil, believed([]*certtest.Cert{ca, certtest.CA(t, "ca")}[i%2]), nil))
	}
	judge := func(several []*clientcert.Policy) {
		for i, p := range several {
			if err := peer.Verify(p, now); (err == nil) != (i%2 == 0) {
				t.Errorf("policy %d: %v", i, err)
			}
		}
	}
	judge(policies)
	judge(policies[:4])
	if n := testing.AllocsPerRun(100, func() { judge(policies[:4]) }); n != 0 {
		t.Errorf("four policies take turns at the price of %v allocations, want 0", n)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf", certtest.Names("a.test", "b.test"))
	got := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: chain(leaf, ca)}).Names()
	want := &exchange.Certificate{
		Fingerprint: [][32]byte{certname.Name{Kind: certname.Fingerprint, Text: leaf.ID()}.Hash()},
		SANs:        [][32]byte{certname.Name{Kind: certname.SAN, Text: "DNS:a.test"}.Hash(), certname.Name{Kind: certname.SAN, Text: "DNS:b.test"}.Hash()},
		Subjects:    [][32]byte{certname.Name{Kind: certname.Subject, Text: "CN=leaf"}.Hash()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Names() (-want +got):\n%s", diff)
	}
	if got := clientcert.NewPeer(&tls.ConnectionState{}).Names(); got != nil {
		t.Errorf("without a certificate: %v", got)
	}
	if got := (*clientcert.Peer)(nil).Names(); got != nil {
		t.Errorf("without TLS: %v", got)
	}
}
