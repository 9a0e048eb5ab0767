package policytest

import (
	"crypto/x509"
	"fmt"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/redisstore"
	"keyward.dev/shared/check/certs"
)

// group answers policies from the config section, where certificates are written as the control plane keeps them.
type group struct{ *world }

// Authorities implements policy.Group.
func (g group) Authorities(name string) ([]*x509.Certificate, error) {
	m := g.authorities[name]
	if m == nil {
		return nil, fmt.Errorf("there is no CA certificate %s", name)
	}
	list, violations := certs.OpenCA(m)
	if len(violations) > 0 {
		return nil, fmt.Errorf("CA certificate %s: %v", name, violations)
	}
	return list, nil
}

// Certificate implements policy.Group.
func (g group) Certificate(reference string) ([]*certs.Version, error) {
	return g.versions(reference, (*certs.Set).Believed)
}

// Versions implements policy.Group.
func (g group) Versions(reference string) ([]*certs.Version, error) {
	return g.versions(reference, (*certs.Set).Versions)
}

func (g group) versions(reference string, pick func(*certs.Set, string) []*certs.Version) ([]*certs.Version, error) {
	for _, m := range g.certificates {
		set, violations := certs.Open(m)
		if len(violations) > 0 {
			return nil, fmt.Errorf("certificate %s: %v", m.GetName(), violations)
		}
		if versions := pick(set, reference); len(versions) > 0 {
			return versions, nil
		}
	}
	return nil, fmt.Errorf("there is no certificate %s", reference)
}

// Store implements policy.Group.
func (g group) Store(name string) (*hostsvc.SharedStore, error) {
	m := g.stores[name]
	if m == nil {
		return nil, fmt.Errorf("there is no store %s", name)
	}
	server, err := redisstore.Server(m, g.Authorities)
	if err != nil {
		return nil, fmt.Errorf("redis-stores/%s: %w", name, err)
	}
	server.Egress = g.Egress()
	return hostsvc.NewSharedStore(g.services.RedisPool(server, nil), [][]byte{g.pepper})
}

// Egress implements policy.Group.
func (g group) Egress() *hostsvc.EgressRules {
	networks := g.settings.GetUpstreamNetworks()
	rules, err := hostsvc.NewEgressRules(networks.GetAllow(), networks.GetDeny())
	if err != nil {
		return &hostsvc.EgressRules{}
	}
	return rules
}
