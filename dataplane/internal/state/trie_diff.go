package state

import "math/bits"

func bit(h uint64, level int) uint32 { return 1 << (h >> (level * trieBits) & (trieWidth - 1)) }

// index returns where the hash's slot is or would be.
func (n *trieNode) index(h uint64, level int) (int, bool) {
	b := bit(h, level)
	return bits.OnesCount32(n.used & (b - 1)), n.used&b != 0
}

// diff yields (old, new) for every uid whose record differs, in tries by uid; nil where there is none. Shared nodes are not entered, so it
// costs as much as there are changes.
func diff(a, b *trieNode, level int, yield func(a, b *Record) bool) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || level == trieLevels {
		return diffAll(trieSlot{child: a}, trieSlot{child: b}, yield)
	}
	for used := a.used | b.used; used != 0; used &= used - 1 {
		next := used & -used
		x, y := a.slot(next), b.slot(next)
		var more bool
		if x.child != nil && y.child != nil {
			more = diff(x.child, y.child, level+1, yield)
		} else {
			more = diffAll(x, y, yield)
		}
		if !more {
			return false
		}
	}
	return true
}

func (n *trieNode) slot(b uint32) trieSlot {
	if n.used&b == 0 {
		return trieSlot{}
	}
	return n.slots[bits.OnesCount32(n.used&(b-1))]
}

// diffAll compares two places of different shape, of which at most one is large: the other has been there for one key.
func diffAll(x, y trieSlot, yield func(a, b *Record) bool) bool {
	old := make(map[string]*Record)
	x.each(func(r *Record) bool { old[r.UID] = r; return true })
	more := y.each(func(r *Record) bool {
		before := old[r.UID]
		delete(old, r.UID)
		return before == r || yield(before, r)
	})
	if !more {
		return false
	}
	return x.each(func(r *Record) bool {
		_, left := old[r.UID]
		return !left || yield(r, nil)
	})
}

func (s trieSlot) each(yield func(*Record) bool) bool {
	switch {
	case s.record != nil:
		return yield(s.record)
	case s.child == nil:
		return true
	}
	for _, c := range s.child.slots {
		if !c.each(yield) {
			return false
		}
	}
	return true
}
