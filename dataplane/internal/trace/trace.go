// Package trace gives an exchange the ids by which other servers know it: the trace it belongs to (W3C Trace Context) and
// its request id. It reads and writes header fields of the exchange, nothing else; spans are nobody's business here.
//
// The server calls Propagate once for each request, after it has found out whether the peer is a trusted proxy and before
// anything may answer the request, and Respond before the head of a response is written, whoever answers:
//
//	Propagate(x *exchange.Exchange, trusted bool)
//	Respond(x *exchange.Exchange)
//
// Propagate leaves traceparent, tracestate and X-Request-Id in x.Request.Header as the upstream is to get them, and what
// was chosen in x.Trace, where the access log finds it. Neither allocates once exchange and arena are warm.
package trace

import (
	"encoding/binary"
	"math/rand/v2"

	"keyward.dev/dataplane/internal/exchange"
)

const (
	fieldParent    = "traceparent"
	fieldState     = "tracestate"
	fieldRequestID = "X-Request-Id"
)

// The names as they are sent; never changed.
var (
	nameParent    = []byte(fieldParent)
	nameState     = []byte(fieldState)
	nameRequestID = []byte(fieldRequestID)
)

const (
	// maxRequestID is the longest request id that is taken over.
	maxRequestID = 128
	// idLen is the length of an exchange id's text.
	idLen = 36
)

// received is what a request says it belongs to: the values of its fields, of which a repeated one counts for nothing.
type received struct {
	parent, id           []byte
	parents, ids, states int // how many fields there are
}

// Propagate continues the trace that the request belongs to, or starts one that is not sampled, and gives the request its
// id: what a trusted peer chose, or the exchange's own.
func Propagate(x *exchange.Exchange, trusted bool) {
	in := find(x.Request.Header)
	if !trusted || in.ids != 1 || !takeID(x, in.id) {
		x.Trace.RequestID, x.Trace.Foreign = x.ID().Append(x.Alloc(idLen)), false
		x.Request.Header.Set(exchange.Header{Name: nameRequestID, Value: x.Trace.RequestID})
	}
	p, ok := Parent{}, false
	if in.parents == 1 {
		p, ok = Parse(in.parent)
	}
	if !ok {
		p = Parent{Trace: draw()}
	}
	if in.states > 0 {
		state(x, in.states, ok)
	}
	for p.Span = [8]byte{}; p.Span == [8]byte{}; {
		binary.LittleEndian.PutUint64(p.Span[:], rand.Uint64())
	}
	x.Trace.Parent = p.Append(x.Alloc(parentLen))
	x.Request.Header.Set(exchange.Header{Name: nameParent, Value: x.Trace.Parent})
}

// Respond tells the client the request's id.
func Respond(x *exchange.Exchange) {
	if id := x.Trace.RequestID; id != nil {
		x.Response.Header.Set(exchange.Header{Name: nameRequestID, Value: id})
	}
}

// find looks at each field once. Most are told apart by their length.
func find(h exchange.Headers) (in received) {
	for i := range h {
		f := &h[i]
		switch len(f.Name) {
		case len(fieldParent):
			if exchange.EqualFold(f.Name, fieldParent) {
				in.parent = f.Value
				in.parents++
			}
		case len(fieldState):
			if exchange.EqualFold(f.Name, fieldState) {
				in.states++
			}
		case len(fieldRequestID):
			if exchange.EqualFold(f.Name, fieldRequestID) {
				in.id = f.Value
				in.ids++
			}
		}
	}
	return in
}

// takeID takes over the id that a trusted peer chose, if it is one. In the form of the exchange's own id it becomes that
// too, so that everything that names the exchange names it alike.
func takeID(x *exchange.Exchange, id []byte) bool {
	if !visible(id) {
		return false
	}
	own, ok := exchange.ParseID(id)
	if ok {
		x.SetID(own)
	}
	x.Trace.RequestID, x.Trace.Foreign = id, !ok
	return true
}

// visible says whether an id is 1 to 128 visible ASCII characters.
func visible(id []byte) bool {
	for _, c := range id {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxRequestID
}

// draw makes a trace id. All zeros would be none.
func draw() (id [16]byte) {
	for id == [16]byte{} {
		binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}
