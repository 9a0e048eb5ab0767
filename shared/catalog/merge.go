package catalog

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"keyward.dev/shared/problem"
)

// Patch applies a JSON Merge Patch (RFC 7396) to the normalised document of a stored resource and reads the result.
// A secret that the patch does not mention is kept, one that it sets to null is cleared. Output-only fields stay as they
// are unless the patch writes them.
func (c *Catalog) Patch(stored proto.Message, patch []byte, place Place) (*Item, []problem.Violation) {
	k, ok := c.KindOf(stored)
	if !ok {
		return nil, []problem.Violation{{Reason: "this is no kind of resource", Code: problem.NotFound}}
	}
	p, syntax := parse(patch, JSON)
	if syntax != nil {
		return nil, []problem.Violation{syntax.violation()}
	}
	if p.kind != kindMap {
		return nil, []problem.Violation{{Reason: fmt.Sprintf("a patch is an object, found %s", p.kind), Code: problem.Malformed}}
	}
	base, err := c.tree(stored, EncodeOptions{WithoutOutputOnly: true})
	if err != nil {
		return nil, []problem.Violation{{Reason: "the stored resource cannot be patched", Code: problem.Internal}}
	}
	before := &decoder{cat: c}
	before.patchKeys(p, "")
	if len(before.violations) > 0 {
		return nil, problem.Sort(before.violations)
	}
	merged := c.merge(base, p, c.shapes[k.Type.Descriptor().FullName()])
	return c.decodeTree(k, merged, place)
}

// merge is MergePatch of RFC 7396, section 2, with one addition: null for a secret stays in the tree, where the decoder
// takes it as the wish to clear; removed, it would mean to keep. A secret is replaced whole. s is nil where no message
// is known.
func (c *Catalog) merge(base, patch *node, s *shape) *node {
	if patch.kind != kindMap {
		return patch
	}
	out := &node{kind: kindMap, line: patch.line, col: patch.col}
	if base != nil && base.kind == kindMap {
		out.entries = slices.Clone(base.entries)
	}
	for _, e := range patch.entries {
		var f *field
		if s != nil {
			f = s.byName[e.key.text]
		}
		secret := f != nil && f.what == isSecret
		switch {
		case e.node.kind == kindNull && !secret:
			out.entries = slices.DeleteFunc(out.entries, func(o entry) bool { return o.key.text == e.key.text })
		case secret && !f.fd.IsMap():
			out.set(e.key.text, e.node)
		default:
			out.set(e.key.text, c.merge(out.get(e.key.text), e.node, c.inner(f, s, base, patch)))
		}
	}
	return out
}

// inner returns the shape of what a field holds, nil where that is no single message.
func (c *Catalog) inner(f *field, s *shape, base, patch *node) *shape {
	switch {
	case f == nil || f.fd.IsList() || f.fd.IsMap():
		return nil
	case f.what == isMessage:
		return c.shapes[f.fd.Message().FullName()]
	case f.what == isAny:
		word := base.get(s.typeField.name)
		if w := patch.get(s.typeField.name); w != nil {
			word = w
		}
		if word != nil {
			if mt := c.configType(s.md.FullName(), word.text); mt != nil {
				return c.shapes[mt.Descriptor().FullName()]
			}
		}
	}
	return nil
}

// patchKeys tells keys that stand twice anywhere in a patch; merged, the second would win unseen.
func (d *decoder) patchKeys(n *node, path string) {
	seen := map[string]bool{}
	for _, e := range n.entries {
		if key, ok := d.key(e.key, path, seen); ok {
			d.patchKeys(e.node, problem.Key(path, key))
		}
	}
	for i, item := range n.items {
		d.patchKeys(item, problem.Index(path, i))
	}
}
