package compile

import (
	"slices"

	"keyward.dev/dataplane/internal/challenge"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

// changedChallenges makes a new table of the challenges that are answered. There are few, and mostly none.
func (b *build) changedChallenges() {
	changes := slices.DeleteFunc(b.changes[kindChallenges], sameRecord)
	if len(changes) == 0 {
		return
	}
	for _, ch := range changes {
		b.forget(kindChallenges, ch.uid())
	}
	var live []*systemv1.AcmeChallenge
	for r := range b.rt.Set.All(kindChallenges) {
		m, reason := decoded[*systemv1.AcmeChallenge](r)
		if reason != "" {
			b.fault(r, reason)
			continue
		}
		live = append(live, m)
	}
	b.rt.Challenges = challenge.New(live)
}
