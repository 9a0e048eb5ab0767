package httpsig

import "bytes"

// Signature is what a request says of one signature over it. It points into the request and the memory that was given.
type Signature struct {
	// Label is its name among the signatures of RFC 9421, nil in the drafts.
	Label []byte
	// KeyID names the key; empty: nothing does.
	KeyID []byte
	// Algorithm is what the request says it was made by, nil if nothing; the key knows better.
	Algorithm []byte
	// Nonce and Tag are parameters of RFC 9421.
	Nonce, Tag []byte
	// Created and Expires are seconds since 1970; nil: not said, or not covered.
	Created, Expires Moment
	// Value is the signature itself.
	Value []byte
	// Parts are the parts of the request that it covers as a whole.
	Parts Parts

	draft      bool
	input      []byte // what names the components: the parameters of RFC 9421, or the list of the drafts
	components [maxComponents]component
	n          int
}

// Moment is a point in time that may be missing.
type Moment struct {
	Unix int64
	Set  bool
}

// Covers reports whether the signature covers all values of a field, named in lower case.
func (s *Signature) Covers(field string) bool {
	for i := range s.components[:s.n] {
		c := &s.components[i]
		if c.option == optionKey {
			continue // one member of it only
		}
		if string(s.name(c)) == field {
			return true
		}
	}
	return false
}

func (s *Signature) name(c *component) []byte {
	if s.draft {
		return s.input[c.from:c.to]
	}
	return s.input[c.from+1 : c.name-1]
}

// Base returns the bytes that were signed.
func (s *Signature) Base(m *Message, mem Memory) ([]byte, error) {
	o := builder{mem: mem}
	o.room(3*len(s.input) + len(m.Target) + len(m.Authority) + 256)
	if s.draft {
		err := s.signingString(&o, m)
		return o.b, err
	}
	for i := range s.components[:s.n] {
		c := &s.components[i]
		o.bytes(s.input[c.from:c.to])
		o.text(": ")
		if err := c.write(&o, s.input, m); err != nil {
			return nil, err
		}
		o.byte('\n')
	}
	o.text(`"@signature-params": `)
	o.bytes(s.input)
	return o.b, nil
}

// Inputs goes through the signatures of RFC 9421 that a request carries.
type Inputs struct {
	scan      scanner
	signature []byte // the field with the values
	has       bool
	mem       Memory
	labels    [MaxSignatures][]byte
	n         int
	err       error
	done      bool
}

const (
	// MaxSignatures is the most a request may carry.
	MaxSignatures = 8
	// maxInput is the longest field that names them; positions in it have 16 bits.
	maxInput = 8 << 10
)

// Begin starts with the first. It returns false if the request carries none.
func (p *Inputs) Begin(m *Message, mem Memory) bool {
	*p = Inputs{mem: mem}
	in, ok, err := m.combined("Signature-Input", mem)
	if !ok {
		return false
	}
	p.scan.in = in
	if p.signature, p.has, p.err = m.combined("Signature", mem); err != nil || len(in) == 0 || len(in) > maxInput {
		p.err = ErrMalformed
	}
	return true
}

// Next reads the next signature, without its value. It returns false at the end and after an error.
func (p *Inputs) Next(s *Signature) bool {
	if p.err != nil || p.done {
		return false
	}
	*s = Signature{}
	if p.err = p.read(s); p.err != nil {
		return false
	}
	more, err := p.scan.comma()
	p.done, p.err = !more, err
	return err == nil
}

// Err returns what is wrong with what was read so far.
func (p *Inputs) Err() error { return p.err }

func (p *Inputs) read(s *Signature) error {
	out := &p.scan.out
	*out = builder{mem: p.mem}
	out.room(len(p.scan.in) - p.scan.at)
	label, err := p.scan.key()
	if err != nil || p.n == MaxSignatures || !p.scan.next('=') || !p.scan.next('(') {
		return ErrMalformed
	}
	for _, l := range p.labels[:p.n] {
		if bytes.Equal(l, label) {
			return ErrMalformed
		}
	}
	p.labels[p.n], s.Label = label, label
	p.n++
	out.b = append(out.b[:0], '(')
	if err := s.read(&p.scan); err != nil {
		return err
	}
	if err := s.parameters(&p.scan); err != nil {
		return err
	}
	s.input = out.b
	return s.distinct()
}

// read reads the list of components behind its bracket.
func (s *Signature) read(in *scanner) error {
	for {
		before := in.at
		in.spaces()
		if in.next(')') {
			in.out.byte(')')
			return nil
		}
		if s.n == maxComponents || s.n > 0 && before == in.at {
			return ErrMalformed
		}
		if s.n > 0 {
			in.out.byte(' ')
		}
		c := &s.components[s.n]
		if err := in.covered(c); err != nil {
			return err
		}
		if c.option == optionNone {
			s.Parts |= partsOf(in.out.b[c.from+1 : c.name-1])
		}
		if string(in.out.b[c.from+1:c.name-1]) == "host" {
			s.Parts |= PartAuthority
		}
		s.n++
	}
}

// parameters reads what is said of the signature (RFC 9421 section 2.3). Parameters that are not known are signed like the
// others and mean nothing here.
func (s *Signature) parameters(in *scanner) error {
	var v value
	seen := 0
	for {
		name, ok, err := in.parameter(&v)
		if err != nil || !ok {
			return err
		}
		bit, want := 0, kindString
		var text *[]byte
		var at *Moment
		switch string(name) {
		case "created":
			bit, want, at = 1, kindInteger, &s.Created
		case "expires":
			bit, want, at = 2, kindInteger, &s.Expires
		case "keyid":
			bit, text = 4, &s.KeyID
		case "alg":
			bit, text = 8, &s.Algorithm
		case "nonce":
			bit, text = 16, &s.Nonce
		case "tag":
			bit, text = 32, &s.Tag
		default:
			continue
		}
		if v.kind != want || seen&bit != 0 {
			return ErrMalformed
		}
		seen |= bit
		if at != nil {
			*at = Moment{Unix: v.n, Set: true}
		} else {
			*text = v.text
		}
	}
}

// distinct refuses a component that is named twice (RFC 9421 section 2).
func (s *Signature) distinct() error {
	for i := range s.components[:s.n] {
		a := s.input[s.components[i].from:s.components[i].to]
		for j := range s.components[:i] {
			if bytes.Equal(a, s.input[s.components[j].from:s.components[j].to]) {
				return ErrMalformed
			}
		}
	}
	return nil
}

// Value fills in the value of a signature that Next has read.
func (p *Inputs) Value(s *Signature) error {
	if !p.has {
		return ErrMalformed
	}
	in := scanner{in: p.signature, out: builder{mem: p.mem}}
	if err := in.lookup(s.Label); err != nil {
		return ErrMalformed
	}
	text := in.out.b
	if len(text) < 2 || text[0] != ':' || text[len(text)-1] != ':' {
		return ErrMalformed // no bytes, or bytes with parameters
	}
	var err error
	s.Value, err = decoded(text[1:len(text)-1], p.mem)
	return err
}

// Without returns the dictionary in the fields of that name without the members of the labels, in its canonical form; empty if
// nothing is left, or if it is none.
func Without(m *Message, name string, labels [][]byte, mem Memory) []byte {
	text, ok, err := m.combined(name, mem)
	if err != nil || !ok {
		return nil
	}
	s := scanner{in: text, out: builder{mem: mem}}
	s.out.room(len(text))
	for kept := 0; s.more(); kept = len(s.out.b) {
		if kept > 0 {
			s.out.text(", ")
		}
		label, err := s.named()
		if err != nil {
			return nil
		}
		for _, l := range labels {
			if bytes.Equal(l, label) {
				s.out.b = s.out.b[:kept]
			}
		}
		if more, err := s.comma(); err != nil {
			return nil
		} else if !more {
			break
		}
	}
	return s.out.b
}
