package trace

// Parent is a traceparent field: which trace a request belongs to, and whose child it is.
type Parent struct {
	Trace [16]byte
	Span  [8]byte
	// Flags are those of the specification that are defined: sampled and random.
	Flags byte
}

const (
	// parentLen is the length of a field of version 00.
	parentLen  = len("00-00000000000000000000000000000000-0000000000000000-00")
	knownFlags = 0x03
)

// Parse reads a traceparent field (W3C Trace Context section 3.2). Of a later version it reads what version 00 has, as the
// specification demands; everything else that is not to the letter is no parent.
func Parse(field []byte) (p Parent, ok bool) {
	var version, flags [1]byte
	if len(field) < parentLen || field[2] != '-' || field[35] != '-' || field[52] != '-' {
		return Parent{}, false
	}
	ok = decode(version[:], field) && decode(p.Trace[:], field[3:]) && decode(p.Span[:], field[36:]) && decode(flags[:], field[53:])
	if !ok || p.Trace == [16]byte{} || p.Span == [8]byte{} || version[0] == 0xff {
		return Parent{}, false
	}
	if len(field) > parentLen && (version[0] == 0 || field[parentLen] != '-') {
		return Parent{}, false
	}
	p.Flags = flags[0] & knownFlags
	return p, true
}

// Append appends the field in version 00.
func (p *Parent) Append(b []byte) []byte {
	b = append(b, "00-"...)
	b = append(encode(b, p.Trace[:]), '-')
	b = append(encode(b, p.Span[:]), '-')
	return encode(b, []byte{p.Flags})
}

func encode(b, v []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range v {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// decode reads lower-case hex.
func decode(to, text []byte) bool {
	for i := range to {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		to[i] = high<<4 | low
	}
	return true
}

// digit returns the value of a lower-case hex digit, or more than 15.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
