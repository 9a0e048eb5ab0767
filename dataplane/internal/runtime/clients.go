package runtime

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
)

// Authority are the certificates of a CA certificate of the configuration; none if it cannot be used.
type Authority struct {
	UID          string
	Certificates []*x509.Certificate
}

// Demand is which clients a route wants: references to certificates, and names of CA certificates, sorted.
type Demand struct {
	// Key is equal for equal demands.
	Key       string
	Allow, CA []string
}

// NewDemand returns the demand for clients with one of these.
func NewDemand(allow, ca []string) *Demand {
	d := &Demand{Allow: distinct(allow), CA: distinct(ca)}
	d.Key = strings.Join(d.Allow, " ") + "," + strings.Join(d.CA, " ") // no name has a space or a comma
	return d
}

func distinct(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// Or returns the demand that clients of either meet; other may be nil.
func (d *Demand) Or(other *Demand) *Demand {
	if other == nil {
		return d
	}
	return NewDemand(slices.Concat(d.Allow, other.Allow), slices.Concat(d.CA, other.CA))
}

// Clients is a demand with what it comes to now.
type Clients struct {
	Demand *Demand
	Routes int // that make it
	Policy *clientcert.Policy
}

// Admits asks whether a peer meets the demand of a route, nil if so or if there is none. The demand is looked up by its key
// because what it comes to changes with the certificates, and the route does not. nil stands for a connection without TLS.
func (rt *Runtime) Admits(r *Route, p *clientcert.Peer, at time.Time) error {
	if r.Demand == nil {
		return nil
	}
	c, ok := rt.Clients.Get(r.Demand.Key)
	if !ok {
		return clientcert.ErrRefused
	}
	return p.Verify(c.Policy, at)
}
