package admission

import (
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// maxSharedStores bounds to how many stores a gateway keeps connections.
const maxSharedStores = 16

// sharedStore looks at a store that gateways share, now that it is known which password is kept, and tells one to which only
// insecure_plaintext lets the password go.
func (j *judge) sharedStore(e *entry) {
	s, ok := e.msg.(*configv1.RedisStore)
	if !ok {
		return
	}
	lost := ""
	if e.stored != nil && moved(e) {
		before, _ := e.stored.Message.(*configv1.RedisStore)
		lost = lostPassword(before, s, e.change.Clears)
	}
	for place, why := range map[string]string{lost: sentElsewhere, check.RedisPassword(s): "required with username"} {
		at := problem.Join(e.path, place)
		told := slices.ContainsFunc(j.violations, func(v problem.Violation) bool { return v.Path == at })
		if place != "" && !told {
			j.fail(at, "%s", why)
		}
	}
	if s.GetTls().GetInsecurePlaintext() {
		j.audit = append(j.audit, "a password goes to a store in the clear for "+catalog.Ref(e.kind.Name, e.name))
		j.warnings = append(j.warnings, problem.Violation{Path: problem.Join(e.path, "tls.insecure_plaintext"), Reason: "a password goes over the network in the clear"})
	}
}

// lostPassword names a password that is not kept because it would be sent elsewhere; empty: none.
func lostPassword(before, after *configv1.RedisStore, cleared []string) string {
	lost := func(place string, before, after *configv1.Secret) bool {
		return secret.Stored(before) && !secret.Stored(after) && !slices.Contains(cleared, place)
	}
	switch {
	case lost("password", before.GetPassword(), after.GetPassword()):
		return "password"
	case after.GetSentinel() != nil && lost("sentinel.password", before.GetSentinel().GetPassword(), after.GetSentinel().GetPassword()):
		return "sentinel.password"
	}
	return ""
}

// reached is a store of which only that is left which says who gets its password.
func reached(s *configv1.RedisStore) *configv1.RedisStore {
	r := &configv1.RedisStore{Addresses: s.GetAddresses(), Mode: s.GetMode(), Tls: s.GetTls()}
	if n := s.GetSentinel(); n != nil {
		r.Sentinel = &configv1.RedisSentinel{Master: n.GetMaster()}
	}
	return r
}

// sharedStores bounds the stores of a group.
func (j *judge) sharedStores() {
	for _, e := range j.entries {
		if _, ok := e.msg.(*configv1.RedisStore); !ok || e.stored != nil {
			continue
		}
		total := 0
		for range j.set.all(e.kind.Name) {
			total++
		}
		if total > maxSharedStores {
			j.fail(e.path, "the group would have %d Redis stores; it may have %d", total, maxSharedStores)
		}
		return
	}
}
