package hostsvc

import (
	"slices"
	"time"

	"keyward.dev/shared/check/jwk"
)

// KeyAnswer says what is known of a key that is not in a set.
type KeyAnswer uint8

// KeyAnswer. The zero value says nothing.
const (
	// KeyUnsure: the set could not be fetched, or not in time.
	KeyUnsure KeyAnswer = iota
	// KeyLater: the set was fetched too often lately; it is going to be again within KeyAgain.
	KeyLater
	// KeyKnown: what is returned is what there is.
	KeyKnown
)

// KeyAgain is when to come again after KeyLater.
const KeyAgain = keySetEvery + 2*keySetScan

// Newer is for a token whose key is not in the set that was tried. It has the set fetched again, within bounds, until it has
// the key, and returns what there is then. That there is no such key is known only from a fetch that began after the question,
// or if its issuer has withdrawn the key of that name: one that is asked for too often may have been added meanwhile.
func (k *KeySet) Newer(tried *jwk.Set, name string, has func(*jwk.Set) bool) (*jwk.Set, KeyAnswer) {
	s, answer := k.newer(tried, name, has)
	k.table.tally.answered(answer, s != nil && has(s))
	return s, answer
}

func (k *KeySet) newer(tried *jwk.Set, name string, has func(*jwk.Set) bool) (s *jwk.Set, answer KeyAnswer) {
	now := time.Now()
	asked, ends := k.fetches(), now.Add(k.source.Timeout)
	s = k.Current(now)
	const rounds = 2 // one that was under way may have been answered before the key was added
	for range rounds {
		if s != nil && (s != tried && has(s) || k.withdrew(name)) {
			return s, KeyKnown
		}
		tried = s
		round, spent := k.again(time.Now(), true)
		if spent {
			answer = KeyLater
		}
		k.await(round, ends)
		known := k.answeredSince(asked)
		if s = k.Current(time.Now()); known {
			return s, KeyKnown
		}
		if round == nil {
			break
		}
	}
	if s != nil && s != tried && has(s) {
		answer = KeyKnown
	}
	return s, answer
}

// Later is Newer for who must not wait: it has the set fetched again, within the same bounds, and says what is known now.
func (k *KeySet) Later(tried *jwk.Set, name string, has func(*jwk.Set) bool) (s *jwk.Set, answer KeyAnswer) {
	defer func() { k.table.tally.answered(answer, s != nil && has(s)) }()
	now := time.Now()
	s = k.Current(now)
	if s != nil && (s != tried && has(s) || k.withdrew(name)) {
		return s, KeyKnown
	}
	if _, spent := k.again(now, true); spent {
		return s, KeyLater
	}
	return s, KeyUnsure
}

// fetches returns how many have begun.
func (k *KeySet) fetches() uint64 {
	k.table.mu.Lock()
	defer k.table.mu.Unlock()
	return k.begun
}

// withdrew reports whether the issuer had a key of that name and has taken it back.
func (k *KeySet) withdrew(name string) bool {
	known := k.known.Load()
	return name != "" && known != nil && slices.Contains(known.withdrawn, name)
}

func (k *KeySet) answeredSince(asked uint64) bool {
	k.table.mu.Lock()
	defer k.table.mu.Unlock()
	return k.answered > asked
}

// again has the set fetched again, for an unknown key only if one of the few fetches for such is left. Spent says that none
// is; then it is fetched as soon as there is one, whoever asks or not.
func (k *KeySet) again(now time.Time, unknown bool) (round <-chan struct{}, spent bool) {
	t := k.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.round != nil {
		return k.round, false
	}
	if unknown && !k.token(now) {
		k.owing = true
		t.hold(k)
		return nil, true
	}
	round = t.enqueue(k, now)
	if unknown && round != nil {
		k.tokens--
	}
	return round, false
}

// token reports whether one of the few fetches for unknown keys is left; mu is held.
func (k *KeySet) token(now time.Time) bool {
	k.tokens = min(keySetBurst, k.tokens+now.Sub(k.refilled).Seconds()/keySetEvery.Seconds())
	k.refilled = now
	return k.tokens >= 1
}

// withdrawn returns the names of the keys that were there before and are no more.
func withdrawn(before *knownKeys, now *jwk.Set) []string {
	if before == nil || before.keys == now {
		if before == nil {
			return nil
		}
		return before.withdrawn
	}
	there := func(name string) bool {
		return slices.ContainsFunc(now.Keys, func(k *jwk.Key) bool { return k.ID == name })
	}
	names := slices.DeleteFunc(slices.Clone(before.withdrawn), there)
	for _, k := range before.keys.Keys {
		if k.ID != "" && !there(k.ID) {
			names = append(names, k.ID)
		}
	}
	return names[max(0, len(names)-maxWithdrawn):]
}
