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
	at := problem.Join(e.path, "password")
	told := slices.ContainsFunc(j.violations, func(v problem.Violation) bool { return v.Path == at })
	switch why := check.RedisPassword(s); {
	case told:
	case !secret.Stored(s.GetPassword()) && moved(e) && hadPassword(e) && !slices.Contains(e.change.Clears, "password"):
		j.fail(at, sentElsewhere)
	case why != "":
		j.fail(at, "%s", why)
	}
	if s.GetTls().GetInsecurePlaintext() {
		j.audit = append(j.audit, "a password goes to a store in the clear for "+catalog.Ref(e.kind.Name, e.name))
		j.warnings = append(j.warnings, problem.Violation{Path: problem.Join(e.path, "tls.insecure_plaintext"), Reason: "a password goes over the network in the clear"})
	}
}

func hadPassword(e *entry) bool {
	before, _ := e.stored.Message.(*configv1.RedisStore)
	return secret.Stored(before.GetPassword())
}

// reached is a store of which only that is left which says who gets its password.
func reached(s *configv1.RedisStore) *configv1.RedisStore {
	return &configv1.RedisStore{Addresses: s.GetAddresses(), Mode: s.GetMode(), Tls: s.GetTls()}
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
