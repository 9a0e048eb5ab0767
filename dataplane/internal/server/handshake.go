package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"keyward.dev/dataplane/internal/challenge"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/shared/certfile"
	"keyward.dev/shared/check/ciphers"
)

// handshakes says how TLS handshakes go: which certificate is shown, and what is spoken. Each looks at the runtime of its
// moment, so that a change is there with the next one.
type handshakes struct {
	runtime *runtime.Holder
	files   *certfile.Certificate // shown where the configuration has nothing; nil: none
	// base is one for all listeners and lives as long as the server. It keeps the keys of session tickets for where the group
	// has none: they are drawn by this process, replaced daily, and good for a week.
	base   *tls.Config
	suites []uint16 // spoken in TLS 1.2 unless the settings say which
	failed [failureKinds]atomic.Uint64
}

// failure is why a handshake failed.
type failure int

const (
	failedProtocol failure = iota // no version, cipher, curve or protocol in common, or not TLS
	failedTimeout
	failedGone          // the client went away
	failedByClient      // the client refused, mostly the certificate
	failedNoCertificate // there is none for the name
	failedClient        // the client's certificate is missing or refused
	failureKinds
)

func (f failure) String() string {
	return [...]string{"protocol", "timeout", "client_gone", "refused_by_client", "no_certificate", "client_certificate"}[f]
}

// handshake is one under way.
type handshake struct {
	ctx     context.Context //nolint:containedctx // it lives as long as the handshake
	failure failure
	// demanded: it fails without the right certificate of the client's. agreed: versions and ciphers are settled.
	demanded, agreed bool
}

type handshakeKey struct{}

func newHandshakes(rt *runtime.Holder, files *certfile.Certificate) *handshakes {
	h := &handshakes{runtime: rt, files: files, suites: slices.Sorted(maps.Values(ciphers.Suites()))}
	h.base = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: h.config}
	return h
}

// run shakes hands.
func (h *handshakes) run(secure *tls.Conn) error {
	var this handshake
	err := secure.HandshakeContext(context.WithValue(context.Background(), handshakeKey{}, &this))
	if err != nil {
		h.failed[this.reason(err)].Add(1)
	}
	return err
}

// config is what a handshake goes by, given what the client has said.
func (h *handshakes) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	this, ok := hello.Context().Value(handshakeKey{}).(*handshake)
	if !ok {
		return nil, errors.New("not a handshake of the server")
	}
	this.ctx = hello.Context()
	c := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: h.suites, NextProtos: ciphers.Protocols()}
	var shown sni.Choice
	if rt := h.runtime.Load(); rt != nil {
		name := strings.ToLower(hello.ServerName)
		if challenged := rt.Challenges.Shown(name, hello.SupportedProtos, time.Now()); challenged != nil {
			return proving(challenged), nil
		}
		h.speak(c, rt, name)
		this.demand(c, rt, name)
		shown = rt.Certificates.Find(name)
	}
	if err := agree(c, hello.SupportedProtos); err != nil {
		return nil, err
	}
	now, fromFiles := time.Now(), len(shown) == 0 && h.files != nil
	if !fromFiles && !shown.Valid(now) {
		// Without a certificate the handshake ends with the alert unrecognized_name (RFC 6066 section 3); a session from
		// before must not get around that.
		this.failure, c.SessionTicketsDisabled = failedNoCertificate, true
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		this.agreed = true
		if fromFiles {
			return h.files.Get(hello)
		}
		return shown.For(hello, now), nil
	}
	return c, nil
}

// proving is the configuration for an ACME authority that looks whether a name is ours. Nothing of it is used for anything else:
// no session comes of it, and no client is known by it.
func proving(shown *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{challenge.Protocol}, Certificates: []tls.Certificate{*shown}, SessionTicketsDisabled: true,
	}
}

// speak puts into a configuration what is said of a name, and the keys of its session tickets that all gateways of the group have.
// Without such keys those of base count.
func (h *handshakes) speak(c *tls.Config, rt *runtime.Runtime, name string) {
	rt.Settings.TLS.Into(c)
	terms := rt.Certificates.Terms([]byte(name))
	terms.Into(c)
	if c.SessionTicketsDisabled {
		return
	}
	if keys := rt.Tickets.At(time.Now(), terms.KeyOf()); len(keys) > 0 {
		c.SetSessionTicketKeys(keys)
	}
}

// errSilent ends the handshakes of clients that offer no protocol under names where they do not speak what is left then.
var errSilent = errors.New("the client negotiates no protocol, and HTTP/1.1 is not spoken under this name")

// agree sees to it that nothing but what the configuration has is spoken. crypto/tls would go on without a protocol where a
// client offers HTTP/1.1 and the configuration has HTTP/2 only.
func agree(c *tls.Config, offered []string) error {
	if len(offered) == 0 {
		if !slices.Contains(c.NextProtos, "http/1.1") {
			return errSilent
		}
		return nil
	}
	if !slices.ContainsFunc(offered, func(p string) bool { return slices.Contains(c.NextProtos, p) }) {
		c.NextProtos = []string{""} // no client may offer this: it gets no_application_protocol (RFC 7301 section 3.2)
	}
	return nil
}

// reason says why the handshake failed.
func (s *handshake) reason(err error) failure {
	var network net.Error
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // as crypto/tls calls alerts that came
		return failedByClient
	}
	switch {
	case errors.As(err, &network) && network.Timeout():
		return failedTimeout
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return failedGone
	case s.demanded && s.agreed && s.failure == failedProtocol:
		return failedClient
	}
	return s.failure
}

// failures returns how many handshakes have failed, by reason.
func (h *handshakes) failures() map[string]uint64 {
	out := map[string]uint64{}
	for f := range failureKinds {
		out[f.String()] = h.failed[f].Load()
	}
	return out
}
