package revocation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/check/revocation"
)

const (
	// maxEntries bounds the certificates of which answers are kept: some 50 MiB.
	maxEntries = 16384
	// maxWaiting bounds the questions that wait to be asked.
	maxWaiting = 4096
	// askers is how many questions are asked at once.
	askers = 16
	// scan is how often it is looked which answers are to be asked for again.
	scan = time.Second
	// retry is until a responder that gave no answer is asked again.
	retry = 10 * time.Second
	// spared is for how long a responder that cannot be reached is asked nothing: each question would wait as long.
	spared = 2 * time.Second
	// grace is how much longer than a question whoever waits for its answer waits, so as to see that it has failed.
	grace = 50 * time.Millisecond
	// forgotten is after which time without interest answers are not asked for again.
	forgotten = time.Hour
)

// Fetch sends a question to a responder and returns its answer.
type Fetch func(ctx context.Context, egress *hostsvc.EgressRules, url string, question []byte) ([]byte, error)

// Cache keeps what responders have answered. Make one per process; it is safe for concurrent use.
type Cache struct {
	fetch Fetch
	queue chan *Entry
	// Tally counts what came of judging clients' certificates.
	Tally Tally
	// asked counts questions, failed those that got no answer that counts.
	asked, failed atomic.Uint64

	mu      sync.Mutex
	entries map[key]*Entry       // guarded by mu
	down    map[string]time.Time // guarded by mu: until when responders are spared
}

// Tally counts what came of judging clients' certificates.
type Tally struct {
	// Revoked were revoked. LetIn were let in although nobody could tell, Unsure were not.
	Revoked, LetIn, Unsure atomic.Uint64
}

type key [sha256.Size]byte

// question is what is asked, and how.
type question struct {
	certificate, issuer *x509.Certificate
	url                 string
	egress              *hostsvc.EgressRules
	timeout, refresh    time.Duration
}

func (q *question) key() key {
	h := sha256.New()
	h.Write(q.issuer.RawSubjectPublicKeyInfo)
	h.Write(q.issuer.RawSubject)
	fmt.Fprintf(h, "%x %s", q.certificate.SerialNumber, q.url)
	return key(h.Sum(nil))
}

// answer is what is known of a certificate. It is never changed.
type answer struct {
	revocation.Answer
	until time.Time
}

// Entry is a certificate of which responders are asked.
type Entry struct {
	answer atomic.Pointer[answer] // nil: none yet
	wanted atomic.Int64           // when somebody last wanted to know, in seconds
	first  chan struct{}          // closed when a first answer has come, or will not soon

	// All guarded by the cache's mu.
	question question
	busy     bool
	next     time.Time // when it is asked about again
	told     bool      // first is closed
}

// look returns the answer that there is.
func (e *Entry) look() *answer {
	if now := time.Now().Unix(); e.wanted.Load() != now {
		e.wanted.Store(now)
	}
	return e.answer.Load()
}

// NewCache returns a cache. It asks nobody before Run.
func NewCache(fetch Fetch) *Cache {
	return &Cache{fetch: fetch, queue: make(chan *Entry, maxWaiting), entries: map[key]*Entry{}, down: map[string]time.Time{}}
}

// entry finds what is kept of a certificate, and has its responder asked if nothing is.
func (c *Cache) entry(q question) *Entry {
	k := q.key()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e != nil {
		e.question = q // how may have changed
		return e
	}
	if len(c.entries) >= maxEntries {
		c.evict()
	}
	e = &Entry{question: q, first: make(chan struct{})}
	e.wanted.Store(time.Now().Unix())
	c.entries[k] = e
	c.enqueue(e, time.Now())
	return e
}

// evict forgets the entry of those it comes across first that was wanted last the longest time ago. Whoever still goes by it
// sees that it has changed. The cache's mu is held.
func (c *Cache) evict() {
	const tries = 16
	var oldest key
	var found *Entry
	n := 0
	for k, e := range c.entries {
		if found == nil || e.wanted.Load() < found.wanted.Load() {
			oldest, found = k, e
		}
		if n++; n == tries {
			break
		}
	}
	delete(c.entries, oldest)
	found.answer.Store(&answer{})
	c.tellFirst(found)
}

// enqueue has an entry asked about. If too many wait it is tried again later. The cache's mu is held.
func (c *Cache) enqueue(e *Entry, now time.Time) {
	if now.Before(c.down[e.question.url]) {
		c.giveUp(e, now)
		return
	}
	select {
	case c.queue <- e:
		e.busy = true
	default:
		c.giveUp(e, now)
	}
}

// giveUp leaves an entry as it is for a while. The cache's mu is held.
func (c *Cache) giveUp(e *Entry, now time.Time) {
	e.busy, e.next = false, now.Add(retry)
	if e.answer.Load() == nil {
		e.answer.Store(&answer{})
		e.next = now.Add(spared)
	}
	c.tellFirst(e)
}

func (c *Cache) tellFirst(e *Entry) {
	if !e.told {
		e.told = true
		close(e.first)
	}
}

// Await waits for the first answers that a finding lacks, until ctx ends or as long as the configuration says: for all of them
// at once. It reports whether it has waited for anything.
func (c *Cache) Await(ctx context.Context, f Finding) bool {
	waited, began := false, time.Now()
	for _, t := range f.Told {
		if t.answer != nil {
			continue
		}
		waited = true
		c.mu.Lock()
		timeout := t.entry.question.timeout
		c.mu.Unlock()
		timer := time.NewTimer(time.Until(began.Add(timeout + grace)))
		select {
		case <-t.entry.first:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return waited
}

// Run asks responders until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-c.queue:
					c.ask(ctx, e)
				}
			}
		})
	}
	tick := time.NewTicker(scan)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			c.due(now)
		}
	}
	wg.Wait()
	return nil
}

// due has those asked about whose time has come, and forgets those nobody wants any more.
func (c *Cache) due(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for url, until := range c.down {
		if now.After(until) {
			delete(c.down, url)
		}
	}
	for k, e := range c.entries {
		if e.busy || now.Before(e.next) {
			continue
		}
		if now.Sub(time.Unix(e.wanted.Load(), 0)) > forgotten {
			delete(c.entries, k)
			e.answer.Store(&answer{})
			continue
		}
		c.enqueue(e, now)
	}
}

// ask asks the responder of one certificate.
func (c *Cache) ask(ctx context.Context, e *Entry) {
	c.mu.Lock()
	q := e.question
	if time.Now().Before(c.down[q.url]) {
		c.giveUp(e, time.Now())
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.asked.Add(1)
	got, err := c.answer(ctx, &q)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	old := e.answer.Load()
	if err == nil && old != nil && got.ThisUpdate.Before(old.ThisUpdate) {
		err = errOlder // whoever sends it may want to have a revocation forgotten
	}
	if err != nil {
		c.failed.Add(1)
		if errors.Is(err, errUnreachable) {
			c.down[q.url] = now.Add(spared)
		}
		c.giveUp(e, now)
		return
	}
	e.answer.Store(got)
	e.busy, e.next = false, now.Add(min(q.refresh, max(got.until.Sub(now)/2, scan)))
	c.tellFirst(e)
}

var (
	errOlder       = errors.New("the answer is older than the one before")
	errUnreachable = errors.New("the responder cannot be reached")
)

func (c *Cache) answer(ctx context.Context, q *question) (*answer, error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	body, err := revocation.Question(q.certificate, q.issuer, nonce)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	text, err := c.fetch(ctx, q.egress, q.url, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	got, err := revocation.ReadAnswer(text, q.certificate, q.issuer, nonce, time.Now())
	if err != nil {
		return nil, err
	}
	a := &answer{got, got.NextUpdate}
	if a.until.IsZero() { // newer ones are there at any time
		a.until = time.Now().Add(2 * q.refresh)
		if last := got.ThisUpdate.Add(24 * time.Hour); last.Before(a.until) {
			a.until = last
		}
	}
	return a, nil
}

// Stats is what a cache has done, and holds.
type Stats struct {
	Asked, Failed uint64
	Entries       int
}

// Stats returns them.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{c.asked.Load(), c.failed.Load(), len(c.entries)}
}
