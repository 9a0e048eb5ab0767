package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

// TestAuthoritiesAreAnsweredBeforeRoutes over plain HTTP, although everything else must be HTTPS, and nobody else is.
func TestAuthoritiesAreAnsweredBeforeRoutes(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		g := start(t, e, server.Listener{Name: "http", Address: "127.0.0.1:0"}, https())
		live := record(certs.KindChallenge, "c", &systemv1.AcmeChallenge{
			Type: certs.ChallengeHTTP, Host: "a.test", Token: "live", KeyAuthorization: "live.thumb", Until: timestamppb.New(time.Now().Add(time.Hour)),
		})
		over := record(certs.KindChallenge, "over", &systemv1.AcmeChallenge{
			Type: certs.ChallengeHTTP, Host: "a.test", Token: "over", KeyAuthorization: "over.thumb", Until: timestamppb.New(time.Now().Add(-time.Second)),
		})
		strict := []statetest.Record{settings(&configv1.Settings{RequireHttps: new(true)}), record("services", "up", service(echo(t).URL)), record("routes", "r", route())}
		g.config(append(strict, live, over)...)
		for _, tt := range []struct {
			name, method, host, target string
			status                     int
			body                       string
		}{
			{"a token", "GET", "a.test", "/.well-known/acme-challenge/live", 200, "live.thumb"},
			{"with a port", "GET", "A.test:5002", "/.well-known/acme-challenge/live", 200, "live.thumb"},
			{"of another host", "GET", "b.test", "/.well-known/acme-challenge/live", 403, ""},
			{"over", "GET", "a.test", "/.well-known/acme-challenge/over", 403, ""},
			{"unknown", "GET", "a.test", "/.well-known/acme-challenge/x", 403, ""},
			{"written to", "POST", "a.test", "/.well-known/acme-challenge/live", 403, ""},
			{"encoded", "GET", "a.test", "/.well-known/acme-challenge/%6cive", 403, ""},
		} {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+g.address("http")+tt.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status || tt.body != "" && string(body) != tt.body {
				t.Errorf("%s: %d %q %v, want %d %q", tt.name, resp.StatusCode, body, err, tt.status, tt.body)
			}
		}
		c, err := g.shake(&tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := ask(t, c, "a.test", "/.well-known/acme-challenge/live"); err != nil || resp.Header.Get("Content-Type") == "application/octet-stream" {
			t.Errorf("over TLS it is no request like others: %v %v", resp, err)
		}
		g.config(strict...)
		if resp, err := http.Get("http://" + g.address("http") + "/.well-known/acme-challenge/live"); err != nil || resp.StatusCode != 403 {
			t.Errorf("after the order: %v %v", resp, err)
		} else {
			_ = resp.Body.Close()
		}
	})
}

// TestAuthoritiesAreShownTheirProof has the handshake of tls-alpn-01, beside those of clients.
func TestAuthoritiesAreShownTheirProof(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		ca := newIssuer(t, "ca")
		proof, real := ca.issue(issued{names: []string{"a.test"}}), ca.issue(issued{names: []string{"a.test"}})
		key, err := x509.MarshalPKCS8PrivateKey(proof.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		g := startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}})
		asked := record(certs.KindChallenge, "c", &systemv1.AcmeChallenge{
			Type: certs.ChallengeTLS, Host: "a.test", Shown: proof.Leaf.Raw, ShownKey: key, Until: timestamppb.New(time.Now().Add(time.Hour)),
		})
		g.everywhere(echo(t).URL, asked, shownFor(t, "main", real, "a.test"))
		c, err := g.shake(&tls.Config{ServerName: "A.test", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if s := c.ConnectionState(); !s.PeerCertificates[0].Equal(proof.Leaf) || s.NegotiatedProtocol != "acme-tls/1" {
			t.Errorf("an authority is shown %v with %q", s.PeerCertificates[0].SerialNumber, s.NegotiatedProtocol)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after the handshake it reads %d bytes: %v", n, err)
		}
		for name, protos := range map[string][]string{"a client": {"http/1.1"}, "one that offers both": {"acme-tls/1", "http/1.1"}, "one that offers nothing": nil} {
			c, err := g.shake(&tls.Config{ServerName: "a.test", NextProtos: protos, InsecureSkipVerify: true})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if s := c.ConnectionState(); !s.PeerCertificates[0].Equal(real.Leaf) || s.NegotiatedProtocol == "acme-tls/1" {
				t.Errorf("%s is shown the proof, or speaks %q", name, s.NegotiatedProtocol)
			}
		}
		g.everywhere(echo(t).URL, shownFor(t, "main", real, "a.test"))
		_, err = g.shake(&tls.Config{ServerName: "a.test", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		refusedAs(t, err, "no application protocol")
	})
}
