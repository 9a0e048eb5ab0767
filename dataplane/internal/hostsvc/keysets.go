package hostsvc

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/shared/check/jwk"
)

const (
	// maxKeySets bounds the sets that are kept; each has at most jwk.MaxSet bytes.
	maxKeySets = 1024
	// keySetFetchers is how many sets are fetched at once.
	keySetFetchers = 8
	// keySetScan is how often it is looked which sets are to be fetched again.
	keySetScan = time.Second
	// keySetForgotten is after which time without interest a set is not fetched again and may be dropped.
	keySetForgotten = time.Hour
	// keySetMinAge is for how long a set is believed whatever its server says: less would be a way to have us ask all the time.
	keySetMinAge = 15 * time.Second
	// Tokens that name unknown keys have the set fetched again, a few times at once and then every keySetEvery: whoever makes
	// up names must not decide how often its server is asked.
	keySetBurst = 3
	keySetEvery = 10 * time.Second
	// maxWithdrawn bounds the names of keys that are known to count no more, of each set.
	maxWithdrawn = 64
	// keySetRetry is until a fetch that failed is tried again; it doubles up to keySetMaxRetry.
	keySetRetry    = time.Second
	keySetMaxRetry = 30 * time.Second
)

// KeySource says where a set of keys is and how it is kept.
type KeySource struct {
	// URL is where the set is; empty: where the issuer's metadata says.
	URL string
	// Issuer is whose metadata is asked (OpenID Connect Discovery, RFC 8414) if there is no URL.
	Issuer string
	// Refresh is after which time a set is fetched again, sooner if its server says so.
	Refresh time.Duration
	// Stale is for how long the last set is believed after it should have been fetched again and could not be.
	Stale time.Duration
	// Timeout bounds a fetch, and how long anybody waits for one.
	Timeout time.Duration
	// Authorities vouch for the servers: their certificates in DER, one behind the other; empty: those of the machine do.
	Authorities string
}

// Fetched is what came of fetching a set.
type Fetched struct {
	Body []byte
	// MaxAge is for how long it may be kept; 0: the server does not say.
	MaxAge time.Duration
}

// FetchKeys fetches a set.
type FetchKeys func(ctx context.Context, s KeySource) (Fetched, error)

// KeySets keeps sets of keys that are fetched from elsewhere, found again by what they are about: they survive pushes, are
// fetched again before they are too old, and nobody waits for that but whoever comes first. It does nothing before Run.
type KeySets struct {
	fetch FetchKeys
	log   *slog.Logger
	queue chan *KeySet
	tally keyTally

	mu   sync.Mutex
	sets map[KeySource]*KeySet // guarded by mu
}

// KeySet is a set of keys that is kept.
type KeySet struct {
	table  *KeySets
	source KeySource
	known  atomic.Pointer[knownKeys] // nil: never fetched
	wanted atomic.Int64              // when somebody last wanted it, in seconds

	// holders is how many say that it is going to be wanted.
	holders atomic.Int64

	// All guarded by the table's mu.
	round    chan struct{} // closed when the fetch that is under way or waits for its turn has ended; nil: there is none
	next     time.Time     // when it is to be fetched again, or after a failure may be
	failures int
	failed   bool   // the last fetch
	begun    uint64 // the number of the fetch that began last
	answered uint64 // of the last that brought a set
	tokens   float64
	refilled time.Time
	owing    bool // somebody was told to come again because no token was left
}

// knownKeys is what was fetched last. It is never changed.
type knownKeys struct {
	keys *jwk.Set
	body string
	ends time.Time // it is not believed any more then
	// fetched is when it was confirmed last.
	fetched time.Time
	// withdrawn are the names of keys that sets before had and this one has not, the newest last.
	withdrawn []string
}

// NewKeySets returns an empty table.
func NewKeySets(fetch FetchKeys, log *slog.Logger) *KeySets {
	return &KeySets{fetch: fetch, log: log, queue: make(chan *KeySet, maxKeySets), sets: map[KeySource]*KeySet{}}
}

// Open returns the set of a source, the same one while somebody uses it, and has it fetched if it never was.
func (t *KeySets) Open(s KeySource) *KeySet {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.sets[s]
	if k == nil {
		k = &KeySet{table: t, source: s, tokens: keySetBurst, refilled: now}
		t.hold(k)
	}
	k.wanted.Store(now.Unix())
	if k.known.Load() == nil {
		t.enqueue(k, now)
	}
	return k
}

// hold puts a set into the table; mu is held. In a full one the set that was wanted last the longest time ago is dropped:
// who uses it goes on with it, and it is fetched again when it is asked for.
func (t *KeySets) hold(k *KeySet) {
	if t.sets[k.source] != nil {
		return
	}
	if len(t.sets) >= maxKeySets {
		var oldest *KeySet
		for _, o := range t.sets {
			if oldest == nil || o.wanted.Load() < oldest.wanted.Load() {
				oldest = o
			}
		}
		delete(t.sets, oldest.source)
	}
	t.sets[k.source] = k
}

// Len returns how many sets are kept.
func (t *KeySets) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sets)
}

// enqueue has a set fetched, unless that is under way or it has failed a moment ago; mu is held. It returns what is closed
// when the fetch has ended, nil if there is none.
func (t *KeySets) enqueue(k *KeySet, now time.Time) <-chan struct{} {
	if k.round != nil {
		return k.round
	}
	if k.failed && now.Before(k.next) {
		return nil
	}
	t.hold(k)
	round := make(chan struct{})
	select {
	case t.queue <- k:
		k.round = round
		return round
	default:
		return nil // everything is being fetched; the next scan tries again
	}
}

// Keys returns the keys, waiting for them only if the set was never fetched or is too old. It is nil if they cannot be known now.
func (k *KeySet) Keys() *jwk.Set {
	now := time.Now()
	if s := k.Current(now); s != nil {
		return s
	}
	round, _ := k.again(now, false)
	k.await(round, now.Add(k.source.Timeout))
	return k.Current(time.Now())
}

// Current returns the keys if they are there and may be believed; it never waits.
func (k *KeySet) Current(now time.Time) *jwk.Set {
	if s := now.Unix(); k.wanted.Load() != s {
		k.wanted.Store(s)
	}
	if known := k.known.Load(); known != nil && now.Before(known.ends) {
		return known.keys
	}
	return nil
}

// await waits for the end of a fetch, until then.
func (k *KeySet) await(round <-chan struct{}, until time.Time) {
	if round == nil {
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-round:
	case <-timer.C:
	}
}

// Run fetches sets until ctx ends.
func (t *KeySets) Run(ctx context.Context) error {
	var fetchers sync.WaitGroup
	for range keySetFetchers {
		fetchers.Go(func() {
			for {
				select {
				case k := <-t.queue:
					t.renew(ctx, k)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	ticker := time.NewTicker(keySetScan)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			t.scan(time.Now())
		case <-ctx.Done():
		}
	}
	fetchers.Wait()
	return nil
}

// scan has fetched again what is due and still of interest, and drops what is not.
func (t *KeySets) scan(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, k := range t.sets {
		switch {
		case now.Unix()-k.wanted.Load() > int64(keySetForgotten.Seconds()) && k.round == nil && k.holders.Load() == 0:
			delete(t.sets, s)
		case !now.Before(k.next):
			t.enqueue(k, now)
		case k.owing && k.round == nil && k.token(now):
			if t.enqueue(k, now) != nil {
				k.tokens--
			}
		}
	}
}

func (t *KeySets) renew(ctx context.Context, k *KeySet) {
	ctx, cancel := context.WithTimeout(ctx, k.source.Timeout)
	defer cancel()
	t.mu.Lock()
	k.begun++
	number := k.begun
	k.owing = false
	t.mu.Unlock()
	got, err := t.fetch(ctx, k.source)
	var keys *jwk.Set
	before := k.known.Load()
	switch {
	case err != nil:
	case before != nil && before.body == string(got.Body):
		keys = before.keys // the very same, so that nothing verified with it is verified again
	default:
		keys, err = jwk.ParseSet(got.Body)
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		close(k.round)
		k.round = nil
	}()
	if k.failed = err != nil; k.failed {
		t.tally.failed.Add(1)
		k.next = now.Add(min(keySetMaxRetry, keySetRetry<<min(k.failures, 10)))
		k.failures++
		t.log.WarnContext(ctx, "keys of an issuer cannot be fetched", "url", k.source.URL, "issuer", k.source.Issuer, "failures", k.failures, "err", err)
		return
	}
	age := k.source.Refresh
	if got.MaxAge > 0 {
		age = max(min(age, got.MaxAge), min(age, keySetMinAge))
	}
	t.tally.fetched.Add(1)
	k.failures, k.answered = 0, number
	k.next = now.Add(age - age/10) // ahead of its end, so that nobody waits
	k.known.Store(&knownKeys{keys: keys, body: string(got.Body), ends: now.Add(age + k.source.Stale), withdrawn: withdrawn(before, keys), fetched: now})
}
