package hostsvc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tokenShards = 64
	// defaultTokenBytes bounds what verified tokens take, claims included.
	defaultTokenBytes = 64 << 20
	// tokenOverhead is what an entry takes beside what its token says.
	tokenOverhead = 512
)

// TokenKey is the keyed hash of a token: nobody who reads memory gets tokens, and nobody can make two with one key.
type TokenKey [sha256.Size]byte

// TokenTable remembers what came of verifying tokens, until they end. It is bounded by bytes. Its values are found by token and
// by who verified it under which rules: a changed binding meets none of what it verified before.
type TokenTable struct {
	macs   sync.Pool
	epoch  atomic.Pointer[tokenEpoch]
	shards [tokenShards]tokenShard
}

type tokenShard struct {
	mu      sync.Mutex
	index   map[TokenKey]int32
	entries []tokenEntry
	free    []int32
	bytes   int
	max     int
	hand    int
	// hits and misses count questions.
	hits, misses uint64
	_            [24]byte
}

// tokenEntry is free without a value.
type tokenEntry struct {
	key   TokenKey
	value any
	until int64 // nanoseconds since 1970
	size  int
	used  bool
}

// NewTokenTable makes a table of at most about max bytes (0: 64 MiB).
func NewTokenTable(max int) *TokenTable {
	if max <= 0 {
		max = defaultTokenBytes
	}
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails, as its documentation says
	t := &TokenTable{}
	t.macs.New = func() any { return &tokenMAC{Hash: hmac.New(sha256.New, secret)} }
	for i := range t.shards {
		t.shards[i].index, t.shards[i].max = map[TokenKey]int32{}, max/tokenShards
	}
	return t
}

// tokenMAC is a MAC with room for what it gives.
type tokenMAC struct {
	hash.Hash
	sum [sha256.Size]byte
}

// tokenEpoch is the time in which something was the newest.
type tokenEpoch struct {
	newest any
	number uint64
}

// Epoch returns a number that is another one each time something else is the newest. Who has looked something up there needs
// to look again only if the number has changed; to remember the number does not keep the thing itself in memory.
func (c *TokenCache) Epoch(newest any) uint64 {
	for {
		now := c.table.epoch.Load()
		if now != nil && now.newest == newest {
			return now.number
		}
		next := &tokenEpoch{newest: newest, number: 1}
		if now != nil {
			next.number = now.number + 1
		}
		if c.table.epoch.CompareAndSwap(now, next) {
			return next.number
		}
	}
}

// Len returns how many tokens are remembered.
func (t *TokenTable) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.index)
		s.mu.Unlock()
	}
	return n
}

// TokenCache is a part of the table that is one's own.
type TokenCache struct {
	table *TokenTable
	scope [sha256.Size]byte
}

// Bind returns the part of whoever has this identity. Equal identities have the same part, whenever they ask.
func (t *TokenTable) Bind(identity ...string) *TokenCache {
	h := sha256.New()
	for _, s := range identity {
		var n [8]byte
		for i := range n {
			n[i] = byte(len(s) >> (8 * i))
		}
		h.Write(n[:])
		h.Write([]byte(s))
	}
	c := &TokenCache{table: t}
	h.Sum(c.scope[:0])
	return c
}

// Key returns the key of a token.
func (c *TokenCache) Key(raw []byte) (key TokenKey) {
	m, _ := c.table.macs.Get().(*tokenMAC)
	m.Reset()
	m.Write(c.scope[:])
	m.Write(raw)
	m.Sum(m.sum[:0])
	key = m.sum
	c.table.macs.Put(m)
	return key
}

func (t *TokenTable) shard(key *TokenKey) *tokenShard { return &t.shards[key[0]%tokenShards] }

// Get returns what is remembered of a token, nil if nothing is or it has ended.
func (c *TokenCache) Get(key *TokenKey, now time.Time) any {
	s := c.table.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[*key]
	if !ok {
		s.misses++
		return nil
	}
	e := &s.entries[i]
	if now.UnixNano() >= e.until {
		s.drop(i)
		s.misses++
		return nil
	}
	s.hits++
	e.used = true
	return e.value
}

// Put remembers what came of a token that has size bytes, until it ends. Tokens without an end are not remembered.
func (c *TokenCache) Put(key *TokenKey, value any, until time.Time, size int) {
	if until.IsZero() {
		return
	}
	const decoded = 4 // what claims take in memory for each byte of their JSON, roughly
	size = decoded*size + tokenOverhead
	s := c.table.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[*key]; ok {
		s.drop(i)
	}
	for s.bytes+size > s.max && len(s.index) > 0 {
		s.evict()
	}
	if s.bytes+size > s.max {
		return
	}
	s.put(tokenEntry{key: *key, value: value, until: until.UnixNano(), size: size})
}

func (s *tokenShard) put(e tokenEntry) {
	var i int32
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
		s.entries[i] = e
	} else {
		i = int32(len(s.entries))
		s.entries = append(s.entries, e)
	}
	s.index[e.key] = i
	s.bytes += e.size
}

func (s *tokenShard) drop(i int32) {
	e := &s.entries[i]
	delete(s.index, e.key)
	s.bytes -= e.size
	*e = tokenEntry{}
	s.free = append(s.free, i)
}

// evict drops the next entry that was not used since the hand came by last.
func (s *tokenShard) evict() {
	for {
		s.hand = (s.hand + 1) % len(s.entries)
		e := &s.entries[s.hand]
		if e.value == nil {
			continue
		}
		if !e.used {
			s.drop(int32(s.hand))
			return
		}
		e.used = false
	}
}

// Drop forgets a token.
func (c *TokenCache) Drop(key *TokenKey) {
	s := c.table.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[*key]; ok {
		s.drop(i)
	}
}
