package balance

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// point is a place on the ring, and the member that owns the keys before it.
type point struct {
	at    uint64
	index int32
}

const (
	// mostPlaces is how many places the heaviest member may have: the more, the more even the shares.
	mostPlaces = 256
	maxPoints  = 1 << 16
)

// newRing places the members on a ring, the same on every gateway. How many places one has depends as little as possible
// on the others, so that keys stay where they are when others come and go.
func newRing(members []Member) []point {
	heaviest, n := 0, 0
	for _, m := range members {
		if m.Weight > 0 {
			heaviest = max(heaviest, m.Weight)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	most := min(mostPlaces, max(maxPoints/roundUp(n), 1))
	var ring []point
	for i, m := range members {
		if m.Weight <= 0 {
			continue
		}
		key := append([]byte(m.address), 0, 0, 0, 0)
		for k := range max(1, most*m.Weight/roundUp(heaviest)) {
			binary.BigEndian.PutUint32(key[len(m.address):], uint32(k))
			ring = append(ring, point{Hash(key), int32(i)})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index)) })
	return ring
}

// roundUp returns the next power of two.
func roundUp(n int) int { return 1 << bits.Len(uint(n-1)) }

// owner returns the first member after the key's place that is up and was not tried. So only the keys of a target that
// is down go elsewhere, and come back with it.
func (s *Set) owner(c *choice, now int64, hash uint64, tried *Tried) int {
	start, _ := slices.BinarySearchFunc(s.ring, hash, func(p point, h uint64) int { return cmp.Compare(p.at, h) })
	first := -1
	for k := range s.ring {
		i := int(s.ring[(start+k)%len(s.ring)].index)
		if !c.panic && !s.members[i].Up(now) {
			continue
		}
		if !tried.has(i) {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	if first < 0 {
		return c.from[0].index // all went down just now
	}
	return first
}

// Hash is the hash of keys and targets: the same in all processes, without a secret.
func Hash(b []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset) // FNV-1a, whose high bits need mixing
	for _, c := range b {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
