package ticketkeys

import (
	"crypto/rand"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
)

const (
	// Kind is that of the records.
	Kind = "session-ticket-keys"
	// name of the only one of a group.
	name = "keys"
	// contract is the first one whose gateways know them. Others would report the record as something they cannot read.
	contract = 1
	// opens is how many periods a key is good for, from when it is first used.
	opens = 3
	// DefaultPeriod is how long a key is used if nothing else is set, and in new groups until the job has looked at them.
	DefaultPeriod = 12 * time.Hour
)

// First is the record of a new group.
func First(now time.Time) []admission.Upsert {
	k := known{now: now, period: DefaultPeriod, secrets: draw()}
	return []admission.Upsert{{Kind: Kind, Name: name, Message: k.fresh(), Created: true}}
}

// draw gets the randomness that a decision may need, and must not get itself.
func draw() (secrets [2][]byte) {
	for i := range secrets {
		secrets[i] = make([]byte, 32)
		_, _ = rand.Read(secrets[i]) // never fails
	}
	return secrets
}

// known is what a decision goes by beside what is stored.
type known struct {
	now    time.Time
	period time.Duration
	// revoked is how many gateways of the group have been; older, that one is connected which does not know such records.
	revoked uint64
	older   bool
	// settled: none has been for a while.
	settled bool
	secrets [2][]byte
}

// fresh are keys of which nobody has seen any: one to use now, and the next.
func (k known) fresh() *systemv1.TicketKeys {
	return &systemv1.TicketKeys{Revoked: k.revoked, Keys: []*systemv1.TicketKey{k.key(0, k.now.Add(k.period)), k.key(1, k.now)}}
}

func (k known) key(i int, from time.Time) *systemv1.TicketKey {
	from = from.UTC().Truncate(time.Millisecond)
	return &systemv1.TicketKey{Key: k.secrets[i], From: timestamppb.New(from), Until: timestamppb.New(from.Add(opens * k.period))}
}

// decide works out what changes. It is asked again with the group's head locked.
func decide(view *snapshot.View, k known) configsvc.SystemChanges {
	stored, ok := view.Get(Kind, name)
	up := admission.Upsert{Kind: Kind, Name: name, Created: !ok}
	switch {
	case !ok && (k.older || !k.settled):
		return configsvc.SystemChanges{}
	case k.older:
		return configsvc.SystemChanges{
			Deletes: []snapshot.Ref{stored.Ref()}, Notes: []string{"removed: a gateway is connected that does not know them"},
		}
	case !ok:
		up.Message = k.fresh()
		return configsvc.SystemChanges{Upserts: []admission.Upsert{up}, Notes: []string{"made"}}
	}
	up.UID = stored.UID
	before, _ := stored.Message.(*systemv1.TicketKeys)
	after, note := next(before, k)
	if after == nil {
		return configsvc.SystemChanges{}
	}
	up.Message = after
	return configsvc.SystemChanges{Upserts: []admission.Upsert{up}, Notes: []string{note}}
}

// next is the record after what is stored, nil if that is good. One that cannot be read is replaced.
func next(before *systemv1.TicketKeys, k known) (*systemv1.TicketKeys, string) {
	switch {
	case len(before.GetKeys()) == 0:
		return k.fresh(), "made anew: what was stored cannot be read"
	case before.GetRevoked() != k.revoked:
		return k.fresh(), "replaced: a gateway was revoked"
	}
	var kept []*systemv1.TicketKey
	var newest time.Time
	longest := k.now.Add(opens * k.period)
	for _, key := range before.GetKeys() {
		from, until := key.GetFrom().AsTime(), key.GetUntil().AsTime()
		if !until.After(k.now) || from.After(k.now.Add(k.period+k.period/2)) { // over; or of a longer period than there is now
			continue
		}
		if until.After(longest) {
			key = &systemv1.TicketKey{Key: key.GetKey(), From: key.GetFrom(), Until: timestamppb.New(longest)}
		}
		kept = append(kept, key)
		if from.After(newest) {
			newest = from
		}
	}
	if newest.After(k.now) {
		return nil, ""
	}
	if len(kept) == 0 { // after a long time without a control plane
		return k.fresh(), "made anew: the ones before are over"
	}
	from := newest.Add(k.period)
	if soonest := k.now.Add(k.period / 2); from.Before(soonest) { // so late that gateways would not have it before it is used
		from = soonest
	}
	return &systemv1.TicketKeys{Revoked: k.revoked, Keys: append([]*systemv1.TicketKey{k.key(0, from)}, kept...)}, "rotated"
}
