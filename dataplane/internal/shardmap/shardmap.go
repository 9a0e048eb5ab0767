// Package shardmap is an immutable map from strings that shares with its successors what did not change: with a hundred
// thousand keys, a change costs the copy of one small shard. The compiled runtime of a gateway is made of such maps. It
// knows nothing about what it holds.
package shardmap

import (
	"hash/maphash"
	"iter"
	"maps"
)

const shards = 1024

// Map is immutable and safe for concurrent use. The zero value is not usable; begin with New.
type Map[V any] struct {
	seed   maphash.Seed
	shards [shards]map[string]V
	len    int
}

// New returns an empty map.
func New[V any]() *Map[V] { return &Map[V]{seed: maphash.MakeSeed()} }

// Get returns the value of key.
func (m *Map[V]) Get(key string) (V, bool) {
	v, ok := m.shards[maphash.String(m.seed, key)%shards][key]
	return v, ok
}

// GetBytes returns the value of key without copying it.
func (m *Map[V]) GetBytes(key []byte) (V, bool) {
	v, ok := m.shards[maphash.Bytes(m.seed, key)%shards][string(key)]
	return v, ok
}

// Len returns the number of keys.
func (m *Map[V]) Len() int { return m.len }

// All yields every key and value in no order.
func (m *Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, s := range m.shards {
			for k, v := range s {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Editor makes a new map from an old one. It is used by one goroutine and once.
type Editor[V any] struct {
	m     *Map[V]
	owned [shards]bool
}

// Edit begins a new map that starts as m.
func (m *Map[V]) Edit() *Editor[V] {
	c := *m
	return &Editor[V]{m: &c}
}

// Map ends the edit.
func (e *Editor[V]) Map() *Map[V] { return e.m }

// Get returns the value of key as edited so far.
func (e *Editor[V]) Get(key string) (V, bool) { return e.m.Get(key) }

// Put sets the value of key.
func (e *Editor[V]) Put(key string, v V) {
	s := e.own(key)
	if _, ok := s[key]; !ok {
		e.m.len++
	}
	s[key] = v
}

// Delete removes key if it is there.
func (e *Editor[V]) Delete(key string) {
	if _, ok := e.m.Get(key); !ok {
		return
	}
	delete(e.own(key), key)
	e.m.len--
}

func (e *Editor[V]) own(key string) map[string]V {
	i := maphash.String(e.m.seed, key) % shards
	if !e.owned[i] {
		e.owned[i] = true
		if e.m.shards[i] = maps.Clone(e.m.shards[i]); e.m.shards[i] == nil {
			e.m.shards[i] = map[string]V{}
		}
	}
	return e.m.shards[i]
}
