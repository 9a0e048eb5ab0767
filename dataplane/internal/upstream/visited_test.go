package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/check/certs"
)

// version returns a version of a client certificate with a common name that is valid until then.
func (a *authority) version(name string, from, until time.Time) *certs.Version {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := a.signFor(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: from, NotAfter: until,
	}, a.cert, &key.PublicKey)
	return &certs.Version{ID: certs.ID(leaf.Raw), Chain: []*x509.Certificate{leaf, a.cert}, Key: key}
}

// valid returns a version that is valid now.
func (a *authority) valid(name string) *certs.Version {
	return a.version(name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func shown(current, next *certs.Version) *runtime.Identity {
	i := &runtime.Identity{Reference: "client", Set: &certs.Set{Name: "client", Current: current, Next: next}}
	for _, v := range []*certs.Version{current, next} {
		if v != nil {
			i.Key += v.ID
		}
	}
	return i
}

// visited is an upstream that demands client certificates and answers with the name in the one it is shown. Requests for /wait
// are answered when released.
type visited struct {
	address  string
	accepted atomic.Int64
	closed   atomic.Int64
	resumed  atomic.Int64
	waiting  atomic.Int64
	release  chan struct{}
}

func newVisited(t testing.TB, server tls.Certificate, clients *x509.CertPool, change func(*tls.Config)) *visited {
	t.Helper()
	u := &visited{release: make(chan struct{})}
	c := &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"h2", "http/1.1"},
	}
	if change != nil {
		change(c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.address = l.Addr().String()
	s := &http.Server{Handler: u, TLSConfig: c, ErrorLog: log.New(io.Discard, "", 0), ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			u.accepted.Add(1)
		case http.StateClosed:
			u.closed.Add(1)
		}
	}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
	})
	return u
}

func (u *visited) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS.DidResume {
		u.resumed.Add(1)
	}
	if r.URL.Path == "/wait" {
		u.waiting.Add(1)
		select {
		case <-u.release:
		case <-r.Context().Done():
		}
	}
	name := "nobody"
	if len(r.TLS.PeerCertificates) > 0 {
		name = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if r.Header.Get("Upgrade") != "" {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n%s", name)
		return
	}
	fmt.Fprint(w, name)
}

// spoken are the ways to speak over TLS.
type spoken struct {
	name, engine string
	protocol     runtime.Protocol
}

func eachSpoken(t *testing.T, f func(t *testing.T, how spoken)) {
	t.Helper()
	for _, how := range []spoken{
		{"own", "", runtime.HTTP1}, {"net/http", upstream.EngineNetHTTP, runtime.HTTP1}, {"HTTP/2", "", runtime.HTTP2},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			f(t, how)
		})
	}
}

func (how spoken) service(ca *authority, i *runtime.Identity, addresses ...string) *runtime.Service {
	s := service(addresses...)
	s.Protocol, s.TLS = how.protocol, &runtime.TLS{Verify: true, Authorities: []*x509.Certificate{ca.cert}}
	for n := range s.Targets {
		s.Targets[n].Identity = i
	}
	return s
}
