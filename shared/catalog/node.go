package catalog

import (
	"strconv"
	"strings"
)

// node is a document as a tree, the same for YAML and JSON.
type node struct {
	kind nodeKind
	// text of a scalar: of a string its value, of anything else as it was written.
	text string
	// items of a list.
	items []*node
	// entries of a mapping, in order; duplicates are kept, so that the decoder can name them.
	entries []entry
	// line and col from 1; 0 in trees that were not read from text.
	line, col int
}

type entry struct {
	key  *node // of any kind; only strings are legal
	node *node
}

type nodeKind uint8

const (
	kindNull nodeKind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindTime // a string to everybody but YAML 1.1
	kindList
	kindMap
)

func (k nodeKind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindBool:
		return "true or false"
	case kindInt, kindFloat:
		return "a number"
	case kindString, kindTime:
		return "a string"
	case kindList:
		return "a list"
	default:
		return "a mapping"
	}
}

func (n *node) isString() bool { return n.kind == kindString || n.kind == kindTime }

// get returns the first value of a key of a mapping, nil if there is none.
func (n *node) get(key string) *node {
	if n == nil || n.kind != kindMap {
		return nil
	}
	for _, e := range n.entries {
		if e.key.isString() && e.key.text == key {
			return e.node
		}
	}
	return nil
}

// set replaces or adds a value of a mapping.
func (n *node) set(key string, value *node) {
	for i, e := range n.entries {
		if e.key.text == key {
			n.entries[i].node = value
			return
		}
	}
	n.entries = append(n.entries, entry{key: &node{kind: kindString, text: key}, node: value})
}

// follow returns the node at a path, or the nearest one around it, and the path as the document wrote it: a part that a
// short form leaves out — the `[0]` of a single value, the `.prefix` of a bare path — is left out there, too.
func (n *node) follow(path string) (at *node, written string) {
	at = n
	for path != "" {
		step, rest := firstStep(path)
		next := at.step(step)
		switch {
		case next != nil:
			at = next
		case at.kind == kindMap, at.kind == kindList && step[0] == '[', at.kind == kindNull:
			return at, written + path // not in the document
		default:
			path = rest
			continue
		}
		written += step
		path = rest
	}
	return at, strings.TrimPrefix(written, ".")
}

// firstStep splits `.name`, `[0]` or `["key"]` off a path.
func firstStep(path string) (step, rest string) {
	if quoted, err := strconv.QuotedPrefix(path[1:]); path[0] == '[' && err == nil {
		n := min(len(path), len(quoted)+2)
		return path[:n], path[n:]
	}
	if i := strings.IndexAny(path[1:], ".["); i >= 0 {
		return path[:i+1], path[i+1:]
	}
	return path, ""
}

// step returns the child that a step leads to, nil if there is none.
func (n *node) step(step string) *node {
	inner, index := strings.CutPrefix(step, "[")
	if !index {
		return n.get(strings.TrimPrefix(step, "."))
	}
	inner = strings.TrimSuffix(inner, "]")
	if key, err := strconv.Unquote(inner); err == nil {
		return n.get(key)
	}
	i, err := strconv.Atoi(inner)
	if err != nil || n.kind != kindList || i < 0 || i >= len(n.items) {
		return nil
	}
	return n.items[i]
}
