package compile

import (
	"crypto/tls"
	"errors"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/dataplane/internal/ticketkeys"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/ciphers"
)

func serverTLS(m *configv1.ServerTls) (runtime.TLSOptions, error) {
	terms, err := termsOf(m)
	return runtime.TLSOptions{DefaultCertificates: m.GetDefaultCertificate(), Stapling: m.GetOcspStapling(), Terms: terms}, err
}

// termsFor is what a certificate says of how TLS is spoken under its names, nil if it says nothing.
func termsFor(c *configv1.Certificate) (*sni.Terms, error) {
	if c.GetTls() == nil {
		return nil, nil //nolint:nilnil // nothing is said
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.GetTls())
	if err != nil {
		return nil, errors.New("it cannot be read")
	}
	terms, err := termsOf(check.ServerNameTLS(nil, c.GetTls()))
	terms.Key = string(key)
	return &terms, err
}

// termsOf refuses whatever it does not understand: to speak something else than what is asked for could be to speak
// something weaker.
func termsOf(m *configv1.ServerTls) (sni.Terms, error) {
	var t sni.Terms
	if m != nil {
		t.Tickets = m.SessionTickets
	}
	var known [2]bool
	t.MinVersion, known[0] = tlsVersion(m.GetMinVersion())
	t.MaxVersion, known[1] = tlsVersion(m.GetMaxVersion())
	if known != [2]bool{true, true} {
		return t, errors.New("a version is neither 1.2 nor 1.3")
	}
	for _, name := range m.GetCipherSuites() {
		id, ok := ciphers.Suites()[name]
		if !ok {
			return t, errors.New("a cipher suite is not known, or not safe")
		}
		t.Suites = append(t.Suites, id)
	}
	for _, name := range m.GetCurves() {
		id, ok := ciphers.Curves()[name]
		if !ok {
			return t, errors.New("a curve is not known")
		}
		t.Curves = append(t.Curves, tls.CurveID(id))
	}
	for _, name := range m.GetAlpn() {
		if !slices.Contains(ciphers.Protocols(), name) {
			return t, errors.New("a protocol of alpn is not known")
		}
		t.Protocols = append(t.Protocols, name)
	}
	if h := m.GetHsts(); h != nil {
		t.HSTS = new(exchange.Field("Strict-Transport-Security", transportSecurity(h)))
	}
	return t, nil
}

// changedTickets takes the keys of session tickets. While they cannot be read each gateway uses its own.
func (b *build) changedTickets() {
	changes := slices.DeleteFunc(b.changes[kindTickets], sameRecord)
	if len(changes) == 0 {
		return // what was derived from them is kept
	}
	for _, ch := range changes {
		b.forget(kindTickets, ch.uid())
	}
	b.rt.Tickets = nil
	for r := range b.rt.Set.All(kindTickets) {
		m, reason := decoded[*systemv1.TicketKeys](r)
		if reason == "" {
			var err error
			if b.rt.Tickets, err = ticketkeys.New(m); err != nil {
				reason = err.Error()
			}
		}
		if reason != "" {
			b.rt.Tickets = nil
			b.fault(r, reason)
			return
		}
	}
}

// transportSecurity is the value of RFC 6797 section 6.1.
func transportSecurity(h *configv1.Hsts) string {
	v := "max-age=" + strconv.FormatInt(int64(h.GetMaxAge().AsDuration()/time.Second), 10)
	if h.GetIncludeSubdomains() {
		v += "; includeSubDomains"
	}
	if h.GetPreload() {
		v += "; preload"
	}
	return v
}
