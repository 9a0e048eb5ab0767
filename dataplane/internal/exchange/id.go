package exchange

import "math/rand/v2"

// ID identifies an exchange in refusals and in the access log.
type ID [16]byte

// idLen is the length of an id's text form.
const idLen = 36

// ID returns the exchange's id, drawing one on first use. It correlates; it is no secret.
func (x *Exchange) ID() ID {
	for x.id == (ID{}) {
		a, b := rand.Uint64(), rand.Uint64()
		for i := range 8 {
			x.id[i], x.id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
		}
		x.id[6], x.id[8] = x.id[6]&0x0f|0x40, x.id[8]&0x3f|0x80 // version 4 of RFC 9562
	}
	return x.id
}

// SetID gives the exchange an id that was chosen elsewhere.
func (x *Exchange) SetID(id ID) { x.id = id }

// Append appends the id's text form.
func (id ID) Append(b []byte) []byte {
	const digits = "0123456789abcdef"
	b = append(b, "00000000-0000-0000-0000-000000000000"...)
	text, at := b[len(b)-idLen:], 0
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			at++
		}
		text[at], text[at+1] = digits[c>>4], digits[c&15]
		at += 2
	}
	return b
}

// String returns the id's text form.
func (id ID) String() string { return string(id.Append(make([]byte, 0, idLen))) }

// ParseID reads the text form exactly as Append writes it: lower case, and not all zeros.
func ParseID(text []byte) (ID, bool) {
	var id ID
	if len(text) != idLen {
		return ID{}, false
	}
	at := 0
	for i := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			if text[at] != '-' {
				return ID{}, false
			}
			at++
		}
		high, low := fromHex(text[at]), fromHex(text[at+1])
		if high > 15 || low > 15 {
			return ID{}, false
		}
		id[i] = high<<4 | low
		at += 2
	}
	return id, id != ID{}
}

// fromHex returns the value of a lower-case hex digit, or more than 15.
func fromHex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// Trace is what other servers know an exchange by. Package trace fills it; until then it is empty.
type Trace struct {
	// RequestID is sent as X-Request-Id: the exchange's id, or what a trusted peer chose.
	RequestID []byte
	// Foreign: RequestID is not the text of the exchange's id.
	Foreign bool
	// Parent is the traceparent field (W3C Trace Context) that is sent to the upstream.
	Parent []byte
}

// ID returns the trace's id in its text form, nil if there is no trace.
func (t *Trace) ID() []byte {
	const from, to = len("00-"), len("00-") + 32
	if len(t.Parent) < to {
		return nil
	}
	return t.Parent[from:to]
}
