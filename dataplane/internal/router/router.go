// Package router finds the route of a request: host first and final, then the path, then the conditions of the routes on
// the winning path. It knows neither policies nor services; a route carries its owner's payload.
//
// A Table is immutable. A change makes a new one that shares what did not change, at a cost that depends on the change
// and not on how many routes there are. Finding a route allocates nothing. What cannot be matched because a matcher does
// not compile is closed, never given to a broader route. Called by the server; built by compile.
package router

import (
	"bytes"
	"slices"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/shardmap"
	"keyward.dev/shared/check/match"
)

// Statuses of a Result.
const (
	Found      = 200
	NotFound   = 404
	NotAllowed = 405
	Closed     = 503
)

// Request is what a route is chosen by. Host and Path are normalised.
type Request struct {
	Host, Path, Method, Query []byte
	Header                    exchange.Headers
}

// Result is what became of a request.
type Result struct {
	Status int    // Found, NotFound, NotAllowed or Closed
	Route  *Route // nil unless Found
	Prefix int    // length of the prefix that matched, if it was one
	// By is the first route that closes the host, if Closed.
	By *Closing
	// entry and depth let Allow find what NotAllowed is about.
	request *Request
	host    *host
}

// Closing says why requests cannot be matched.
type Closing struct {
	UID, Name, Reason string
}

// Table is the routes of a group. Make the first with New and others with Edit.
type Table struct {
	hosts  *shardmap.Map[*host] // exact names, and "*.parent"
	rest   *host                // routes without hosts
	closed []*Closing           // closes everything
}

// New returns a table without routes.
func New() *Table { return &Table{hosts: shardmap.New[*host](), rest: &host{}} }

// Match finds the route of r.
func (t *Table) Match(r *Request) Result {
	if len(t.closed) > 0 {
		return Result{Status: Closed, By: t.closed[0]}
	}
	h := t.host(r.Host)
	if len(h.closed) > 0 {
		return Result{Status: Closed, By: h.closed[0]}
	}
	return h.match(r)
}

// wildcard is long enough for every "*." pattern: names have at most 253 bytes.
type wildcard [256]byte

func (t *Table) host(name []byte) *host {
	if h, ok := t.hosts.GetBytes(name); ok {
		return h
	}
	return t.parent(match.Parent(name))
}

// parent finds the routes of all hosts below the name, or of any host. It is on its own so that only who comes here has
// the pattern on its stack.
//
//go:noinline
func (t *Table) parent(name []byte) *host {
	if len(name) == 0 {
		return t.rest
	}
	var buf wildcard
	if h, ok := t.hosts.GetBytes(append(append(buf[:0], "*."...), name...)); ok {
		return h
	}
	return t.rest
}

// host is the routes of one host pattern.
type host struct {
	// What a request looks at comes first.

	closed  []*Closing
	all     *entry // that of "/" if there is no other path, else nil: nobody has to look for it then
	paths   *node
	regexes []*entry // by priority, then literal prefix, then text

	spare  *place // of it, not used yet; nil: none
	owner  *owner
	routes int // how many hold a place here, closing ones included
	needs  []need
}

// place is a host with its first path.
type place struct {
	host  host
	entry entry
	node  node
}

// entry is one path; the routes on it are those the request's conditions choose among.
type entry struct {
	routes  []*Route  // more conditions first, then priority, then name
	one     [1]*Route // is where a single one is kept
	through bool      // all of its routes fall through
	text    string
	regex   *Regex
	owner   *owner
}

// match walks from the most specific path to the least specific one, and ends at the first that does not fall through.
func (h *host) match(r *Request) Result {
	exact, prefix := h.find(r.Path)
	var denied bool
	if exact != nil {
		if res, done := exact.choose(h, r, &denied); done {
			return res
		}
	}
	for _, e := range h.regexes {
		if !e.regex.Match(r.Path) {
			continue
		}
		if res, done := e.choose(h, r, &denied); done {
			return res
		}
	}
	for prefix != nil {
		res, done := prefix.choose(h, r, &denied)
		if done {
			if res.Route != nil {
				res.Prefix = len(prefix.text)
			}
			return res
		}
		_, prefix = h.paths.find(r.Path, len(prefix.text)-1)
	}
	if denied {
		return Result{Status: NotAllowed, request: r, host: h}
	}
	return Result{Status: NotFound}
}

// find returns the exact entry of path and the longest prefix entry.
func (h *host) find(path []byte) (exact, prefix *entry) {
	if h.all != nil && len(path) > 0 && path[0] == '/' {
		return nil, h.all
	}
	return h.paths.find(path, len(path))
}

// choose picks a route of the entry; done is false if the request goes on to a less specific path. denied is set when a
// route would have taken another method.
func (e *entry) choose(h *host, r *Request, denied *bool) (_ Result, done bool) {
	for _, route := range e.routes {
		if !route.holds(r) {
			continue
		}
		if !route.takes(r.Method) {
			*denied = *denied || !route.Disabled
			continue
		}
		if route.Disabled {
			return Result{Status: NotFound}, true
		}
		return Result{Status: Found, Route: route}, true
	}
	if e.through {
		return Result{}, false
	}
	if *denied {
		return Result{Status: NotAllowed, request: r, host: h}, true
	}
	return Result{Status: NotFound}, true
}

// Allow returns the methods that would have been taken, sorted, for a result that is NotAllowed.
func (res *Result) Allow() []string {
	if res.Status != NotAllowed {
		return nil
	}
	h, r := res.host, res.request
	var methods []string
	visit := func(e *entry) (more bool) {
		for _, route := range e.routes {
			if !route.Disabled && route.holds(r) {
				methods = append(methods, route.Methods...)
			}
		}
		return e.through
	}
	h.visit(r, visit)
	slices.Sort(methods)
	return slices.Compact(methods)
}

// visit calls fn with the entries that match, most specific first, while it wants more.
func (h *host) visit(r *Request, fn func(*entry) bool) {
	exact, prefix := h.find(r.Path)
	if exact != nil && !fn(exact) {
		return
	}
	for _, e := range h.regexes {
		if e.regex.Match(r.Path) && !fn(e) {
			return
		}
	}
	for prefix != nil && fn(prefix) {
		_, prefix = h.paths.find(r.Path, len(prefix.text)-1)
	}
}

// node is a node of a radix tree over the bytes of paths.
type node struct {
	owner    *owner
	label    string
	exact    *entry
	prefix   *entry
	index    []byte // first bytes of the children's labels
	children []*node
}

// all is the entry of the prefix "/" if there is no other.
func (n *node) all() *entry {
	if n == nil || n.label != "/" || n.exact != nil || len(n.children) > 0 {
		return nil
	}
	return n.prefix
}

// find returns the exact entry of path and the longest prefix entry of at most limit bytes that ends on a segment
// boundary.
func (n *node) find(path []byte, limit int) (exact, prefix *entry) {
	for at := 0; n != nil; {
		if len(path)-at < len(n.label) || string(path[at:at+len(n.label)]) != n.label {
			return nil, prefix
		}
		at += len(n.label)
		if n.prefix != nil && at <= limit && (at == len(path) || path[at] == '/' || path[at-1] == '/') {
			prefix = n.prefix
		}
		if at == len(path) {
			return n.exact, prefix
		}
		i := bytes.IndexByte(n.index, path[at])
		if i < 0 {
			return nil, prefix
		}
		n = n.children[i]
	}
	return nil, prefix
}
