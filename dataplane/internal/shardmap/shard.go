package shardmap

import (
	"math/bits"
	"slices"
)

// shard is a hash table with open addressing and linear probing. A lookup among very many keys waits for memory and for
// little else: here it is that of the slot and that of its key, half of what a map of Go's takes, which has to be found
// through a header, a directory and a table first.
type shard[V any] struct {
	slots []slot[V]
	keys  int
}

// slot is free if its hash is 0.
type slot[V any] struct {
	hash  uint64
	key   string
	value V
}

const (
	// shardBits of a hash choose the shard: the slot is chosen by those above.
	shardBits = 12
	smallest  = 4
)

// used is the hash as a slot has it: never 0.
func used(hash uint64) uint64 { return hash | 1 }

func (s *shard[V]) home(hash uint64) int { return int(hash>>shardBits) & (len(s.slots) - 1) }

func (s *shard[V]) clone() shard[V] { return shard[V]{slices.Clone(s.slots), s.keys} }

// find returns the slot of key, -1 if there is none.
func (s *shard[V]) find(hash uint64, key string) int {
	slots := s.slots
	if len(slots) == 0 {
		return -1
	}
	hash = used(hash)
	for i := s.home(hash); slots[i].hash != 0; i = (i + 1) & (len(slots) - 1) {
		if slots[i].hash == hash && slots[i].key == key {
			return i
		}
	}
	return -1
}

// findBytes is find without a copy of the key.
func (s *shard[V]) findBytes(hash uint64, key []byte) int {
	slots := s.slots
	if len(slots) == 0 {
		return -1
	}
	hash = used(hash)
	for i := s.home(hash); slots[i].hash != 0; i = (i + 1) & (len(slots) - 1) {
		if slots[i].hash == hash && slots[i].key == string(key) {
			return i
		}
	}
	return -1
}

// put sets a value and says whether its key is new. expected is how many keys there will be, if that is known.
func (s *shard[V]) put(e slot[V], expected int) bool {
	if i := s.find(e.hash, e.key); i >= 0 {
		s.slots[i].value = e.value
		return false
	}
	s.grow(max(s.keys+1, expected))
	s.place(e)
	s.keys++
	return true
}

func (s *shard[V]) place(e slot[V]) {
	i := s.home(e.hash)
	for s.slots[i].hash != 0 {
		i = (i + 1) & (len(s.slots) - 1)
	}
	s.slots[i] = e
}

// grow makes sure that a quarter of the slots is free when there are so many keys.
func (s *shard[V]) grow(keys int) {
	if len(s.slots) > 0 && keys <= len(s.slots)*3/4 {
		return
	}
	larger := shard[V]{slots: make([]slot[V], max(smallest, 1<<bits.Len(uint(keys+keys/3)))), keys: s.keys}
	for _, e := range s.slots {
		if e.hash != 0 {
			larger.place(e)
		}
	}
	*s = larger
}

// remove frees a slot, and moves those up that are behind it because it was taken.
func (s *shard[V]) remove(i int) {
	slots, mask := s.slots, len(s.slots)-1
	for j := (i + 1) & mask; slots[j].hash != 0; j = (j + 1) & mask {
		if (j-s.home(slots[j].hash))&mask >= (j-i)&mask {
			slots[i] = slots[j]
			i = j
		}
	}
	slots[i] = slot[V]{}
	s.keys--
}
