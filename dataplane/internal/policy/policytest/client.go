package policytest

import (
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/shared/check/certname"
)

// client has a certificate that says something, whoever has issued it.
type client struct {
	world  *world
	names  string // kind:text;kind:text
	issuer string
}

func (w *world) client(x *exchange.Exchange) *client {
	c, ok := x.Client.(*client)
	if !ok {
		c = &client{world: w}
		x.Client = c
	}
	return c
}

// Proves implements exchange.Client; certificates are named by their fingerprints only.
func (c *client) Proves(certificates string) bool {
	references, _, _ := strings.Cut(certificates, ",")
	return slices.ContainsFunc(strings.Fields(references), func(id string) bool {
		return slices.Contains(strings.Split(c.names, ";"), "fingerprint:"+id)
	})
}

// Certificate implements exchange.Client.
func (c *client) Certificate(authorities string) (*exchange.Certificate, exchange.Trust) {
	if c.names == "" {
		return nil, exchange.Missing
	}
	trusted := c.world.route.GetClientCertificates().GetCa()
	if _, named, ok := strings.Cut(authorities, ","); ok {
		trusted = strings.Fields(named)
	}
	issuer, unsure := strings.CutSuffix(c.issuer, "?")
	switch {
	case !slices.Contains(trusted, issuer):
		return nil, exchange.Distrusted
	case unsure:
		return nil, exchange.Unsure
	}
	out := &exchange.Certificate{}
	for name := range strings.SplitSeq(c.names, ";") {
		kind, text, _ := strings.Cut(name, ":")
		switch kind {
		case "fingerprint":
			out.Fingerprint = append(out.Fingerprint, certname.Name{Kind: certname.Fingerprint, Text: text}.Hash())
		case "san":
			out.SANs = append(out.SANs, certname.Name{Kind: certname.SAN, Text: text}.Hash())
		case "subject":
			out.Subjects = append(out.Subjects, certname.Name{Kind: certname.Subject, Text: text}.Hash())
		}
	}
	return out, exchange.Trusted
}
