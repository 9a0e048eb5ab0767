package router

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// owner marks what an Editor made itself and may still change.
type owner struct{ _ byte }

// Editor makes a new table from an old one. It is used by one goroutine and once.
type Editor struct {
	t     *Table
	hosts hostEditor
	own   *owner
	dirty map[*entry]*host
}

// hostEditor is the part of shardmap.Editor that is needed here.
type hostEditor interface {
	Get(string) (*host, bool)
	Put(string, *host)
	Delete(string)
}

// Edit begins a new table that starts as t.
func (t *Table) Edit() *Editor {
	c := &Table{rest: t.rest, closed: slices.Clone(t.closed)}
	edit := t.hosts.Edit()
	c.hosts = edit.Map()
	return &Editor{t: c, hosts: edit, own: &owner{}, dirty: map[*entry]*host{}}
}

// Table ends the edit.
func (e *Editor) Table() *Table {
	resort := map[*host]bool{}
	for entry, h := range e.dirty {
		entry.sort()
		if entry.regex != nil {
			resort[h] = true
		}
	}
	for h := range resort {
		slices.SortFunc(h.regexes, compareRegexes)
	}
	return e.t
}

// Put adds a route. One with its uid must not be there.
func (e *Editor) Put(r *Route) {
	for _, h := range e.of(r) {
		h.routes++
		h.count(r.Needs, 1)
		for _, p := range r.paths {
			e.entry(h, p, func(t *entry) { t.routes = append(t.routes, r) })
		}
	}
}

// Remove removes a route that was put.
func (e *Editor) Remove(r *Route) {
	for _, h := range e.of(r) {
		h.routes--
		h.count(r.Needs, -1)
		for _, p := range r.paths {
			e.entry(h, p, func(t *entry) {
				t.routes = slices.DeleteFunc(t.routes, func(o *Route) bool { return o.UID == r.UID })
			})
		}
	}
	e.prune(r)
}

// Close closes every host of a route whose matching is not known.
func (e *Editor) Close(r *Route, reason string) {
	for _, h := range e.of(r) {
		h.routes++
		h.closed = append(h.closed, &Closing{UID: r.UID, Name: r.Name, Reason: reason})
		sortClosings(h.closed)
	}
}

// Reopen undoes Close.
func (e *Editor) Reopen(r *Route) {
	for _, h := range e.of(r) {
		h.routes--
		h.closed = slices.DeleteFunc(h.closed, func(c *Closing) bool { return c.UID == r.UID })
	}
	e.prune(r)
}

// CloseAll closes everything for a reason that is known by uid.
func (e *Editor) CloseAll(c *Closing) {
	e.t.closed = append(e.t.closed, c)
	sortClosings(e.t.closed)
}

// ReopenAll undoes CloseAll.
func (e *Editor) ReopenAll(uid string) {
	e.t.closed = slices.DeleteFunc(e.t.closed, func(c *Closing) bool { return c.UID == uid })
}

func sortClosings(list []*Closing) {
	slices.SortFunc(list, func(a, b *Closing) int { return cmp.Compare(a.UID, b.UID) })
}

// of returns the hosts of a route, made its own.
func (e *Editor) of(r *Route) []*host {
	if len(r.hosts) == 0 {
		e.t.rest = e.ownHost(e.t.rest)
		return []*host{e.t.rest}
	}
	hosts := make([]*host, 0, len(r.hosts))
	for _, name := range r.hosts {
		h, ok := e.hosts.Get(name)
		if !ok {
			h = e.newHost()
			e.hosts.Put(name, h)
		} else if h.owner != e.own {
			h = e.ownHost(h)
			e.hosts.Put(name, h)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// newHost returns a host that has room for one path with itself: most have no more, and with very many of them a request does
// not wait for three places of memory then.
func (e *Editor) newHost() *host {
	p := &place{}
	p.host.owner, p.host.spare = e.own, p
	return &p.host
}

func (e *Editor) ownHost(h *host) *host {
	if h.owner == e.own {
		return h
	}
	c := *h
	c.spare = nil
	c.owner, c.regexes, c.closed = e.own, slices.Clone(h.regexes), slices.Clone(h.closed)
	c.needs = slices.Clone(h.needs)
	return &c
}

// prune removes hosts that nobody names any more; then the next wider pattern takes their requests.
func (e *Editor) prune(r *Route) {
	for _, name := range r.hosts {
		if h, ok := e.hosts.Get(name); ok && h.routes == 0 {
			e.hosts.Delete(name)
		}
	}
}

// entry changes the entry of a path, which is made if need be and removed when it is left empty.
func (e *Editor) entry(h *host, p path, change func(*entry)) {
	if p.regex != nil {
		e.regexEntry(h, p, change)
		return
	}
	set := func(n *node) {
		slot := &n.prefix
		if p.exact {
			slot = &n.exact
		}
		*slot = e.change(h, *slot, p, change)
	}
	if spare := h.spare; spare != nil && h.paths == nil {
		h.spare = nil
		spare.node = node{owner: e.own, label: p.text, prefix: &spare.entry}
		spare.entry = entry{owner: e.own, text: p.text}
		if p.exact {
			spare.node.exact, spare.node.prefix = &spare.entry, nil
		}
		set(&spare.node)
		h.paths = spare.node.tidy()
	} else {
		h.paths = e.insert(h.paths, p.text, set)
	}
	h.all = h.paths.all()
}

func (e *Editor) regexEntry(h *host, p path, change func(*entry)) {
	i := slices.IndexFunc(h.regexes, func(t *entry) bool { return t.text == p.text })
	var old *entry
	if i >= 0 {
		old = h.regexes[i]
	}
	t := e.change(h, old, p, change)
	switch {
	case t == nil && i >= 0:
		h.regexes = slices.Delete(h.regexes, i, i+1)
	case t != nil && i >= 0:
		h.regexes[i] = t
	case t != nil:
		h.regexes = append(h.regexes, t)
	}
}

// change returns the changed entry, nil if it is left without routes.
func (e *Editor) change(h *host, t *entry, p path, change func(*entry)) *entry {
	switch {
	case t == nil:
		t = &entry{owner: e.own, text: p.text, regex: p.regex}
	case t.owner != e.own:
		c := *t
		c.owner = e.own
		c.keep(slices.Clone(t.routes))
		t = &c
	}
	change(t)
	t.keep(t.routes)
	switch {
	case len(t.routes) == 0:
		delete(e.dirty, t)
		return nil
	case len(t.routes) == 1 && t.regex == nil: // as nearly all are
		t.through = t.routes[0].through
	default:
		e.dirty[t] = h
	}
	return t
}

// keep makes routes those of the entry; a single one lies in it, so that a request does not wait for another line of memory.
func (t *entry) keep(routes []*Route) {
	if len(routes) == 1 {
		t.one[0] = routes[0]
		routes = t.one[:]
	} else {
		t.one[0] = nil
	}
	t.routes = routes
}

// sort brings the routes in order. The entry falls through only if all of them say so.
func (t *entry) sort() {
	slices.SortFunc(t.routes, func(a, b *Route) int { return cmp.Or(a.order.Compare(b.order), cmp.Compare(a.UID, b.UID)) })
	t.through = !slices.ContainsFunc(t.routes, func(r *Route) bool { return !r.through })
}

func (t *entry) priority() int32 {
	p := t.routes[0].order.Priority
	for _, r := range t.routes {
		p = max(p, r.order.Priority)
	}
	return p
}

func compareRegexes(a, b *entry) int {
	return cmp.Or(cmp.Compare(b.priority(), a.priority()), cmp.Compare(len(b.regex.literal), len(a.regex.literal)),
		cmp.Compare(a.text, b.text))
}

// insert returns the tree with the node of key changed; nodes on the way are copied unless they are the editor's own.
// Nodes that are left empty are dropped or merged.
func (e *Editor) insert(n *node, key string, change func(*node)) *node {
	if n == nil {
		n = &node{owner: e.own, label: key}
		change(n)
		return n.tidy()
	}
	n = e.ownNode(n)
	common := commonPrefix(n.label, key)
	if common < len(n.label) {
		n = e.split(n, common)
	}
	if common == len(key) {
		change(n)
		return n.tidy()
	}
	rest := key[common:]
	i := bytes.IndexByte(n.index, rest[0])
	var child *node
	if i >= 0 {
		child = n.children[i]
	}
	child = e.insert(child, rest, change)
	switch {
	case child == nil && i >= 0:
		n.index, n.children = slices.Delete(n.index, i, i+1), slices.Delete(n.children, i, i+1)
	case child != nil && i >= 0:
		n.children[i] = child
	case child != nil:
		n.index, n.children = append(n.index, rest[0]), append(n.children, child)
	}
	return n.tidy()
}

func (e *Editor) ownNode(n *node) *node {
	if n.owner == e.own {
		return n
	}
	c := *n
	c.owner, c.index, c.children = e.own, slices.Clone(n.index), slices.Clone(n.children)
	return &c
}

// split puts a node above n for the first at bytes of its label.
func (e *Editor) split(n *node, at int) *node {
	top := &node{owner: e.own, label: n.label[:at], index: []byte{n.label[at]}, children: []*node{n}}
	n.label = strings.Clone(n.label[at:])
	return top
}

// tidy drops a node without content and merges one that only leads to its child.
func (n *node) tidy() *node {
	if n.exact != nil || n.prefix != nil || len(n.children) > 1 {
		return n
	}
	if len(n.children) == 0 {
		return nil
	}
	child := *n.children[0]
	child.label = n.label + child.label
	child.owner = nil // its slices are shared with the node it was copied from
	return &child
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
