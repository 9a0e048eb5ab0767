package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrRenamed says that a row's name is not the one that was sealed.
var ErrRenamed = errors.New("name is not the one that was sealed")

// ErrRelabelled says that a row's labels are not those that were sealed.
var ErrRelabelled = errors.New("labels are not those that were sealed")

// Clear is what a row says in the clear besides its place.
type Clear struct {
	Name   string
	Labels map[string]string
}

// SealRow is Seal with the clear part of the row repeated inside.
func (r *Ring) SealRow(p Place, c Clear, content []byte) ([]byte, error) {
	return r.Seal(p, append(c.appendTo(make([]byte, 0, c.size()+len(content))), content...))
}

// OpenRow is Open of what SealRow made; the clear part must be what it was.
func (r *Ring) OpenRow(p Place, c Clear, ciphertext []byte) ([]byte, error) {
	plaintext, err := r.Open(p, ciphertext)
	if err != nil {
		return nil, err
	}
	sealed, content, ok := takeClear(plaintext)
	switch {
	case !ok:
		return nil, fmt.Errorf("open %v: %w", p, ErrMalformed)
	case sealed.Name != c.Name:
		return nil, fmt.Errorf("open %v: %w", p, ErrRenamed)
	case !maps.Equal(sealed.Labels, c.Labels):
		return nil, fmt.Errorf("open %v: %w", p, ErrRelabelled)
	}
	return content, nil
}

func (c Clear) size() int {
	n := 4 + len(c.Name) + 4
	for k, v := range c.Labels {
		n += 8 + len(k) + len(v)
	}
	return n
}

func (c Clear) appendTo(b []byte) []byte {
	b = appendPrefixed(b, c.Name)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Labels)))
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		b = appendPrefixed(appendPrefixed(b, k), c.Labels[k])
	}
	return b
}

func takeClear(b []byte) (c Clear, rest []byte, ok bool) {
	name, b, ok := takePrefixed(b)
	if !ok || len(b) < 4 {
		return Clear{}, nil, false
	}
	c.Name = string(name)
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	for range n {
		var k, v []byte
		if k, b, ok = takePrefixed(b); !ok {
			return Clear{}, nil, false
		}
		if v, b, ok = takePrefixed(b); !ok {
			return Clear{}, nil, false
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[string(k)] = string(v)
	}
	return c, b, true
}
