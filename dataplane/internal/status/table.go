package status

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map that is read on the request path: by any number of goroutines, without a lock. It is copied to be
// changed, which is rare, and holds no more than max keys: what has no place is counted together with others like it.
type table[K comparable, V any] struct {
	max   int
	make  func(K) *V
	other *V

	mu      sync.Mutex // held by whoever changes current
	current atomic.Pointer[map[K]*V]
}

// newTable makes a table in which others stands for the keys that have no place.
func newTable[K comparable, V any](limit int, others K, make func(K) *V) *table[K, V] {
	t := &table[K, V]{max: limit, make: make, other: make(others)}
	t.current.Store(&map[K]*V{})
	return t
}

// get returns the key's value, making one if there is a place for it.
func (t *table[K, V]) get(k K) *V {
	m := *t.current.Load()
	if v := m[k]; v != nil {
		return v
	}
	if len(m) >= t.max {
		return t.other
	}
	return t.add(k)
}

func (t *table[K, V]) add(k K) *V {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := *t.current.Load()
	if v := m[k]; v != nil {
		return v
	}
	if len(m) >= t.max {
		return t.other
	}
	next := make(map[K]*V, len(m)+1)
	maps.Copy(next, m)
	v := t.make(k)
	next[k] = v
	t.current.Store(&next)
	return v
}

// forget drops the keys that are gone.
func (t *table[K, V]) forget(gone func(K) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(*t.current.Load())
	maps.DeleteFunc(next, func(k K, _ *V) bool { return gone(k) })
	t.current.Store(&next)
}

// all returns the values of all keys, and what stands for those without a place last.
func (t *table[K, V]) all() []*V {
	m := *t.current.Load()
	out := make([]*V, 0, len(m)+1)
	for _, v := range m {
		out = append(out, v)
	}
	return append(out, t.other)
}
