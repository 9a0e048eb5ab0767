package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	checked "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

const (
	strict = configv1.RevocationMode_REVOCATION_MODE_STRICT
	soft   = configv1.RevocationMode_REVOCATION_MODE_SOFT
	ignore = configv1.RevocationMode_REVOCATION_MODE_IGNORE
)

// asking starts a gateway that asks responders.
func asking(t *testing.T, e server.Engine) *gateway {
	t.Helper()
	cache := revocation.NewCache(func(ctx context.Context, egress *hostsvc.EgressRules, url string, question []byte) ([]byte, error) {
		return hostsvc.AskResponder(ctx, egress, url, question, checked.MaxAnswer)
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- cache.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}, Certificates: certificates(t)}, cache)
}

func asTLS(c *certtest.Cert) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{c.Cert.Raw}, PrivateKey: c.Key, Leaf: c.Cert}
}

// TestRevocation has clients of which a responder says different things, or nobody anything, in every mode, where the name
// decides about them and where requests do.
func TestRevocation(t *testing.T) { overEngines(t, testRevocation) }

func testRevocation(t *testing.T, e server.Engine) {
	p := newPartners(t)
	ca := p.ca.Cert
	clients := map[string]*certtest.Cert{"good": ca.Issue(t, "good"), "revoked": ca.Issue(t, "revoked"), "not known there": ca.Issue(t, "x")}
	responder, broken := certtest.NewResponder(t, ca), certtest.NewResponder(t, ca)
	responder.Say(certtest.OCSP{Of: clients["good"].Cert})
	responder.Say(certtest.OCSP{Of: clients["revoked"].Cert, Revoked: true})
	broken.Down(true)
	up, down := httptest.NewServer(responder), httptest.NewServer(broken)
	t.Cleanup(up.Close)
	t.Cleanup(down.Close)
	echo := echo(t).URL
	for _, tt := range []struct {
		name string
		mode configv1.RevocationMode
		url  string
		want map[string]string // 403: a refusal, in the handshake or not
	}{
		{"strict", strict, up.URL, map[string]string{"good": "200", "revoked": "403", "not known there": "503"}},
		{"left out", 0, up.URL, map[string]string{"good": "200", "revoked": "403", "not known there": "503"}},
		{"soft", soft, up.URL, map[string]string{"good": "200", "revoked": "403", "not known there": "200"}},
		{"ignore", ignore, up.URL, map[string]string{"good": "200", "revoked": "200", "not known there": "200"}},
		{"strict, and it is down", strict, down.URL, map[string]string{"good": "503", "revoked": "503", "not known there": "503"}},
		{"soft, and it is down", soft, down.URL, map[string]string{"good": "200", "revoked": "200", "not known there": "200"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := asking(t, e)
			wanted := &configv1.RouteClientCertificates{Ca: []string{"partners"}}
			records := []statetest.Record{
				p.authority(&configv1.Revocation{Mode: tt.mode, Ocsp: &configv1.Ocsp{Url: tt.url, Timeout: durationpb.New(checked.DefaultTimeout)}}),
				hostRoute("alone", "/", wanted, "alone.test"), hostRoute("closed", "/closed", wanted, "shared.test"),
				hostRoute("open", "/open", nil, "shared.test"), certified("known", "known.test", "partners"),
			}
			for who, c := range clients {
				records = append(records, known(t, strings.ReplaceAll(who, " ", "-"), asTLS(c))...)
			}
			g.everywhere(echo, records...)
			for who, c := range clients {
				for host, refused := range map[string]string{"alone.test": "bad certificate", "shared.test": "403", "known.test": "401"} {
					for _, h2 := range []bool{false, true} {
						want := tt.want[who]
						if want == "403" {
							want = refused
						}
						got := g.visit(&visit{sni: host, host: host, path: "/closed", cert: asTLS(c), h2: h2})
						if got != want {
							t.Errorf("%s at %s, h2=%v: %s, want %s", who, host, h2, got, want)
						}
					}
				}
			}
		})
	}
}

// TestGoodAnswersAreNotAskedForAgain has many connections with one certificate.
func TestGoodAnswersAreNotAskedForAgain(t *testing.T) {
	t.Parallel()
	p := newPartners(t)
	c := p.ca.Issue(t, "good")
	responder := certtest.NewResponder(t, p.ca.Cert)
	responder.Say(certtest.OCSP{Of: c.Cert})
	up := httptest.NewServer(responder)
	t.Cleanup(up.Close)
	g := asking(t, server.Keyward)
	g.everywhere(echo(t).URL, p.authority(&configv1.Revocation{Ocsp: &configv1.Ocsp{Url: up.URL}}),
		hostRoute("alone", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "alone.test"))
	for i := range 5 {
		if got := g.visit(&visit{sni: "alone.test", host: "alone.test", path: fmt.Sprintf("/%d", i), cert: asTLS(c)}); got != "200" {
			t.Fatalf("visit %d: %s", i, got)
		}
	}
	if n := responder.Asked(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestNobodyIsRefusedForWantOfAnAnswer has clients that give no name, of many authorities, each with a responder that takes its
// time: the first request comes right behind the handshake.
func TestNobodyIsRefusedForWantOfAnAnswer(t *testing.T) {
	overEngines(t, testNobodyIsRefusedForWantOfAnAnswer)
}

func testNobodyIsRefusedForWantOfAnAnswer(t *testing.T, e server.Engine) {
	const authorities = 6
	g := asking(t, e)
	clients := map[string]*certtest.Cert{}
	var records []statetest.Record
	for i := range authorities {
		ca := certtest.CA(t, fmt.Sprintf("ca-%d", i))
		client := ca.Issue(t, fmt.Sprintf("client-%d", i))
		responder := certtest.NewResponder(t, ca)
		responder.Say(certtest.OCSP{Of: client.Cert})
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(200 * time.Millisecond):
				responder.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		}))
		t.Cleanup(up.Close)
		name, host := fmt.Sprintf("ca-%d", i), fmt.Sprintf("h%d.test", i)
		clients[host] = client
		records = append(records,
			record(certs.KindCA, name, &configv1.CaCertificate{Name: name, Certificates: ca.PEM(), Revocation: &configv1.Revocation{
				Mode: strict, Ocsp: &configv1.Ocsp{Url: up.URL, Timeout: durationpb.New(checked.DefaultTimeout)},
			}}),
			hostRoute(name, "/", &configv1.RouteClientCertificates{Ca: []string{name}}, host))
	}
	g.everywhere(echo(t).URL, records...)
	for host, client := range clients {
		v := &visit{host: host, path: "/", cert: asTLS(client)}
		c, err := g.shake(v.config())
		if err != nil {
			t.Fatal(err)
		}
		if status, err := g.request(c, v); err != nil || status != 200 {
			t.Errorf("%s: %d, %v; want 200", host, status, err)
		}
	}
}
