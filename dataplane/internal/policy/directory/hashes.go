package directory

import (
	"encoding/binary"
	"math/bits"
)

// hashShard is a hash table of entries by their key, with open addressing and linear probing. The keyed hash is as good as
// random, so a part of it says where to look, and another part is compared before an entry is looked at: with very many
// credentials a lookup waits for memory, and this way for two places of it.
type hashShard struct {
	slots []hashSlot
	keys  int
}

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
func (s *hashShard) find(k *hashKey) int {
	slots, tag, mask := s.slots, k.tag(), len(s.slots)-1
	i := int(tag) & mask
	for slots[i].entry != nil && (slots[i].tag != tag || slots[i].hashKey != *k) {
		i = (i + 1) & mask
	}
	return i
}

// get returns the entry of the key, nil if there is none.
func (s *hashShard) get(k *hashKey) *entry {
	if len(s.slots) == 0 {
		return nil
	}
	return s.slots[s.find(k)].entry
}

// set sets the entry of the key; nil removes it. expected is how many keys there will be, if that is known.
func (s *hashShard) set(k *hashKey, e *entry, expected int) {
	if e == nil {
		if len(s.slots) > 0 {
			s.remove(s.find(k))
		}
		return
	}
	s.grow(max(s.keys+1, expected))
	slot := &s.slots[s.find(k)]
	if slot.entry == nil {
		s.keys++
	}
	*slot = hashSlot{k.tag(), e}
}

// grow makes sure that a quarter of the slots is free when there are so many keys.
func (s *hashShard) grow(keys int) {
	if len(s.slots) > 0 && keys <= len(s.slots)*3/4 {
		return
	}
	larger := hashShard{slots: make([]hashSlot, max(smallestShard, 1<<bits.Len(uint(keys+keys/3)))), keys: s.keys}
	for _, e := range s.slots {
		if e.entry != nil {
			larger.slots[larger.find(&e.hashKey)] = e
		}
	}
	*s = larger
}

// remove frees a slot, and moves those up that are behind it because it was taken.
func (s *hashShard) remove(i int) {
	slots, mask := s.slots, len(s.slots)-1
	if slots[i].entry == nil {
		return
	}
	s.keys--
	for j := (i + 1) & mask; slots[j].entry != nil; j = (j + 1) & mask {
		if (j-int(slots[j].tag))&mask >= (j-i)&mask {
			slots[i] = slots[j]
			i = j
		}
	}
	slots[i] = hashSlot{}
}
