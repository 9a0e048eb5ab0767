package balance

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// point is a place on the ring, and the member that owns the keys before it.
type point struct {
	at    uint64
	index int32
}

const (
	// pointsPerMember is how many places a member of average weight has: the more, the more even the shares.
	pointsPerMember = 160
	maxPoints       = 1 << 16
)

// newRing places the members on a ring, the same on every gateway: keys stay where they are when others come and go.
func newRing(members []Member) []point {
	var sum, n int
	for _, m := range members {
		if m.Weight > 0 {
			sum += m.Weight
			n++
		}
	}
	if n == 0 {
		return nil
	}
	points := min(n*pointsPerMember, max(maxPoints, n))
	var ring []point
	for i, m := range members {
		if m.Weight <= 0 {
			continue
		}
		places := max(1, int(int64(points)*int64(m.Weight)/int64(sum)))
		key := append([]byte(m.address), 0, 0, 0, 0)
		for k := range places {
			binary.BigEndian.PutUint32(key[len(m.address):], uint32(k))
			ring = append(ring, point{Hash(key), int32(i)})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index)) })
	return ring
}

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
