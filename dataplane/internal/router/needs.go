package router

import "slices"

// need is how many routes of a host ask for the same of a connection.
type need struct {
	key    string
	routes int
}

// Needs returns what routes of a host ask of connections, sorted. Common: all of them ask for the same. The host is that of a
// request or a server name, in lower case.
func (t *Table) Needs(name []byte) (keys []string, common bool) {
	h := t.host(name)
	for _, n := range h.needs {
		keys = append(keys, n.key)
	}
	return keys, len(h.needs) == 1 && h.needs[0].routes == h.routes
}

// SameNeeds reports whether two hosts ask for the same of a connection. It allocates nothing.
func (t *Table) SameNeeds(a, b []byte) bool {
	x, y := t.host(a), t.host(b)
	if x == y || len(x.needs)+len(y.needs) == 0 {
		return true
	}
	common := func(h *host) bool { return len(h.needs) == 1 && h.needs[0].routes == h.routes }
	return common(x) == common(y) && slices.EqualFunc(x.needs, y.needs, func(m, n need) bool { return m.key == n.key })
}

// count adds to the routes that ask for something; the host is the editor's own.
func (h *host) count(key string, n int) {
	if key == "" {
		return
	}
	i, ok := slices.BinarySearchFunc(h.needs, key, func(m need, key string) int {
		switch {
		case m.key < key:
			return -1
		case m.key > key:
			return 1
		}
		return 0
	})
	if !ok {
		h.needs = slices.Insert(h.needs, i, need{key: key})
	}
	if h.needs[i].routes += n; h.needs[i].routes == 0 {
		h.needs = slices.Delete(h.needs, i, i+1)
	}
}
