package hostsvc

import (
	"crypto/sha256"
	"net/netip"
	"time"
)

const (
	defaultGuardCount = 1 << 18
	// remembered is how long an address counts as one from which somebody logs in.
	remembered = 24 * time.Hour
)

// GuardTable holds the counters against guessing of a process. There are three sorts: for one account from one address, for
// one address over all accounts, and for one account over all addresses. All are bounded in number like rate limits, and come
// back evenly.
//
// Nobody can lock somebody else out. Who guesses from an address is refused there. An account that is guessed at from many
// addresses is only slowed down: what comes from an address where it has not logged in lately waits behind all others and
// must be right the first time. An address that guesses at many accounts is refused, but for accounts that log in there.
type GuardTable struct {
	counters *LimiterTable
	// seen has its own table: what an attack fills must not push it out.
	seen *Limiter
	// unsure are the guesses of which nothing was found out.
	unsure *Verified
}

// NewGuardTable makes a table of at most about max counters (0: a default of a quarter of a million).
func NewGuardTable(max int) *GuardTable {
	if max <= 0 {
		max = defaultGuardCount
	}
	seen := NewLimiterTable(max).Bind([]string{"seen"}, []Window{{Limit: 1, Length: remembered}})
	return &GuardTable{counters: NewLimiterTable(max), seen: seen, unsure: NewVerified(0)}
}

// GuardLimits say how many wrong guesses in a window pass. All are at least 1.
type GuardLimits struct {
	// Pair is for one account from one address, Address for one address, Account for one account.
	Pair, Address, Account uint64
	Window                 time.Duration
}

// Guard is a handle on the counters for accounts of one sort.
type Guard struct {
	sort               [sortBytes]byte
	window             time.Duration
	unsure             *Verified
	seen               *Limiter
	pair, addr, number *Limiter
}

// Bind returns the guard of accounts of a sort, such as a credential type with the name of a directory. Handles of equal sorts
// and limits share their counters, whenever they are made.
func (t *GuardTable) Bind(sort string, l GuardLimits) *Guard {
	bind := func(what string, limit uint64) *Limiter {
		return t.counters.Bind([]string{sort, what}, []Window{{Limit: limit, Length: l.Window}})
	}
	sum := sha256.Sum256([]byte(sort))
	return &Guard{
		sort: [sortBytes]byte(sum[:]), window: l.Window, unsure: t.unsure, seen: t.seen,
		pair: bind("pair", l.Pair), addr: bind("address", l.Address), number: bind("account", l.Account),
	}
}

// Attempt is one try to log in. Make it with Begin; it is used by one goroutine and not longer than the request.
type Attempt struct {
	guard *Guard
	now   time.Time
	// pair is the account behind the address: what both are counted by, and parts of it by which each is.
	pair    []byte
	addrLen int
	known   bool
	taken   bool
	hot     bool
}

const (
	// maxPrefix is the longest form of an address.
	maxPrefix = 9
	sortBytes = 8

	// AttemptRoom is how many bytes Begin needs beside the account.
	AttemptRoom = maxPrefix + sortBytes
)

// Begin starts an attempt. The bytes of room hold what the counters are found by; it has capacity for AttemptRoom and the
// account. Names of accounts are whatever was presented, whether there is such an account or not.
func (g *Guard) Begin(a *Attempt, room, account []byte, client netip.Addr, now time.Time) {
	room = appendPrefix(room[:0], client)
	*a = Attempt{guard: g, now: now, addrLen: len(room)}
	a.pair = append(append(room, g.sort[:]...), account...)
	a.known = g.seen.Held(a.pair, now)
}

// appendPrefix writes the network of a client: an IPv6 subscriber has a /64 and can use every address in it.
func appendPrefix(b []byte, a netip.Addr) []byte {
	a = a.Unmap()
	if a.Is4() {
		v4 := a.As4()
		return append(append(b, 4), v4[:]...)
	}
	v6 := a.As16() // of no address: that of all who have none
	return append(append(b, 6), v6[:8]...)
}

func (a *Attempt) address() []byte { return a.pair[:a.addrLen] }
func (a *Attempt) account() []byte { return a.pair[a.addrLen:] }

// Wait returns for how long the attempt would be refused, zero if it may go on. It counts nothing: it is for those who know
// already that a password is right, and must not tell before they may.
func (a *Attempt) Wait() time.Duration {
	wait := a.guard.pair.Wait(a.pair, a.now)
	if !a.known {
		wait = max(wait, a.guard.addr.Wait(a.address(), a.now))
	}
	return wait
}

// Take counts the attempt as a wrong one, before it is known what it is, so that many at once are no way around. It returns how
// long it has to wait, and then has counted nothing; zero: it may go on.
func (a *Attempt) Take() time.Duration {
	var pair, addr, number Decision
	g := a.guard
	if g.pair.Take(a.pair, a.now, &pair); !pair.OK {
		return pair.RetryAfter
	}
	if !a.known {
		if g.addr.Take(a.address(), a.now, &addr); !addr.OK {
			g.pair.Return(a.pair, a.now)
			return addr.RetryAfter
		}
		g.number.Take(a.account(), a.now, &number)
		a.hot = !number.OK
	}
	if others := pair.Quotas[0].Reset - g.pair.Step(); a.hot && others > 0 {
		g.pair.Return(a.pair, a.now)
		g.addr.Return(a.address(), a.now)
		return others
	}
	a.taken = true
	return 0
}

// Flow says beside whom the attempt waits for its turn: behind others for the same account if that is guessed at from everywhere,
// else behind others from the same address.
func (a *Attempt) Flow() uint64 {
	if a.hot {
		return a.guard.number.Hash(a.account())
	}
	return a.guard.addr.Hash(a.address())
}

// Right says that the password was right: it was no wrong guess, and the account logs in from there.
func (a *Attempt) Right() {
	a.Undo()
	var d Decision
	a.guard.seen.Take(a.pair, a.now, &d)
}

// Unsure says that nothing could be found out. What was presented is counted for the account from the address, once however often
// it comes: who is remembered gets in meanwhile, and so one answer after the other would tell a guesser what is not his password.
func (a *Attempt) Unsure(presented *Proof) {
	if !a.taken {
		return
	}
	again := a.guard.unsure.Has(presented, a.now)
	a.Undo()
	if !again {
		var d Decision
		a.guard.unsure.Put(presented, a.now.Add(a.guard.window))
		a.guard.pair.Take(a.pair, a.now, &d)
	}
}

// Undo takes back what was counted.
func (a *Attempt) Undo() {
	if !a.taken {
		return
	}
	a.taken = false
	a.guard.pair.Return(a.pair, a.now)
	if a.known {
		return
	}
	a.guard.addr.Return(a.address(), a.now)
	if !a.hot {
		a.guard.number.Return(a.account(), a.now)
	}
}

// Len returns the number of counters held.
func (t *GuardTable) Len() int { return t.counters.Len() + t.seen.table.Len() }
