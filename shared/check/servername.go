package check

import (
	"slices"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
)

// ServerNameTLS is how TLS is spoken under the names of a certificate: as it says itself, and for the rest as the settings say.
// Either may be nil.
func ServerNameTLS(settings *configv1.ServerTls, own *configv1.ServerNameTls) *configv1.ServerTls {
	out := &configv1.ServerTls{}
	if settings != nil {
		out = proto.CloneOf(settings)
	}
	if own.GetMinVersion() != "" {
		out.MinVersion = own.GetMinVersion()
	}
	if own.GetMaxVersion() != "" {
		out.MaxVersion = own.GetMaxVersion()
	}
	if len(own.GetCipherSuites()) > 0 {
		out.CipherSuites = own.GetCipherSuites()
	}
	if len(own.GetCurves()) > 0 {
		out.Curves = own.GetCurves()
	}
	if own != nil && own.SessionTickets != nil {
		out.SessionTickets = own.SessionTickets
	}
	if len(own.GetAlpn()) > 0 {
		out.Alpn = own.GetAlpn()
	}
	if own.GetHsts() != nil {
		out.Hsts = own.GetHsts()
	}
	return out
}

// Contradictions tells what of a certificate's `tls` cannot be together with what the settings say, with paths relative to the
// certificate. What is wrong with it alone is not told again.
func Contradictions(settings *configv1.ServerTls, own *configv1.ServerNameTls) []problem.Violation {
	if own == nil {
		return nil
	}
	together := ServerNameTLS(settings, own)
	if len(own.GetCipherSuites()) == 0 {
		together.CipherSuites = nil // those of the settings mean nothing where only TLS 1.3 is spoken, and are not wrong
	}
	var vs, alone violations
	contradictions(&vs, together)
	contradictions(&alone, ServerNameTLS(nil, own))
	vs = slices.DeleteFunc(vs, func(v problem.Violation) bool { return slices.Contains(alone, v) })
	for i := range vs {
		vs[i].Reason += "; what the certificate leaves out is as tls of the settings says"
	}
	return vs
}

// serverNameTLS checks what can be said without the settings.
func serverNameTLS(c *configv1.Certificate) violations {
	var vs violations
	if c.GetTls() == nil {
		return nil
	}
	if len(c.GetSnis()) == 0 {
		vs.add("tls", "means nothing without snis: it is for these names only")
	}
	alone := ServerNameTLS(nil, c.GetTls())
	knownTLS(&vs, alone)
	if alone.GetMinVersion() == "" {
		alone.Curves = nil // whether TLS 1.2 is spoken the settings say
	}
	contradictions(&vs, alone)
	return vs
}
