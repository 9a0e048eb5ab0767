// Package callerfields writes the header fields that tell upstreams who calls, and takes them away from clients, who would
// tell lies. Compile makes a Fields from the settings; the server removes what a request claims before anything looks at it,
// and adds what is true when it forwards. Nothing allocates: values are written into the exchange's memory.
package callerfields

import (
	"keyward.dev/dataplane/internal/exchange"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
)

// maxValue bounds the value of a field.
const maxValue = 8 << 10

// Fields are the fields of a group; nil: none. It is immutable.
type Fields struct {
	fields []field
	// lengths has a bit for the length of each name, the last for all that are longer: most fields of a request have
	// another one and are not looked at.
	lengths uint64
}

type field struct {
	name   []byte
	folded string
	says   says
}

// says appends what a field says of a caller; ok is false if that is nothing.
type says func(b value, p *exchange.Principal) (_ value, ok bool)

// New returns the fields that the settings name, nil if there are none.
func New(m *configv1.IdentityHeaders) *Fields {
	f := &Fields{}
	for _, h := range check.IdentityHeaders(m) {
		f.fields = append(f.fields, field{name: []byte(h.Name), folded: check.FoldField(h.Name), says: sayer(h.Says)})
		f.lengths |= bit(len(h.Name))
	}
	if len(f.fields) == 0 {
		return nil
	}
	return f
}

func bit(length int) uint64 { return 1 << min(length, 63) }

// Claims reports whether a field of this name would be taken for one that says who calls.
func (f *Fields) Claims(name []byte) bool {
	if f == nil || f.lengths&bit(len(name)) == 0 {
		return false
	}
	for i := range f.fields {
		if check.FoldsTo(name, f.fields[i].folded) {
			return true
		}
	}
	return false
}

// Remove takes away what a client says of itself.
func (f *Fields) Remove(h *exchange.Headers) {
	if f == nil {
		return
	}
	all, kept := *h, 0
	for i := range all {
		if f.Claims(all[i].Name) {
			continue
		}
		if kept != i {
			all[kept] = all[i]
		}
		kept++
	}
	clear(all[kept:])
	*h = all[:kept]
}

// Add adds what is known of the caller.
func (f *Fields) Add(x *exchange.Exchange) {
	if f == nil || x.Principal == nil {
		return
	}
	for i := range f.fields {
		v, ok := f.fields[i].says(value{x: x}, x.Principal)
		if ok && len(v.bytes) > 0 {
			x.Request.Header.Add(exchange.Header{Name: f.fields[i].name, Value: v.bytes})
		}
	}
}
