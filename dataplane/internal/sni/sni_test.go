package sni_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// keys of every kind, made once: RSA keys are slow to make.
type keys struct{ ecdsa, ed25519, rsa crypto.Signer }

func newKeys(t *testing.T) keys {
	t.Helper()
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return keys{e, ed, r}
}

// version is valid for an hour on both sides of a time.
func version(t *testing.T, key crypto.Signer, around time.Time) *certs.Version {
	t.Helper()
	c := certtest.SelfSigned(t, "test", certtest.Key(key), certtest.Valid(around.Add(-time.Hour), around.Add(time.Hour)))
	return &certs.Version{ID: c.ID(), Chain: []*x509.Certificate{c.Cert}, Key: key}
}

func TestTheNarrowestNameIsShown(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	open := func(name string, snis ...string) *sni.Certificate {
		return sni.Open("uid-"+name, &certs.Set{Name: name, SNIs: snis, Current: version(t, k.ecdsa, noon)})
	}
	exact, wild, other := open("exact", "a.b.test"), open("wild", "*.b.test", "c.test"), open("other")
	expired := sni.Open("uid-expired", &certs.Set{Name: "expired", SNIs: []string{"old.b.test"}, Current: version(t, k.ecdsa, noon.Add(-24*time.Hour))})
	broken := sni.Closed("uid-broken", "broken", []string{"broken.b.test"})
	all := []*sni.Certificate{exact, wild, expired, broken}
	for _, tt := range []struct {
		name     string
		ask      string
		defaults []*sni.Certificate
		want     string // empty: nothing is shown
		known    bool
	}{
		{"exact before wildcard", "a.b.test", nil, "exact", true},
		{"one level of a wildcard", "x.b.test", nil, "wild", true},
		{"two levels are no level", "y.x.b.test", nil, "", false},
		{"the parent itself is none", "b.test", nil, "", false},
		{"a second name", "c.test", nil, "wild", true},
		{"a name of nobody", "d.test", nil, "", false},
		{"a name of nobody with a default", "d.test", []*sni.Certificate{other}, "other", true},
		{"no name", "", nil, "", false},
		{"no name with a default", "", []*sni.Certificate{other}, "other", true},
		{"an expired certificate keeps its name", "old.b.test", []*sni.Certificate{other}, "", true},
		{"a broken certificate keeps its name", "broken.b.test", []*sni.Certificate{other}, "", true},
		{"a default that is not there", "d.test", []*sni.Certificate{sni.Closed("", "gone", nil)}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			choice := sni.New(all, tt.defaults).Find(tt.ask)
			if known := len(choice) > 0; known != tt.known {
				t.Errorf("Find(%q) knows it: %v, want %v", tt.ask, known, tt.known)
			}
			got := ""
			if choice.Valid(noon) {
				got = choice[0].Set.Name
			}
			if got != tt.want {
				t.Errorf("Find(%q) = %q, want %q", tt.ask, got, tt.want)
			}
		})
	}
	if none := (*sni.Table)(nil); len(none.Find("a.b.test"))+len(none.All())+len(none.Defaults()) > 0 {
		t.Error("no table has certificates")
	}
}

func TestTheStagedVersionTakesOver(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	current, next, previous := version(t, k.ecdsa, noon), version(t, k.rsa, noon.Add(90*time.Minute)), version(t, k.ecdsa, noon)
	bare := version(t, k.ecdsa, noon)
	bare.Key = nil
	c := sni.Open("uid", &certs.Set{Name: "c", Current: current, Next: next, Previous: previous})
	for _, tt := range []struct {
		name string
		c    *sni.Certificate
		at   time.Time
		want *certs.Version
		ends time.Time
	}{
		{"the current one", c, noon, current, next.Leaf().NotAfter},
		{"the current one while both are valid", c, noon.Add(45 * time.Minute), current, next.Leaf().NotAfter},
		{"the next one once the current has expired", c, noon.Add(70 * time.Minute), next, next.Leaf().NotAfter},
		{"none when both have", c, noon.Add(5 * time.Hour), nil, next.Leaf().NotAfter},
		{"none before", c, noon.Add(-5 * time.Hour), nil, next.Leaf().NotAfter},
		{"one version by its id", c.Only(next.ID), noon.Add(45 * time.Minute), next, next.Leaf().NotAfter},
		{"one version by its id, when it is not valid", c.Only(next.ID), noon, nil, next.Leaf().NotAfter},
		{"without a key", sni.Open("uid", &certs.Set{Name: "c", Current: bare}), noon, nil, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.c.At(tt.at); got != tt.want {
				t.Errorf("At(%v) = %v, want %v", tt.at, got, tt.want)
			}
			if got := tt.c.Ends(); !got.Equal(tt.ends) {
				t.Errorf("Ends() = %v, want %v", got, tt.ends)
			}
		})
	}
}

// TestClientsAreShownWhatTheyCanVerify shakes hands with clients of which each knows only some kinds of signatures.
func TestClientsAreShownWhatTheyCanVerify(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	open := func(uid string, key crypto.Signer) *sni.Certificate {
		return sni.Open(uid, &certs.Set{Name: uid, SNIs: []string{"a.test"}, Current: version(t, key, now)})
	}
	byRSA, byEd25519, byECDSA := open("1-rsa", k.rsa), open("2-ed25519", k.ed25519), open("3-ecdsa", k.ecdsa)
	suite := func(ids ...uint16) *tls.Config { return &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: ids} }
	for _, tt := range []struct {
		name   string
		held   []*sni.Certificate
		client *tls.Config
		want   x509.PublicKeyAlgorithm
	}{
		{"a client that knows all", []*sni.Certificate{byRSA, byEd25519, byECDSA}, &tls.Config{}, x509.ECDSA},
		{"without ECDSA", []*sni.Certificate{byRSA, byEd25519}, &tls.Config{}, x509.Ed25519},
		{"a client of RSA only", []*sni.Certificate{byRSA, byECDSA}, suite(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), x509.RSA},
		{"a client of ECDSA only", []*sni.Certificate{byRSA, byECDSA}, suite(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), x509.ECDSA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			choice := sni.New(tt.held, nil).Find("a.test")
			server := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return choice.For(h, now), nil }}
			tt.client.ServerName, tt.client.InsecureSkipVerify = "a.test", true
			if got := shake(t, server, tt.client).PeerCertificates[0].PublicKeyAlgorithm; got != tt.want {
				t.Errorf("the client is shown %v, want %v", got, tt.want)
			}
		})
	}
}

func shake(t *testing.T, server, client *tls.Config) tls.ConnectionState {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(a, server).Handshake() }()
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		t.Fatalf("client: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("server: %v", err)
	}
	return c.ConnectionState()
}
