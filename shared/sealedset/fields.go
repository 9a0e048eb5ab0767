package sealedset

import (
	"bytes"
	"encoding/binary"
)

// AppendField appends bytes with their length before them.
func AppendField(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// Parser takes fixed and length-prefixed fields from bytes; after one that is not there everything is zero.
type Parser struct {
	rest  []byte
	short bool
}

// NewParser returns a parser of the bytes.
func NewParser(b []byte) *Parser { return &Parser{rest: b} }

// Done says whether every field was there, and nothing is left.
func (p *Parser) Done() bool { return !p.short && len(p.rest) == 0 }

// Take takes n bytes.
func (p *Parser) Take(n int) []byte {
	if p.short || n > len(p.rest) {
		p.short = true
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return bytes.Clone(b)
}

// Field takes what AppendField appended.
func (p *Parser) Field() []byte {
	n := int(binary.BigEndian.Uint16(p.Take(2)))
	if n > len(p.rest) {
		p.short = true
		return nil
	}
	return p.Take(n)
}

// Uint64 takes a big-endian number.
func (p *Parser) Uint64() uint64 { return binary.BigEndian.Uint64(p.Take(8)) }
