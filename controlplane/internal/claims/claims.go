// Package claims says what only one resource of a group may have at a time: an API key, a name by which client certificates
// are known, the very same place in the routing table, a server name that a certificate is shown for; and what resources have in common that admission asks for.
// Snapshots index both, so that admission finds a conflict without looking at every resource. It is pure.
package claims

import (
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/match"
	"keyward.dev/shared/secret"
)

// Of yields the claims of a resource in its stored form.
func Of(m proto.Message) iter.Seq[string] {
	return func(yield func(string) bool) {
		switch m := m.(type) {
		case *configv1.Credential:
			ofCredential(m, yield)
		case *configv1.Consumer:
			ofConsumer(m, yield)
		case *configv1.Route:
			ofRoute(m, yield)
		case *configv1.Certificate:
			ofCertificate(m, yield)
		}
	}
}

// Certificate is the claim of the certificate with an id.
func Certificate(id string) string { return "certificate " + id }

func ofCertificate(c *configv1.Certificate, yield func(string) bool) {
	for claim := range Identity(c) {
		if !yield(claim) {
			return
		}
	}
	for _, sni := range c.GetSnis() {
		for claim := range Shown(c, sni) {
			if !yield(claim) {
				return
			}
		}
	}
}

// Identity yields the claims of a certificate to the ids of all its versions, and to a name that looks like an id: what
// refers to one must not mean two certificates.
func Identity(c *configv1.Certificate) iter.Seq[string] {
	return func(yield func(string) bool) {
		ids := certs.IDs(c)
		if certs.IsID(c.GetName()) && !slices.Contains(ids, c.GetName()) {
			ids = append(ids, c.GetName())
		}
		for _, id := range ids {
			if !yield(Certificate(id)) {
				return
			}
		}
	}
}

// Kinds of marks.
const (
	// Label marks the consumers that carry a label.
	Label = "label"
	// Provider marks what refers to a secret, or reads all that is in a folder, by the name of its provider; the word is the kind of those that tenants make, which
	// so know what uses them.
	Provider = "secret-providers"
	// Elsewhere marks what has a secret that is a reference, but for certificates, whose private keys are looked for themselves;
	// the word is empty.
	Elsewhere = "elsewhere"
	// RegexHost marks the routes with regular expressions on a host; the host is empty for routes that name none.
	RegexHost = "regex-host"
)

// Marks yields the kind and name of what a resource has in common with others. Several resources may have one mark.
func Marks(m proto.Message) iter.Seq2[string, string] {
	return func(yield func(kind, name string) bool) {
		for _, ref := range References(m) {
			if !yield(Elsewhere, "") || !yield(Provider, ref.Provider) {
				return
			}
		}
		switch m := m.(type) {
		case *configv1.Consumer:
			for _, label := range m.GetGroups() {
				if !yield(Label, label) {
					return
				}
			}
		case *configv1.Certificate:
			for _, slot := range certs.Slots(m) {
				if r, ok := secret.ParseReference(certs.Reference(slot.Version)); ok && !yield(Provider, r.Provider) {
					return
				}
			}
		case *configv1.CredentialStore:
			yield(Provider, m.GetProvider())
		case *configv1.Route:
			if !slices.ContainsFunc(m.GetPaths(), func(p *configv1.PathMatch) bool { return p.GetRegex() != "" }) {
				return
			}
			for _, host := range Hosts(m) {
				if !yield(RegexHost, host) {
					return
				}
			}
		}
	}
}

// References are those that stand for secrets of a resource, but for certificates.
func References(m proto.Message) []secret.Reference {
	_, store := m.(*configv1.RedisStore)
	if !store && !slices.ContainsFunc(configs(m), func(cfg *anypb.Any) bool { return secret.MayRefer(cfg.GetValue()) }) {
		return nil
	}
	var out []secret.Reference
	// A configuration that cannot be read refers to nothing that anybody could use.
	_ = secret.Walk(m, func(f secret.Field) {
		// What cannot be read as a reference is none for admission either.
		if ref, ok := secret.ParseReference(f.Get().GetRef()); ok {
			out = append(out, ref)
		}
	})
	return out
}

// configs are the configurations of policies and credentials in a resource, in which alone, but for stores, there are references.
func configs(m proto.Message) []*anypb.Any {
	if c, ok := m.(*configv1.Credential); ok {
		return []*anypb.Any{c.GetConfig()}
	}
	o, ok := m.(interface{ GetPolicies() []*configv1.Binding })
	if !ok || len(o.GetPolicies()) == 0 {
		return nil
	}
	out := make([]*anypb.Any, len(o.GetPolicies()))
	for i, b := range o.GetPolicies() {
		out[i] = b.GetConfig()
	}
	return out
}

// Hosts of a route; an empty one stands for every host that no other route names.
func Hosts(r *configv1.Route) []string {
	if len(r.GetHosts()) == 0 {
		return []string{""}
	}
	return r.GetHosts()
}

// Key is the claim of a key that hashes to h, for credentials of a type.
func Key(credentialType string, h *configv1.KeyedHash) string {
	return fmt.Sprintf("key %s %d %s", credentialType, h.GetTerm(), hex.EncodeToString(h.GetHash()))
}

// Named is the claim of a credential that knows certificates by a name.
func Named(n certname.Name) string { return "certificate of " + n.Claim() }

// Identified is the claim of a credential that is known by a name.
func Identified(credentialType, name string) string {
	return "credential " + credentialType + " " + name
}

// Username is the claim of a consumer to what others call it.
func Username(name string) string { return "username " + name }

// CustomID is the claim of a consumer to its id elsewhere.
func CustomID(id string) string { return "custom id " + id }

func ofConsumer(c *configv1.Consumer, yield func(string) bool) {
	if c.GetUsername() != "" && !yield(Username(c.GetUsername())) {
		return
	}
	if c.GetCustomId() != "" {
		yield(CustomID(c.GetCustomId()))
	}
}

func ofCredential(c *configv1.Credential, yield func(string) bool) {
	if cfg := new(credentialv1.MtlsAuth); c.GetConfig().MessageIs(cfg) {
		if c.GetConfig().UnmarshalTo(cfg) == nil {
			if n := certname.OfCredential(cfg); n.Text != "" {
				yield(Named(n))
			}
		}
		return
	}
	more := true
	if cfg, err := c.GetConfig().UnmarshalNew(); err == nil {
		if _, name := check.Identifier(cfg); name != "" {
			more = yield(Identified(c.GetType(), name))
		}
	}
	// A configuration that cannot be read claims nothing; its resource is refused or closed elsewhere.
	_ = secret.Walk(c, func(f secret.Field) {
		if h := f.Get().GetKeyedHash(); h != nil && more {
			more = yield(Key(c.GetType(), h))
		}
	})
}

// Shown yields what a certificate claims of one of its server names: the name for each kind of key it has, or may come to have.
// Gateways choose by what the client can verify, and by nothing else.
func Shown(c *configv1.Certificate, sni string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, kind := range certs.ShownKinds(c) {
			if !yield(shown(sni, kind)) {
				return
			}
		}
	}
}

// ShownBy yields what certificates with keys of any kind claim of a server name.
func ShownBy(sni string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, kind := range certs.AllKeyKinds() {
			if !yield(shown(sni, kind)) {
				return
			}
		}
	}
}

func shown(sni, kind string) string { return "sni " + sni + " " + kind }

// ofRoute yields one claim for each host and path: routes that share one take exactly the same requests with the same
// precedence.
func ofRoute(r *configv1.Route, yield func(string) bool) {
	conditions := conditionsOf(r)
	for _, host := range Hosts(r) {
		for _, path := range match.Paths(r) {
			key, _, reason := check.PathEntry(path)
			if reason != "" {
				continue
			}
			if !yield("route " + host + " " + key + " " + conditions) {
				return
			}
		}
	}
}

// conditionsOf is equal for routes whose conditions and priority are equal, in whatever order they are written.
func conditionsOf(r *configv1.Route) string {
	var parts []string
	for _, m := range r.GetMethods() {
		parts = append(parts, "method "+m)
	}
	for _, h := range r.GetHeaders() {
		parts = append(parts, "header "+strings.ToLower(h.GetName())+" "+matchOf(h))
	}
	for _, q := range r.GetQuery() {
		parts = append(parts, "query "+q.GetName()+" "+matchOf(q))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d %q", r.GetPriority(), parts)
}

func matchOf(f *configv1.FieldMatch) string {
	switch m := f.GetMatch().(type) {
	case *configv1.FieldMatch_Exact:
		return "exact " + m.Exact
	case *configv1.FieldMatch_Prefix:
		return "prefix " + m.Prefix
	case *configv1.FieldMatch_Regex:
		return "regex " + m.Regex
	case *configv1.FieldMatch_Present:
		return fmt.Sprint("present ", m.Present)
	default:
		return ""
	}
}
