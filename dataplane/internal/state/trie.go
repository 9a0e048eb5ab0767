package state

import "iter"

const (
	trieBits   = 5
	trieWidth  = 1 << trieBits
	trieLevels = (64 + trieBits - 1) / trieBits
)

// trie is a persistent map of records by a key that they hold: a hash trie whose versions share everything that did not
// change, so that a change of one record to a set of a hundred thousand copies four short arrays. The zero value is empty.
// Its shape, and so its order, depends only on its contents and the hash.
type trie struct {
	key  func(*Record) string
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

// trieSlot has either a record or a child. The key is not in it: there are two slots for each of up to a million records.
type trieSlot struct {
	record *Record
	child  *trieNode
}

// edit marks the nodes made during one change, which may still be changed in place. It must not be of size zero: the
// addresses of two such values may be equal.
type edit struct{ _ byte }

func newTrie(key func(*Record) string, hash func(string) uint64) trie {
	return trie{key: key, hash: hash}
}

func (t trie) get(key string) *Record {
	h := t.hash(key)
	n := t.root
	for level := 0; n != nil; level++ {
		if level == trieLevels {
			if i := t.scan(n, key); i >= 0 {
				return n.slots[i].record
			}
			return nil
		}
		i, ok := n.index(h, level)
		if !ok {
			return nil
		}
		s := &n.slots[i]
		if s.child == nil {
			if t.key(s.record) == key {
				return s.record
			}
			return nil
		}
		n = s.child
	}
	return nil
}

// scan returns where in a list of keys with one hash the key is, -1 if it is not there.
func (t trie) scan(n *trieNode, key string) int {
	for i := range n.slots {
		if t.key(n.slots[i].record) == key {
			return i
		}
	}
	return -1
}

// add puts the record under its key and returns the one that was there, nil if none was.
func (t *trie) add(e *edit, r *Record) (replaced *Record) {
	t.root, replaced = t.put(e, t.root, 0, t.hash(t.key(r)), r)
	if replaced == nil {
		t.len++
	}
	return replaced
}

func (t *trie) put(e *edit, n *trieNode, level int, h uint64, r *Record) (_ *trieNode, replaced *Record) {
	n = n.editable(e)
	if level == trieLevels {
		if i := t.scan(n, t.key(r)); i >= 0 {
			replaced, n.slots[i].record = n.slots[i].record, r
			return n, replaced
		}
		n.slots = append(n.slots, trieSlot{record: r})
		return n, nil
	}
	i, ok := n.index(h, level)
	if !ok {
		n.insert(i, bit(h, level), trieSlot{record: r})
		return n, nil
	}
	old := n.slots[i]
	if old.child == nil && t.key(old.record) == t.key(r) {
		n.slots[i].record = r
		return n, old.record
	}
	child := old.child
	if child == nil {
		child, _ = t.put(e, nil, level+1, t.hash(t.key(old.record)), old.record)
	}
	child, replaced = t.put(e, child, level+1, h, r)
	n.slots[i] = trieSlot{child: child}
	return n, replaced
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
	i, ok := t.find(n, h, level, key)
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
func (t trie) find(n *trieNode, h uint64, level int, key string) (int, bool) {
	if level == trieLevels {
		i := t.scan(n, key)
		return i, i >= 0
	}
	i, ok := n.index(h, level)
	if !ok {
		return 0, false
	}
	return i, n.slots[i].child != nil || t.key(n.slots[i].record) == key
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
