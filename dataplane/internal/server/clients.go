package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
)

// demand has the client asked for a certificate if a route of the name wants one: without a name, if any route does. Where
// all routes of the name want the same, the handshake fails without it; else each request is judged. Sessions of such names
// are never resumed, so that each connection has a handshake that shows the certificate.
func (s *handshake) demand(c *tls.Config, rt *runtime.Runtime, name string) {
	if rt.Clients.Len() == 0 {
		return
	}
	var keys []string
	common := false
	if name == "" {
		for key := range rt.Clients.All() {
			if keys = append(keys, key); len(keys) > 1 {
				break // which they are makes no difference here, and every credential may bring one
			}
		}
	} else if keys, common = rt.Table.Needs([]byte(name)); len(keys) == 0 {
		return
	}
	c.ClientAuth, c.SessionTicketsDisabled = tls.RequestClientCert, true
	c.ClientCAs = authorities(rt, keys)
	if !common || runtime.Needless(keys[0]) {
		c.VerifyConnection = func(state tls.ConnectionState) error {
			askedFor(s.ctx, rt, mayAsk(rt, name, keys), state.PeerCertificates)
			return nil
		}
		return
	}
	s.demanded, c.ClientAuth = true, tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error {
		all, ok := rt.Clients.Get(keys[0])
		if !ok {
			return clientcert.ErrRefused
		}
		askedFor(s.ctx, rt, []*clientcert.Policy{all.Policy}, state.PeerCertificates)
		_, err := all.Policy.Verify(state.PeerCertificates, time.Now())
		if errors.Is(err, clientcert.ErrUnsure) {
			return nil // an alert would say that the certificate is bad; requests are answered 503
		}
		return err
	}
}

// mayAsk are the policies that may judge requests of a connection. Without a name that is any, and there may be as many as there
// are credentials: instead of them it is all authorities at once.
func mayAsk(rt *runtime.Runtime, name string, keys []string) []*clientcert.Policy {
	if name == "" {
		return []*clientcert.Policy{rt.Asked}
	}
	var out []*clientcert.Policy
	for _, key := range keys {
		if c, ok := rt.Clients.Get(key); ok {
			out = append(out, c.Policy)
		}
	}
	return out
}

// askedFor waits until responders have said for the first time what they know of a client's certificate, as long as the
// configuration lets them: later nobody waits, and requests that come before an answer could only be refused.
func askedFor(ctx context.Context, rt *runtime.Runtime, policies []*clientcert.Policy, chain []*x509.Certificate) {
	if rt.Responders == nil {
		return
	}
	var missing revocation.Finding
	for _, p := range policies {
		if p != nil && p.Asks() {
			missing.Told = append(missing.Told, p.Missing(chain, time.Now()).Told...)
		}
	}
	rt.Responders.Await(ctx, missing)
}

// authorities are those that the client is told of, nil if it must not be: it may leave a certificate of others unsaid.
func authorities(rt *runtime.Runtime, keys []string) *x509.CertPool {
	if len(keys) != 1 {
		return nil
	}
	c, ok := rt.Clients.Get(keys[0])
	if !ok {
		return nil
	}
	return c.Policy.Authorities()
}

type peerKey struct{}

// withPeer keeps what is known of a client of net/http's where its requests find it.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if strict, ok := c.(*strictConn); ok {
		c = strict.Conn
	}
	secure, ok := c.(*tls.Conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peerOf(secure))
}

func peerOf(secure *tls.Conn) *clientcert.Peer {
	state := secure.ConnectionState()
	return clientcert.NewPeer(&state)
}

// misdirected reports whether the connection was made under a name that asks for other client certificates than the host of
// the request: then it says nothing about the client that counts here (RFC 9110 section 15.5.20).
func (c *call) misdirected() bool {
	p, host := c.secure, c.x.Request.Host
	if p == nil || p.Name == "" || string(host) == p.Name {
		return false
	}
	return !c.rt.Table.SameNeeds(append(c.x.Alloc(len(p.Name)), p.Name...), host)
}

// Certificate implements exchange.Client.
func (c *call) Certificate(authorities string) (*exchange.Certificate, exchange.Trust) {
	certificate, trust := c.rt.Believed(c.route, authorities, c.secure, c.x.Timings.Received)
	if trust == exchange.Trusted && authorities != "" {
		c.x.Vouched = append(c.x.Vouched, authorities)
	}
	return certificate, trust
}

// Proves implements exchange.Client.
func (c *call) Proves(certificates string) bool {
	return c.rt.Vouched(certificates, c.secure, c.x.Timings.Received) == nil
}

// clientRefusal looks at the client's certificate; nil if the route wants none or this one is good.
func (c *call) clientRefusal() *exchange.Refusal {
	err := c.rt.Admits(c.route, c.secure, c.x.Timings.Received)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, clientcert.ErrMissing):
		return c.server.refusals.noClient
	case errors.Is(err, clientcert.ErrRevoked):
		return c.server.refusals.revokedClient
	case errors.Is(err, clientcert.ErrUnsure):
		return c.server.refusals.unsureClient
	default:
		return c.server.refusals.badClient
	}
}
