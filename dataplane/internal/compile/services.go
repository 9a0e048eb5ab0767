package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/check/match"
)

// changedServices compiles the services that changed. Routes to them are compiled again.
func (b *build) changedServices() {
	b.staleServices = map[string]bool{}
	for _, ch := range b.changes[kindServices] {
		b.forget(kindServices, ch.uid())
		before, after := ch.names()
		if s, ok := b.services.Get(before); ok && s.UID == ch.uid() {
			b.services.Delete(before)
		}
		b.staleServices[before], b.staleServices[after] = true, true
	}
	for _, ch := range b.changes[kindServices] { // after all removals: a name may have gone to another service
		if ch.after != nil {
			s := b.service(ch.after)
			if ch.after.Name != "" {
				b.services.Put(ch.after.Name, s)
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
	sum := sha256.Sum256(r.Bytes)
	s.Key = r.UID + "/" + hex.EncodeToString(sum[:16])
	if err := fillService(s, m); err != nil {
		b.fault(r, err.Error())
		s.Closed = "its service does not compile"
	}
	s.Owner = b.owner(r, m.GetPolicies())
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
	t, p := m.GetTimeouts(), m.GetPool()
	s.Connect = duration(t.GetConnect(), 5*time.Second)
	s.ResponseHead = duration(t.GetResponseHead(), 60*time.Second)
	s.Idle = duration(t.GetIdle(), 60*time.Second)
	s.Total = duration(t.GetTotal(), 0)
	s.MaxIdle = 512
	if p != nil && p.MaxIdle != nil {
		s.MaxIdle = int(p.GetMaxIdle())
	}
	s.IdleTimeout = duration(p.GetIdleTimeout(), 60*time.Second)
	s.MaxConns = int(p.GetMaxConnections())
	return nil
}

func duration(d *durationpb.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return d.AsDuration()
}

func fillTargets(s *runtime.Service, m *configv1.Service) error {
	s.TLS = m.GetProtocol() == configv1.Protocol_PROTOCOL_HTTPS
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

func fillURL(s *runtime.Service, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("url is not an absolute URL without user, query and fragment")
	}
	port := "80"
	switch u.Scheme {
	case "http":
		s.TLS = false
	case "https":
		s.TLS, port = true, "443"
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
