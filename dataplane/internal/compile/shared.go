package compile

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/redisstore"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/secret"
)

// What policies are made from that hide from a store what they tell it.
const peppers = kindPepper + " all"

// changedShared reports stores that cannot be read, and adds to refs what policies are made from that share one.
func (b *build) changedShared(refs map[string]bool) {
	for _, ch := range b.changes[kindRedis] {
		b.forget(kindRedis, ch.uid())
		if ch.after != nil {
			if _, reason := decoded[*configv1.RedisStore](ch.after); reason != "" {
				b.fault(ch.after, reason)
			}
		}
		before, after := ch.names()
		refs[refTo(kindRedis, before)], refs[refTo(kindRedis, after)] = true, true
	}
	if len(b.changes[kindPepper]) > 0 {
		refs[peppers] = true
	}
}

// Store implements policy.Group.
func (g group) Store(name string) (*hostsvc.SharedStore, error) {
	g.noted = append(g.noted, refTo(kindRedis, name), peppers)
	store, err := g.store(name)
	if err != nil {
		return nil, fmt.Errorf("redis-stores/%s: %w", name, err)
	}
	return store, nil
}

func (g group) store(name string) (*hostsvc.SharedStore, error) {
	r := g.rt.Set.Get(kindRedis, name)
	if r == nil {
		return nil, errors.New("it does not exist")
	}
	m, reason := decoded[*configv1.RedisStore](r)
	if reason != "" {
		return nil, errors.New(reason)
	}
	m, reason = g.openPasswords(m)
	if reason != "" {
		return nil, errors.New(reason)
	}
	server, err := redisstore.Server(m, g.Authorities)
	if err != nil {
		return nil, err
	}
	server.Egress = g.Egress()
	var terms [][]byte
	for r := range g.rt.Set.All(kindPepper) {
		// One that cannot be read is told of elsewhere; the others have that one, or one of these.
		if t, reason := decoded[*systemv1.PepperTerm](r); reason == "" {
			terms = append(terms, t.GetKey())
		}
	}
	return hostsvc.NewSharedStore(g.deps.Host.RedisPool(server, g.deps.Log), terms)
}

// openPasswords puts what references mean in their places.
func (g group) openPasswords(m *configv1.RedisStore) (_ *configv1.RedisStore, reason string) {
	m = proto.CloneOf(m)
	err := secret.Walk(m, func(f secret.Field) {
		ref := f.Get().GetRef()
		if ref == "" {
			return
		}
		name := certs.ValueName(ref)
		g.noted = append(g.noted, refToValue(name))
		value, why := g.value(name, ref)
		if why != "" {
			reason = f.Path + " refers to what " + why
			return
		}
		f.Set(&configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: value}})
	})
	if err != nil {
		reason = "its passwords cannot be read"
	}
	return m, reason
}
