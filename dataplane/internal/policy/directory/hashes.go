package directory

import (
	"encoding/binary"
	"math/bits"
)

// hashShard is a hash table of entries by their key, with open addressing and linear probing. The keyed hash is as good as
// random, so a part of it says where to look, and another part is compared before an entry is looked at: with very many
// credentials a lookup waits for memory, and this way for two places of it.
type hashShard []hashSlot

// hashSlot is free without an entry.
type hashSlot struct {
	tag uint64
	*entry
}

const smallestShard = 4

// shard says in which shard the key is. The other bytes of the hash say where there.
func (k *hashKey) shard() int { return int(k.hash[0])<<2 | int(k.hash[1])&3 }

func (k *hashKey) tag() uint64 { return binary.LittleEndian.Uint64(k.hash[2:]) }

// find returns the slot of the key, or the free one where it would be. There is one.
func (s hashShard) find(k *hashKey) int {
	tag, mask := k.tag(), len(s)-1
	i := int(tag) & mask
	for s[i].entry != nil && (s[i].tag != tag || s[i].hashKey != *k) {
		i = (i + 1) & mask
	}
	return i
}

// get returns the entry of the key, nil if there is none.
func (s hashShard) get(k *hashKey) *entry {
	if len(s) == 0 {
		return nil
	}
	return s[s.find(k)].entry
}

// set sets the entry of the key; nil removes it.
func (s *hashShard) set(k *hashKey, e *entry) {
	if e == nil {
		if len(*s) > 0 {
			s.remove(s.find(k))
		}
		return
	}
	s.grow()
	(*s)[s.find(k)] = hashSlot{k.tag(), e}
}

// grow makes sure that a quarter of the slots is free when there is one more key.
func (s *hashShard) grow() {
	n := 1
	for _, e := range *s {
		if e.entry != nil {
			n++
		}
	}
	if len(*s) > 0 && n <= len(*s)*3/4 {
		return
	}
	larger := make(hashShard, max(smallestShard, 1<<bits.Len(uint(n+n/3))))
	for _, e := range *s {
		if e.entry != nil {
			larger[larger.find(&e.hashKey)] = e
		}
	}
	*s = larger
}

// remove frees a slot, and moves those up that are behind it because it was taken.
func (s hashShard) remove(i int) {
	mask := len(s) - 1
	for j := (i + 1) & mask; s[j].entry != nil; j = (j + 1) & mask {
		if (j-int(s[j].tag))&mask >= (j-i)&mask {
			s[i] = s[j]
			i = j
		}
	}
	s[i] = hashSlot{}
}
