package shardmap

import "math/bits"

// shard is a hash table with open addressing and linear probing. A lookup among very many keys waits for memory and for
// little else: here it is that of the slot and that of its key, half of what a map of Go's takes, which has to be found
// through a header, a directory and a table first.
type shard[V any] []slot[V]

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

func (s shard[V]) home(hash uint64) int { return int(hash>>shardBits) & (len(s) - 1) }

// find returns the slot of key, -1 if there is none.
func (s shard[V]) find(hash uint64, key string) int {
	if len(s) == 0 {
		return -1
	}
	hash = used(hash)
	for i := s.home(hash); s[i].hash != 0; i = (i + 1) & (len(s) - 1) {
		if s[i].hash == hash && s[i].key == key {
			return i
		}
	}
	return -1
}

// findBytes is find without a copy of the key.
func (s shard[V]) findBytes(hash uint64, key []byte) int {
	if len(s) == 0 {
		return -1
	}
	hash = used(hash)
	for i := s.home(hash); s[i].hash != 0; i = (i + 1) & (len(s) - 1) {
		if s[i].hash == hash && s[i].key == string(key) {
			return i
		}
	}
	return -1
}

// put sets a value and says whether its key is new.
func (s *shard[V]) put(e slot[V]) bool {
	if i := s.find(e.hash, e.key); i >= 0 {
		(*s)[i].value = e.value
		return false
	}
	s.grow()
	s.place(e)
	return true
}

func (s shard[V]) place(e slot[V]) {
	i := s.home(e.hash)
	for s[i].hash != 0 {
		i = (i + 1) & (len(s) - 1)
	}
	s[i] = e
}

// grow makes sure that a quarter of the slots is free when there is one more key.
func (s *shard[V]) grow() {
	n := 1
	for i := range *s {
		if (*s)[i].hash != 0 {
			n++
		}
	}
	if len(*s) > 0 && n <= len(*s)*3/4 {
		return
	}
	larger := make(shard[V], max(smallest, 1<<bits.Len(uint(n+n/3))))
	for _, e := range *s {
		if e.hash != 0 {
			larger.place(e)
		}
	}
	*s = larger
}

// remove frees a slot, and moves those up that are behind it because it was taken.
func (s shard[V]) remove(i int) {
	mask := len(s) - 1
	for j := (i + 1) & mask; s[j].hash != 0; j = (j + 1) & mask {
		if (j-s.home(s[j].hash))&mask >= (j-i)&mask {
			s[i] = s[j]
			i = j
		}
	}
	s[i] = slot[V]{}
}
