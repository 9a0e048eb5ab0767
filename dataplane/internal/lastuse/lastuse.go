// Package lastuse remembers when each credential was last accepted, for the control plane to tell whoever wants to know which
// of them nobody uses any more. A request costs a look at one word of the credential's own; it is written once in a Period.
// Nothing here decides anything about requests, and what is lost costs precision only. Called by the chain runner, which
// notes uses, and by the sync client, which reports them.
package lastuse

import (
	"sync/atomic"
	"time"
)

// Period is how far apart the noted uses of a credential are: what is known of it can be that much older than its last use.
const Period = time.Hour

// epoch is what noted seconds count from, so that they and a flag fit into a word until 2058.
const epoch = 631152000 // 1990-01-01T00:00:00Z

// unreported is the bit of a word that says that nobody was told yet.
const unreported = 1

// Mark is when one credential was last accepted. The zero value is that of one that was not, nil that of one of which nobody
// wants to know.
type Mark struct {
	// word is the second of a use, and whether it was reported. Whoever writes it writes about the same: no lock.
	word atomic.Uint32
}

// Note notes that the credential was accepted, unless that was done not long ago. A clock that was put right starts anew.
func (m *Mark) Note(at time.Time) {
	if m == nil {
		return
	}
	const period = int32(Period / time.Second)
	now, was := uint32(max(at.Unix()-epoch, 1)), m.word.Load() // 0 is that of no use
	if d := int32(now - was>>1); was != 0 && d < period && d > -period {
		return
	}
	m.word.Store(now<<1 | unreported)
}

// Follow takes over what another mark of the credential knows: that of it as it was before something around it changed.
// Requests that still have that one lose what they note from now on.
func (m *Mark) Follow(before *Mark) { m.word.Store(before.word.Load()) }

// Use is a use that was not reported yet.
type Use struct {
	// UID is that of the credential.
	UID  string
	At   time.Time
	mark *Mark
	word uint32
}

// use is what is to be reported of a credential, if there is something.
func (m *Mark) use(uid string) (Use, bool) {
	word := m.word.Load()
	at := time.Unix(int64(word>>1)+epoch, 0)
	return Use{UID: uid, At: at, mark: m, word: word}, word&unreported != 0
}

// Reported says that the use was reported.
func (u Use) Reported() { u.mark.word.CompareAndSwap(u.word, u.word&^unreported) }

// Lost says that it may not have arrived: it will be reported again, unless something newer is to be reported anyway.
func (u Use) Lost() { u.mark.word.CompareAndSwap(u.word&^unreported, u.word) }
