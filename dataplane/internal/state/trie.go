package state

import "iter"

const (
	trieBits   = 5
	trieWidth  = 1 << trieBits
	trieLevels = (64 + trieBits - 1) / trieBits
)

// trie is a persistent map from string to *Record: a hash trie whose versions share everything that did not change, so
// that a change of one record to a set of a hundred thousand copies four short arrays. The zero value is empty. Its shape,
// and so its order, depends only on its contents and the hash.
type trie struct {
	hash func(string) uint64
	root *trieNode
	len  int
}

// trieNode is a branch, or below the last level a list of keys with one hash. It is immutable once the edit that owns it
// is over.
type trieNode struct {
	owner *edit
	used  uint32
	slots []trieSlot
}

type trieSlot struct {
	key    string
	record *Record
	child  *trieNode
}

// edit marks the nodes made during one change, which may still be changed in place. It must not be of size zero: the
// addresses of two such values may be equal.
type edit struct{ _ byte }

func newTrie(hash func(string) uint64) trie { return trie{hash: hash} }

func (t trie) get(key string) *Record {
	h := t.hash(key)
	n := t.root
	for level := 0; n != nil; level++ {
		if level == trieLevels {
			return n.scan(key)
		}
		i, ok := n.index(h, level)
		if !ok {
			return nil
		}
		s := &n.slots[i]
		if s.child == nil {
			if s.key == key {
				return s.record
			}
			return nil
		}
		n = s.child
	}
	return nil
}

func (n *trieNode) scan(key string) *Record {
	for i := range n.slots {
		if n.slots[i].key == key {
			return n.slots[i].record
		}
	}
	return nil
}

// with returns the trie with the record under the key.
func (t trie) with(e *edit, key string, r *Record) trie {
	root, added := t.put(e, t.root, 0, t.hash(key), trieSlot{key: key, record: r})
	t.root = root
	if added {
		t.len++
	}
	return t
}

func (t trie) put(e *edit, n *trieNode, level int, h uint64, s trieSlot) (*trieNode, bool) {
	n = n.editable(e)
	if level == trieLevels {
		for i := range n.slots {
			if n.slots[i].key == s.key {
				n.slots[i] = s
				return n, false
			}
		}
		n.slots = append(n.slots, s)
		return n, true
	}
	i, ok := n.index(h, level)
	if !ok {
		n.insert(i, bit(h, level), s)
		return n, true
	}
	old := n.slots[i]
	if old.child == nil && old.key == s.key {
		n.slots[i] = s
		return n, false
	}
	child := old.child
	if child == nil {
		child, _ = t.put(e, nil, level+1, t.hash(old.key), old)
	}
	child, added := t.put(e, child, level+1, h, s)
	n.slots[i] = trieSlot{child: child}
	return n, added
}

// without returns the trie without the key.
func (t trie) without(e *edit, key string) trie {
	root, removed := t.cut(e, t.root, 0, t.hash(key), key)
	if !removed {
		return t
	}
	t.root = root
	t.len--
	return t
}

func (t trie) cut(e *edit, n *trieNode, level int, h uint64, key string) (*trieNode, bool) {
	if n == nil {
		return nil, false
	}
	i, ok := n.find(h, level, key)
	if !ok {
		return n, false
	}
	if s := n.slots[i]; s.child != nil {
		child, removed := t.cut(e, s.child, level+1, h, key)
		if !removed {
			return n, false
		}
		n = n.editable(e)
		if len(child.slots) == 1 && child.slots[0].child == nil {
			n.slots[i] = child.slots[0] // a single key moves up: one shape for one content
		} else {
			n.slots[i] = trieSlot{child: child}
		}
		return n, true
	}
	if len(n.slots) == 1 {
		return nil, true
	}
	n = n.editable(e)
	if level < trieLevels {
		n.used &^= bit(h, level)
	}
	n.slots = append(n.slots[:i], n.slots[i+1:]...)
	return n, true
}

// find returns the slot that holds the key or leads to it.
func (n *trieNode) find(h uint64, level int, key string) (int, bool) {
	if level == trieLevels {
		for i := range n.slots {
			if n.slots[i].key == key {
				return i, true
			}
		}
		return 0, false
	}
	i, ok := n.index(h, level)
	if !ok {
		return 0, false
	}
	return i, n.slots[i].child != nil || n.slots[i].key == key
}

func (n *trieNode) editable(e *edit) *trieNode {
	switch {
	case n == nil:
		return &trieNode{owner: e}
	case n.owner == e:
		return n
	}
	c := &trieNode{owner: e, used: n.used, slots: make([]trieSlot, len(n.slots), len(n.slots)+1)}
	copy(c.slots, n.slots)
	return c
}

func (n *trieNode) insert(i int, b uint32, s trieSlot) {
	n.used |= b
	n.slots = append(n.slots, trieSlot{})
	copy(n.slots[i+1:], n.slots[i:])
	n.slots[i] = s
}

func (n *trieNode) each(yield func(*Record) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.slots {
		s := &n.slots[i]
		if s.child == nil && !yield(s.record) || s.child != nil && !s.child.each(yield) {
			return false
		}
	}
	return true
}

func (t trie) all() iter.Seq[*Record] {
	return func(yield func(*Record) bool) { t.root.each(yield) }
}
