package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/check/match"
)

// changedServices compiles the services that changed, or what their TLS is made from. Routes to them are compiled again.
func (b *build) changedServices(refs map[string]bool) {
	b.staleServices = map[string]bool{}
	changes := append(b.changes[kindServices], b.dependentServices(refs)...)
	for _, ch := range changes {
		b.forget(kindServices, ch.uid())
		before, after := ch.names()
		if s, ok := b.services.Get(before); ok && s.UID == ch.uid() {
			b.services.Delete(before)
			for _, ref := range s.Refs {
				b.dependents.remove(ref, s.UID)
			}
		}
		b.staleServices[before], b.staleServices[after] = true, true
	}
	for _, ch := range changes { // after all removals: a name may have gone to another service
		if ch.after != nil {
			s := b.service(ch.after)
			if ch.after.Name != "" {
				b.services.Put(ch.after.Name, s)
				for _, ref := range s.Refs {
					b.dependents.add(ref, s.UID)
				}
			}
		}
	}
}

func (b *build) service(r *state.Record) *runtime.Service {
	m, reason := decoded[*configv1.Service](r)
	if reason != "" {
		b.fault(r, reason)
		return &runtime.Service{UID: r.UID, Name: r.Name, Closed: "its service cannot be read"}
	}
	s := &runtime.Service{UID: r.UID, Name: r.Name}
	if err := joined(fillService(s, m), b.fillTrust(s, m)); err != nil {
		b.fault(r, err.Error())
		s.Closed = "its service does not compile"
	}
	s.Key = r.UID + "/" + dialKey(s)
	s.Owner = b.owner(r, m.GetPolicies())
	s.Clients, s.ForwardCertificate = demandOf(m.GetClientCertificates()), m.GetForwardClientCertificate()
	s.HideIdentity = m.GetHideIdentity()
	b.ownFaults(r, chain.Input{Service: &s.Owner.Owner})
	return s
}

func fillService(s *runtime.Service, m *configv1.Service) error {
	if err := fillTargets(s, m); err != nil {
		return err
	}
	path, err := match.Path("/" + strings.TrimPrefix(s.Path, "/"))
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	s.Path = strings.TrimSuffix(path, "/")
	switch h := m.GetHostHeader(); h {
	case "", "upstream":
		s.Host = runtime.HostUpstream
	case "preserve":
		s.Host = runtime.HostPreserve
	default:
		if _, err := match.Host(nil, []byte(h)); err != nil {
			return fmt.Errorf("host_header: %w", err)
		}
		s.Host, s.HostName = runtime.HostLiteral, h
	}
	return fillCalls(s, m)
}

// dialKey is equal for services whose targets are dialled in the same way.
func dialKey(s *runtime.Service) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d", s.Protocol)
	if t := s.TLS; t != nil {
		fmt.Fprintf(sum, " %t %q %q %q %x %d %d %d", t.Verify, t.CA, t.ServerName, t.SANs, t.Pins, t.MinVersion, t.MaxVersion, t.Suites)
		if t.Depth != nil {
			fmt.Fprintf(sum, " depth %d", *t.Depth)
		}
		for _, c := range t.Authorities {
			fmt.Fprintf(sum, " %x", sha256.Sum256(c.Raw))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

func fillTargets(s *runtime.Service, m *configv1.Service) error {
	if err := fillProtocol(s, m); err != nil {
		return err
	}
	s.Path = m.GetPath()
	if m.GetUrl() != "" {
		return fillURL(s, m.GetUrl())
	}
	for _, t := range m.GetTargets() {
		weight := 100
		if t.Weight != nil {
			weight = int(t.GetWeight())
		}
		s.Targets = append(s.Targets, runtime.Target{Address: t.GetAddress(), Weight: weight})
		s.Weight += weight
	}
	if len(s.Targets) == 0 {
		return errors.New("it has neither url nor targets")
	}
	return nil
}

// fillProtocol never settles for less than what is asked for: where one field says TLS, there is TLS or no connection.
func fillProtocol(s *runtime.Service, m *configv1.Service) error {
	if check.OverHTTP2(m) {
		s.Protocol = runtime.HTTP2
	}
	switch {
	case check.ProtocolContradicts(m):
		return errors.New("protocol contradicts the scheme of url")
	case !check.OverTLS(m) && m.GetTls() != nil:
		return errors.New("tls is given, but the protocol is without")
	case !check.OverTLS(m):
		return nil
	}
	var err error
	if s.TLS, err = targetTLS(m.GetTls()); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	return nil
}

func fillURL(s *runtime.Service, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("url is not an absolute URL without user, query and fragment")
	}
	port := "80"
	switch u.Scheme {
	case "http":
	case "https":
		port = "443"
	default:
		return errors.New("url is neither http nor https")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	s.Path = u.EscapedPath()
	s.Targets, s.Weight = []runtime.Target{{Address: host + ":" + port, Weight: 100}}, 100
	return nil
}
