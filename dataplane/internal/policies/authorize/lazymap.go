package authorize

import (
	"net/netip"
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// source is what a lazyMap is of.
type source interface {
	find(name string) (ref.Val, bool)
	all() traits.Mapper
}

// lazyMap is a map whose entries are looked up one by one; only who wants all of them makes all of them.
type lazyMap struct {
	of source
}

var _ traits.Mapper = (*lazyMap)(nil)

// Find implements traits.Mapper.
func (m *lazyMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	return m.of.find(string(name))
}

// Get implements traits.Indexer.
func (m *lazyMap) Get(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v == nil {
		return types.NewErr("no such key")
	}
	return v
}

// Contains implements traits.Container.
func (m *lazyMap) Contains(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v != nil {
		return v
	}
	return types.Bool(ok)
}

// Iterator implements traits.Iterable.
func (m *lazyMap) Iterator() traits.Iterator { return m.of.all().Iterator() }

// Size implements traits.Sizer.
func (m *lazyMap) Size() ref.Val { return m.of.all().Size() }

// Equal implements ref.Val.
func (m *lazyMap) Equal(other ref.Val) ref.Val { return m.of.all().Equal(other) }

// ConvertToNative implements ref.Val.
func (m *lazyMap) ConvertToNative(t reflect.Type) (any, error) { return m.of.all().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (m *lazyMap) ConvertToType(t ref.Type) ref.Val { return m.of.all().ConvertToType(t) }

// Type implements ref.Val.
func (m *lazyMap) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m *lazyMap) Value() any { return m.of.all().Value() }

// headers are the fields of a request by their names, in lower case but found in any.
type headers variables

func (h *headers) find(name string) (ref.Val, bool) {
	fields := h.x.Request.Header
	i := fields.Index(name, 0)
	if i < 0 {
		return nil, false
	}
	if fields.Index(name, i+1) < 0 {
		return text(fields[i].Value), true
	}
	var list []string
	for v := range fields.Values(name) {
		list = append(list, string(v))
	}
	return types.String(strings.Join(list, ", ")), true
}

func (h *headers) all() traits.Mapper {
	m := map[string]string{}
	for _, f := range h.x.Request.Header {
		name := strings.ToLower(string(f.Name))
		if before, ok := m[name]; ok {
			m[name] = before + ", " + string(f.Value)
			continue
		}
		m[name] = string(f.Value)
	}
	return types.NewStringStringMap(types.DefaultTypeAdapter, m)
}

// query is the query of a request: lists of decoded values by decoded names.
type query variables

func (q *query) find(name string) (ref.Val, bool) {
	var list []string
	for from := 0; ; {
		v, next, ok := q.x.NextQuery(name, from)
		if ok {
			list, from = append(list, string(v)), next
			continue
		}
		if list == nil {
			return nil, false
		}
		return types.NewStringList(types.DefaultTypeAdapter, list), true
	}
}

func (q *query) all() traits.Mapper {
	m := map[string][]string{}
	for name, value := range q.x.QueryPairs() {
		m[string(name)] = append(m[string(name)], string(value))
	}
	return types.NewDynamicMap(types.DefaultTypeAdapter, m)
}

func text(b []byte) ref.Val { return types.String(b) }

func address(a netip.Addr) ref.Val {
	if !a.IsValid() {
		return types.String("")
	}
	return types.String(a.Unmap().WithZone("").String())
}

var (
	_ source = (*headers)(nil)
	_ source = (*query)(nil)
)
