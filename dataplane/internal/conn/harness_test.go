package conn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/conn"
)

// patience is how long something may take that must happen.
const patience = 20 * time.Second

// script is a connection that gives numbers from 0 to 255, again and again, in pieces of the sizes that next says.
type script struct {
	net.Conn
	at   int
	next func(most int) int
}

func (s *script) Read(p []byte) (int, error) {
	n := s.next(len(p))
	if n == 0 {
		return 0, io.EOF
	}
	count(p[:n], s.at)
	s.at += n
	return n, nil
}

func (s *script) Close() error { return nil }

// count fills p with the numbers that follow.
func count(p []byte, from int) {
	for i := range min(len(p), 256) {
		p[i] = byte(from + i)
	}
	for done := 256; done < len(p); done *= 2 {
		copy(p[done:], p[:done])
	}
}

// swept is a sweeper that runs until the test ends.
func swept(t testing.TB) *conn.Sweeper {
	t.Helper()
	s := conn.NewSweeper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return s
}

// transports are what connections are made of. They return both ends of one.
func transports(t testing.TB) map[string]func(testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	config := tlsConfig(t)
	return map[string]func(testing.TB) (ours, theirs net.Conn){
		"plain": tcp,
		"TLS": func(t testing.TB) (net.Conn, net.Conn) {
			t.Helper()
			ours, theirs := tcp(t)
			server, client := tls.Server(ours, config), tls.Client(theirs, config)
			failed := make(chan error, 1)
			go func() { failed <- client.HandshakeContext(t.Context()) }()
			if err := server.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			return server, client
		},
	}
}

func tcp(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	ours = <-accepted
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	return ours, theirs
}

// tlsConfig is good for both ends.
func tlsConfig(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{
		ServerName:   "test",
		RootCAs:      roots,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

// await waits for something that must happen.
func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
		panic("unreachable")
	}
}

// aborted is an Aborter that tells.
type aborted chan struct{}

func (a aborted) Abort() { close(a) }
