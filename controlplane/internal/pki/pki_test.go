package pki_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/pki/pkitest"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

const domain = "kw.test"

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func config(m *pkitest.Authorities, c *clock, replica string) pki.Config {
	return pki.Config{
		Authorities: m, Sealer: pkitest.Sealer{}, TrustDomain: domain, Replica: replica, Names: []string{"localhost", "127.0.0.1"},
		Now: c.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, m *pkitest.Authorities, c *clock) *pki.CA {
	t.Helper()
	ca, err := pki.Open(t.Context(), config(m, c, "r1"))
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return ca
}

func request(t *testing.T, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, ca *pki.CA, key crypto.Signer, change func(*x509.CertificateRequest)) pki.Issued {
	t.Helper()
	req, err := pki.ParseRequest(request(t, key, change))
	if err != nil {
		t.Fatal(err)
	}
	id, err := mtls.GatewayID(domain, "pay", "g1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ca.IssueGateway(req, id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func parse(t *testing.T, chain [][]byte) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func TestGatewayCertificateHoldsOnlyTheKeyOfTheRequest(t *testing.T) {
	t.Parallel()
	c := newClock()
	ca, key := open(t, &pkitest.Authorities{}, c), newKey(t)
	issued := issue(t, ca, key, func(r *x509.CertificateRequest) {
		r.Subject.CommonName = "admin"
		r.DNSNames = []string{"evil.test"}
		r.URIs = []*url.URL{{Scheme: "spiffe", Host: domain, Path: "/controlplane/evil"}}
	})
	chain := parse(t, issued.Chain)
	leaf := chain[0]
	id, err := mtls.VerifyGateway(chain, ca.Roots(), domain, c.now)
	if err != nil || id.String() != "spiffe://kw.test/group/pay/gateway/g1" {
		t.Fatalf("VerifyGateway = %v, %v", id, err)
	}
	if leaf.Subject.CommonName != "" || len(leaf.DNSNames) > 0 || len(leaf.URIs) != 1 {
		t.Errorf("certificate took names from the request: %v %v %v", leaf.Subject, leaf.DNSNames, leaf.URIs)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("certificate has another key")
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("certificate may do more than sign: CA %v, usage %v", leaf.IsCA, leaf.KeyUsage)
	}
	if got := leaf.NotAfter.Sub(c.now); got != 24*time.Hour || !leaf.NotBefore.Before(c.now) {
		t.Errorf("certificate lives from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if _, err := mtls.VerifyControlPlane(chain, ca.Roots(), domain, c.now); err == nil {
		t.Error("a gateway's certificate passes as a control plane's")
	}
}

func TestServerCertificateCarriesTheRoot(t *testing.T) {
	t.Parallel()
	c := newClock()
	ca := open(t, &pkitest.Authorities{}, c)
	cert, err := ca.ServerCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mtls.VerifyPinned(parse(t, cert.Certificate), ca.Trust().Pin, domain, c.now); err != nil {
		t.Errorf("VerifyPinned = %v", err)
	}
	if err := cert.Leaf.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	if err := cert.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	again, _ := ca.ServerCertificate()
	c.now = c.now.Add(13 * time.Hour)
	later, err := ca.ServerCertificate()
	if err != nil || again != cert || later == cert {
		t.Errorf("server certificate: kept %v, renewed %v, %v", again == cert, later != cert, err)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := request(t, newKey(t), nil)
	forged[len(forged)-1] ^= 1
	for name, der := range map[string][]byte{
		"empty": nil, "junk": []byte("junk"), "rsa": request(t, weak, nil), "p224": request(t, p224, nil), "forged": forged,
		"large": make([]byte, 1<<20),
	} {
		if _, err := pki.ParseRequest(der); !errors.Is(err, pki.ErrRequest) {
			t.Errorf("ParseRequest(%s) = %v, want ErrRequest", name, err)
		}
	}
}

func TestReplicasShareOneAuthority(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	var wg sync.WaitGroup
	cas := make([]*pki.CA, 4)
	for i := range cas {
		wg.Go(func() {
			ca, err := pki.Open(t.Context(), config(m, c, "r1"))
			if err != nil {
				t.Error(err)
			}
			cas[i] = ca
		})
	}
	wg.Wait()
	for _, ca := range cas {
		if ca.Trust().Pin != cas[0].Trust().Pin {
			t.Error("replicas have different roots")
		}
	}
	if len(m.Rows()) != 2 {
		t.Errorf("%d authorities were made, want a root and an intermediate", len(m.Rows()))
	}
}

func TestIntermediateIsRenewedAndOldCertificatesStayGood(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	ca := open(t, m, c)
	c.now = c.now.Add(19*24*time.Hour + 20*time.Hour)
	old := issue(t, ca, newKey(t), nil)
	c.now = c.now.Add(8 * time.Hour) // a third of the intermediate's life is left
	second := open(t, m, c)
	fresh := issue(t, second, newKey(t), nil)
	if bytes.Equal(old.Chain[1], fresh.Chain[1]) {
		t.Fatal("the intermediate was not renewed")
	}
	if second.Trust().Pin != ca.Trust().Pin {
		t.Error("the root has changed")
	}
	if _, err := mtls.VerifyGateway(parse(t, old.Chain), second.Roots(), domain, c.now); err != nil {
		t.Errorf("a certificate under the old intermediate: %v", err)
	}
	if err := ca.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := issue(t, ca, newKey(t), nil); !bytes.Equal(got.Chain[1], fresh.Chain[1]) {
		t.Error("the other replica does not use the new intermediate after Reload")
	}
}

func TestExchangedOrMovedAuthoritiesAreRefused(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	open(t, m, c)
	other := &pkitest.Authorities{}
	open(t, other, c)
	tests := map[string]func(rows []store.Authority){
		"certificate exchanged": func(r []store.Authority) { r[0].Certificate = other.Rows()[0].Certificate },
		"moved to another id":   func(r []store.Authority) { r[0].ID = "x" },
		"kind changed":          func(r []store.Authority) { r[1].Kind, r[0].Kind = "root", "intermediate" },
		"truncated":             func(r []store.Authority) { r[0].Sealed = r[0].Sealed[:len(r[0].Sealed)/2] },
	}
	for name, change := range tests {
		changed := m.Rows()
		change(changed)
		damaged := pkitest.Of(changed)
		if _, err := pki.Open(t.Context(), config(damaged, c, "r1")); err == nil {
			t.Errorf("Open with %s = nil", name)
		}
		if len(damaged.Rows()) != 2 {
			t.Errorf("%s: new authorities were made over damaged ones", name)
		}
	}
}

func TestTrustChangeIsAnnounced(t *testing.T) {
	t.Parallel()
	m, c := &pkitest.Authorities{}, newClock()
	ca := open(t, m, c)
	before := ca.Trust()
	second := &pkitest.Authorities{}
	open(t, second, c)
	root := second.Rows()[0]
	root.State = "next"
	m.Add(root)
	if err := ca.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-before.Changed:
	default:
		t.Error("Changed is not closed")
	}
	if after := ca.Trust(); len(after.Roots) != 2 || after.Pin != before.Pin {
		t.Errorf("trust bundle has %d roots, want 2 under the old pin", len(after.Roots))
	}
	before = ca.Trust()
	if err := ca.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-before.Changed:
		t.Error("a reload without a change is announced")
	default:
	}
}

func expired(t *testing.T, key crypto.Signer, cert []byte, at time.Time) pki.Expired {
	t.Helper()
	e := pki.Expired{Certificate: cert, CSR: request(t, newKey(t), nil), At: at}
	sum := sha256.Sum256(mtls.RenewalMessage(e.Certificate, e.CSR, e.At))
	var err error
	if e.Signature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRenewalOfExpired(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	tests := []struct {
		name  string
		after time.Duration
		edit  func(*testing.T, *pki.Expired)
		want  string
	}{
		{name: "good still", after: time.Hour},
		{name: "within grace", after: 30 * day},
		{name: "beyond grace", after: 32 * day, want: "has to join again"},
		{name: "signed long ago", after: 2 * day, edit: func(_ *testing.T, e *pki.Expired) { e.At = e.At.Add(-10 * time.Minute) }, want: "at another time"},
		{name: "time changed", after: 2 * day, edit: func(_ *testing.T, e *pki.Expired) { e.At = e.At.Add(-time.Minute) }, want: "not of its key"},
		{name: "request exchanged", after: 2 * day, edit: func(t *testing.T, e *pki.Expired) { e.CSR = request(t, newKey(t), nil) }, want: "not of its key"},
		{name: "other key", after: 2 * day, edit: func(t *testing.T, e *pki.Expired) { *e = expired(t, newKey(t), e.Certificate, e.At) }, want: "not of its key"},
		{name: "junk", after: 2 * day, edit: func(_ *testing.T, e *pki.Expired) { e.Certificate = []byte("junk") }, want: "does not parse"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, c, key := &pkitest.Authorities{}, newClock(), newKey(t)
			ca := open(t, m, c)
			cert := issue(t, ca, key, nil).Chain[0]
			c.now = c.now.Add(tt.after)
			ca = open(t, m, c) // with a newer intermediate
			e := expired(t, key, cert, c.now)
			if tt.edit != nil {
				tt.edit(t, &e)
			}
			id, err := ca.VerifyExpired(e)
			if tt.want == "" && (err != nil || id.Gateway != "g1") {
				t.Errorf("VerifyExpired = %v, %v", id, err)
			}
			if tt.want != "" && (!errors.Is(err, pki.ErrNotRenewable) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("VerifyExpired error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	var ids []string
	down := false
	r := pki.NewRevocations(func(context.Context) ([]string, error) {
		if down {
			return nil, errors.New("down")
		}
		return ids, nil
	})
	if _, err := r.Revoked("a"); !errors.Is(err, pki.ErrNotLoaded) {
		t.Errorf("Revoked before loading = %v, want ErrNotLoaded", err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut, stop := r.Watch("a")
	other, stopOther := r.Watch("b")
	defer stopOther()
	ids = []string{"a"}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-cut
	stop()
	select {
	case <-other:
		t.Error("another gateway was cut")
	default:
	}
	ids, down = nil, true
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("Refresh while the store is down = nil")
	}
	if revoked, err := r.Revoked("a"); !revoked || err != nil {
		t.Errorf("Revoked = %v, %v; a revocation is final", revoked, err)
	}
	again, stop := r.Watch("a")
	<-again
	stop()
}
