package catalog

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Export writes the resources of a group as a file that Decode reads and that changes nothing when it is applied again:
// settings first, owned resources inside their owner, everything by name, short forms, no defaults, no secrets.
func (c *Catalog) Export(w io.Writer, group string, resources []proto.Message, contentType string) error {
	byKind := map[string][]proto.Message{}
	for _, m := range resources {
		k, ok := c.KindOf(m)
		if !ok {
			return fmt.Errorf("export: %s is no kind of resource", m.ProtoReflect().Descriptor().FullName())
		}
		byKind[k.Name] = append(byKind[k.Name], m)
	}
	root := &node{kind: kindMap}
	root.set(groupKey, &node{kind: kindString, text: group})
	for _, k := range c.exportOrder() {
		if len(byKind[k.Name]) == 0 {
			continue
		}
		list, err := c.exportKind(k, byKind)
		if err != nil {
			return fmt.Errorf("export %s: %w", k.Name, err)
		}
		root.set(k.Name, list)
	}
	if _, err := w.Write(render(root, contentType)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// exportOrder puts what is referred to before what refers to it, as people write files.
func (c *Catalog) exportOrder() []*Kind {
	var order []*Kind
	var visit func(k *Kind)
	visit = func(k *Kind) {
		if slices.Contains(order, k) || k.Parent != "" {
			return
		}
		for _, f := range c.shapes[k.Type.Descriptor().FullName()].fields {
			if target := c.kinds[f.reference]; target != nil && target != k {
				visit(target)
			}
		}
		order = append(order, k)
	}
	kinds := c.Kinds()
	slices.SortStableFunc(kinds, func(a, b *Kind) int { return c.order(a.Name) - c.order(b.Name) })
	// Kinds that refer to others come first in the walk, so that routes stand right behind services.
	slices.SortStableFunc(kinds, func(a, b *Kind) int {
		return boolInt(!a.Singleton && !c.refers(a)) - boolInt(!b.Singleton && !c.refers(b))
	})
	for _, k := range kinds {
		visit(k)
	}
	return order
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// refers reports whether a kind has a field that names resources of another kind.
func (c *Catalog) refers(k *Kind) bool {
	return slices.ContainsFunc(c.shapes[k.Type.Descriptor().FullName()].fields, func(f *field) bool { return f.reference != "" })
}

func (c *Catalog) exportKind(k *Kind, byKind map[string][]proto.Message) (*node, error) {
	resources := byKind[k.Name]
	slices.SortFunc(resources, func(a, b proto.Message) int { return strings.Compare(k.NameOf(a), k.NameOf(b)) })
	if k.Singleton {
		return c.exportOne(resources[0], "")
	}
	owned := map[*Kind]map[string][]proto.Message{}
	for _, o := range c.owned[k.Name] {
		owned[o] = map[string][]proto.Message{}
		for _, m := range byKind[o.Name] {
			owned[o][o.ParentOf(m)] = append(owned[o][o.ParentOf(m)], m)
		}
	}
	list := &node{kind: kindList}
	for _, m := range resources {
		n, err := c.exportOne(m, k.ParentField)
		if err != nil {
			return nil, err
		}
		for _, o := range c.owned[k.Name] {
			if mine := owned[o][k.NameOf(m)]; len(mine) > 0 {
				inner, err := c.exportKind(o, map[string][]proto.Message{o.Name: mine})
				if err != nil {
					return nil, err
				}
				n.set(o.Name, inner)
			}
		}
		list.items = append(list.items, n)
	}
	return list, nil
}

// exportOne writes one resource, without the field that its place says.
func (c *Catalog) exportOne(m proto.Message, without string) (*node, error) {
	n, err := c.tree(m, EncodeOptions{OmitDefaults: true, ShortForms: true, WithoutOutputOnly: true})
	if err != nil {
		return nil, err
	}
	if n.kind == kindMap && without != "" {
		n.entries = slices.DeleteFunc(n.entries, func(e entry) bool { return e.key.text == without })
	}
	return n, nil
}
