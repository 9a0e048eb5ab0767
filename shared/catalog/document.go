package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/shared/problem"
)

// Document is a file as people write it, read.
type Document struct {
	// Group the file says it is for, empty if it does not.
	Group string
	// Items are its resources in order: settings first, owners before what they own.
	Items []Item
	// Kinds are the kinds that the file speaks of, also with an empty list.
	Kinds []string

	root *node
}

// Item is one resource of a document.
type Item struct {
	Kind string
	// Name is the stored name: of a credential "consumer/name", of the settings "settings".
	Name string
	// Parent is the name of the owner, empty for none.
	Parent string
	// Message holds what was written and nothing else: no defaults (see Normalize), and output-only fields if they were
	// written, for admission to compare.
	Message proto.Message
	// Path is the place in the document, e.g. `consumers[0].credentials[1]`; empty for a document of one resource.
	Path string
	// Clears are the paths, relative to the resource, of secrets written as null.
	Clears []string

	root *node // of a document of one resource
}

// Place says where a single resource is written, as an API path does. What the body says must agree with it.
type Place struct {
	Parent, Name string
}

// groupKey is the one key of a file that is not a kind.
const groupKey = "group"

// Decode reads a file. The document is returned with whatever could be read even if there are violations, so that
// admission can tell its own at the same time; without a tree at all it is nil.
func (c *Catalog) Decode(body []byte, contentType string) (*Document, []problem.Violation) {
	root, err := parse(body, contentType)
	if err != nil {
		return nil, []problem.Violation{err.violation()}
	}
	d := &decoder{cat: c}
	doc := &Document{root: root}
	d.document(root, doc)
	d.repeatedNames(doc)
	return doc, doc.Locate(problem.Sort(d.violations))
}

func (d *decoder) document(root *node, doc *Document) {
	if root.kind != kindMap {
		d.fail(root, "", fmt.Sprintf("expected a mapping with %s and kinds of resources, found %s", groupKey, root.kind))
		return
	}
	seen := map[string]bool{}
	lists := map[string]*node{}
	for _, e := range root.entries {
		key, ok := d.key(e.key, "", seen)
		if !ok {
			continue
		}
		if key == groupKey {
			doc.Group = d.group(e.node)
			continue
		}
		if _, ok := d.cat.kinds[key]; !ok {
			known := append(slices.Sorted(maps.Keys(d.cat.kinds)), groupKey)
			d.fail(e.key, problem.Key("", key), fmt.Sprintf("unknown kind%s (known: %s)", suggest(key, known), strings.Join(known, ", ")))
			continue
		}
		lists[key] = e.node
	}
	kinds := map[string]bool{}
	for _, k := range d.cat.Kinds() {
		if n := lists[k.Name]; n != nil {
			kinds[k.Name] = true
			d.kind(doc, k, n, kinds)
		}
	}
	doc.Kinds = slices.Sorted(maps.Keys(kinds))
	slices.SortStableFunc(doc.Items, func(a, b Item) int { return d.cat.order(a.Kind) - d.cat.order(b.Kind) })
}

// order puts settings first and owners before what they own.
func (c *Catalog) order(kind string) int {
	k := c.kinds[kind]
	if k.Singleton {
		return 0
	}
	return 1 + c.depth(k)
}

func (d *decoder) group(n *node) string {
	if !n.isString() {
		d.fail(n, groupKey, fmt.Sprintf("expected a string, found %s; put it in quotes", n.kind))
		return ""
	}
	if !ValidName(n.text) {
		d.fail(n, groupKey, fmt.Sprintf("%s is not a name", quote(n.text)))
	}
	return n.text
}

// kind reads the value of a top-level key: one mapping for a singleton, else a list of resources.
func (d *decoder) kind(doc *Document, k *Kind, n *node, kinds map[string]bool) {
	if k.Singleton {
		doc.Items = append(doc.Items, d.resource(doc, k, n, k.Name, Place{}, kinds))
		return
	}
	d.resources(doc, k, n, k.Name, "", kinds)
}

func (d *decoder) resources(doc *Document, k *Kind, n *node, path, parent string, kinds map[string]bool) {
	if n.kind != kindList {
		d.fail(n, path, fmt.Sprintf("expected a list, found %s", n.kind))
		return
	}
	for i, item := range n.items {
		doc.Items = append(doc.Items, d.resource(doc, k, item, problem.Index(path, i), Place{Parent: parent}, kinds))
	}
}

// resource reads one resource and what is nested in it.
func (d *decoder) resource(doc *Document, k *Kind, n *node, path string, place Place, kinds map[string]bool) Item {
	nested := d.cat.owned[k.Name]
	own := n
	if n.kind == kindMap && len(nested) > 0 {
		own = &node{kind: kindMap, line: n.line, col: n.col}
		for _, e := range n.entries {
			if !slices.ContainsFunc(nested, func(o *Kind) bool { return e.key.isString() && e.key.text == o.Name }) {
				own.entries = append(own.entries, e)
			}
		}
	}
	d.owned = nil
	for _, o := range nested {
		d.owned = append(d.owned, o.Name)
	}
	item := d.single(k, own, path, place)
	d.owned = nil
	if n.kind != kindMap {
		return item
	}
	for _, o := range nested {
		d.nested(doc, o, n, path, k.NameOf(item.Message), kinds)
	}
	return item
}

// nested reads the lists of owned resources that stand inside their owner.
func (d *decoder) nested(doc *Document, k *Kind, owner *node, path, parent string, kinds map[string]bool) {
	kinds[k.Name] = true
	first := true
	for _, e := range owner.entries {
		if !e.key.isString() || e.key.text != k.Name {
			continue
		}
		if !first {
			d.fail(e.key, problem.Key(path, k.Name), "written twice")
			return
		}
		first = false
		d.resources(doc, k, e.node, problem.Key(path, k.Name), parent, kinds)
	}
}

// single reads one resource without what is nested in it.
func (d *decoder) single(k *Kind, n *node, path string, place Place) Item {
	m := k.Type.New()
	clears := len(d.clears)
	if n.kind == kindNull {
		d.fail(n, path, "expected a mapping, found null")
	} else {
		d.message(n, m, path)
	}
	msg := m.Interface()
	d.place(k, n, msg, path, place)
	item := Item{Kind: k.Name, Message: msg, Path: path, Name: k.NameOf(msg), Parent: k.ParentOf(msg)}
	for _, p := range d.clears[clears:] {
		item.Clears = append(item.Clears, strings.TrimPrefix(strings.TrimPrefix(p, path), "."))
	}
	return item
}

// place fills in, or compares, what the place of the resource says about it.
func (d *decoder) place(k *Kind, n *node, msg proto.Message, path string, place Place) {
	agree := func(field, want string) {
		got := stringField(msg, protoreflect.Name(field))
		at := n.get(field)
		switch {
		case want == "" || field == "":
		case got == "" && at == nil:
			setStringField(msg, protoreflect.Name(field), want)
		case got != want && at != nil && at.isString():
			d.fail(at, problem.Key(path, field), fmt.Sprintf("%s does not agree with the place where it is written, %s", quote(at.text), quote(want)))
			setStringField(msg, protoreflect.Name(field), want)
		}
	}
	agree(k.ParentField, place.Parent)
	if !k.Singleton {
		agree("name", place.Name)
	}
}

// repeatedNames tells resources that a file holds twice.
func (d *decoder) repeatedNames(doc *Document) {
	type id struct{ kind, name string }
	first := map[id]string{}
	for _, it := range doc.Items {
		if strings.HasSuffix("/"+it.Name, "/") {
			continue // no name at all is another violation
		}
		key := id{it.Kind, it.Name}
		if at, ok := first[key]; ok {
			n, _ := doc.root.follow(it.Path)
			if nn := n.get("name"); nn != nil {
				n = nn
			}
			d.fail(n, problem.Key(it.Path, "name"), fmt.Sprintf("%s already names %s", quote(it.Name), at))
			continue
		}
		first[key] = it.Path
	}
}

// DecodeResource reads a body that is one resource, as PUT takes it.
func (c *Catalog) DecodeResource(kind string, body []byte, contentType string, place Place) (*Item, []problem.Violation) {
	k, ok := c.kinds[kind]
	if !ok {
		return nil, []problem.Violation{{Reason: fmt.Sprintf("unknown kind %s", quote(kind)), Code: problem.NotFound}}
	}
	root, err := parse(body, contentType)
	if err != nil {
		return nil, []problem.Violation{err.violation()}
	}
	return c.decodeTree(k, root, place)
}

func (c *Catalog) decodeTree(k *Kind, root *node, place Place) (*Item, []problem.Violation) {
	d := &decoder{cat: c}
	item := d.single(k, root, "", place)
	item.root = root
	return &item, problem.Sort(d.violations)
}

// Locate gives violations found later, by their paths, what only the document knows: line and column, the resource they
// belong to, and the path as it was written, short forms left short.
func (doc *Document) Locate(vs []problem.Violation) []problem.Violation {
	byPath := make(map[string]*Item, len(doc.Items))
	for i := range doc.Items {
		byPath[doc.Items[i].Path] = &doc.Items[i]
	}
	for i, v := range vs {
		if v.Resource == "" {
			vs[i].Resource = resourceAt(byPath, v.Path)
		}
		locate(doc.root, &vs[i])
	}
	return vs
}

// Locate is Document.Locate for a document of one resource.
func (it *Item) Locate(vs []problem.Violation) []problem.Violation {
	for i := range vs {
		locate(it.root, &vs[i])
	}
	return vs
}

func locate(root *node, v *problem.Violation) {
	if root == nil || v.Line > 0 {
		return
	}
	at, written := root.follow(v.Path)
	v.Path, v.Line, v.Column = written, at.line, at.col
}

// resourceAt names the innermost resource around a path.
func resourceAt(byPath map[string]*Item, path string) string {
	for path != "" {
		if it := byPath[path]; it != nil {
			return Ref(it.Kind, it.Name)
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

// Ref writes kind and stored name of a resource as one word, e.g. "routes/hello"; a singleton is its kind.
func Ref(kind, name string) string {
	if name == kind || strings.HasPrefix(name, "/") || strings.HasSuffix("/"+name, "/") {
		return kind // a singleton, or a resource whose name is not known
	}
	return kind + "/" + name
}
