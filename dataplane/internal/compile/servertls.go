package compile

import (
	"crypto/tls"
	"errors"
	"slices"
	"strconv"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/ciphers"
)

// serverTLS refuses whatever it does not understand: to speak something else than what is asked for could be to speak
// something weaker.
func serverTLS(m *configv1.ServerTls) (runtime.TLSOptions, error) {
	t := runtime.TLSOptions{
		DefaultCertificates: m.GetDefaultCertificate(), NoTickets: m != nil && m.SessionTickets != nil && !m.GetSessionTickets(),
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
