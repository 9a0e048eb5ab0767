// Package shardmap is an immutable map from strings that shares with its successors what did not change: with a hundred
// thousand keys, a change costs the copy of one small shard. The compiled runtime of a gateway is made of such maps. It
// knows nothing about what it holds.
package shardmap

import (
	"hash/maphash"
	"iter"
)

const side = 64 // there are side blocks of side shards, so that a new map copies two short tables and not a long one

// Map is immutable and safe for concurrent use. The zero value is not usable; begin with New.
type Map[V any] struct {
	seed   maphash.Seed
	blocks [side]*block[V] // nil: empty
	len    int
}

type block[V any] [side]shard[V]

// New returns an empty map.
func New[V any]() *Map[V] { return &Map[V]{seed: maphash.MakeSeed()} }

// find returns the slot of a key; nil if it is not there.
func (m *Map[V]) find(hash uint64, key string) *slot[V] {
	b := m.blocks[hash%side]
	if b == nil {
		return nil
	}
	s := &b[hash/side%side]
	if i := s.find(hash, key); i >= 0 {
		return &s.slots[i]
	}
	return nil
}

// Get returns the value of key.
func (m *Map[V]) Get(key string) (v V, ok bool) {
	if e := m.find(maphash.String(m.seed, key), key); e != nil {
		return e.value, true
	}
	return v, false
}

// GetBytes returns the value of key without copying it.
func (m *Map[V]) GetBytes(key []byte) (v V, ok bool) {
	hash := maphash.Bytes(m.seed, key)
	b := m.blocks[hash%side]
	if b == nil {
		return v, false
	}
	s := &b[hash/side%side]
	if i := s.findBytes(hash, key); i >= 0 {
		return s.slots[i].value, true
	}
	return v, false
}

// Len returns the number of keys.
func (m *Map[V]) Len() int { return m.len }

// All yields every key and value in no order.
func (m *Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, b := range m.blocks {
			if b != nil && !b.each(yield) {
				return
			}
		}
	}
}

func (b *block[V]) each(yield func(string, V) bool) bool {
	for i := range b {
		slots := b[i].slots
		for j := range slots {
			if e := &slots[j]; e.hash != 0 && !yield(e.key, e.value) {
				return false
			}
		}
	}
	return true
}

// Editor makes a new map from an old one. It is used by one goroutine and once.
type Editor[V any] struct {
	m     *Map[V]
	owned [side]uint64 // per block, a bit for each shard that is the editor's own; not 0 if the block is
	each  int          // how many keys are expected in a shard; 0: nobody knows
}

// Edit begins a new map that starts as m.
func (m *Map[V]) Edit() *Editor[V] {
	c := *m
	return &Editor[V]{m: &c}
}

// Expect says how many keys there will be: then there is room for them at once.
func (e *Editor[V]) Expect(keys int) { e.each = keys / (side * side) }

// Map ends the edit.
func (e *Editor[V]) Map() *Map[V] { return e.m }

// Len returns the number of keys as edited so far.
func (e *Editor[V]) Len() int { return e.m.len }

// Get returns the value of key as edited so far.
func (e *Editor[V]) Get(key string) (V, bool) { return e.m.Get(key) }

// Put sets the value of key.
func (e *Editor[V]) Put(key string, v V) {
	hash := maphash.String(e.m.seed, key)
	s := e.own(hash)
	if s.put(slot[V]{used(hash), key, v}, e.each) {
		e.m.len++
	}
}

// Delete removes key if it is there.
func (e *Editor[V]) Delete(key string) {
	hash := maphash.String(e.m.seed, key)
	if e.m.find(hash, key) == nil {
		return
	}
	s := e.own(hash)
	s.remove(s.find(hash, key))
	e.m.len--
}

// own makes sure that the shard of the hash is the editor's own.
func (e *Editor[V]) own(hash uint64) *shard[V] {
	i, j := hash%side, hash/side%side
	if e.owned[i] == 0 {
		b := new(block[V])
		if old := e.m.blocks[i]; old != nil {
			*b = *old
		}
		e.m.blocks[i] = b
	}
	b := e.m.blocks[i]
	if e.owned[i]&(1<<j) == 0 {
		e.owned[i] |= 1 << j
		b[j] = b[j].clone()
	}
	return &b[j]
}
