package server

import (
	"sync"
	"sync/atomic"
)

// Sizes of the memory for bodies that are read ahead. The first two are kept for the next ones.
const (
	smallAhead = outBytes
	largeAhead = maxPiece
)

var largeAheads = sync.Pool{New: func() any { return new([largeAhead]byte) }} //nolint:gochecknoglobals // memory, not state

// bodyMemory is the memory of all bodies that are read ahead, because a policy needs them whole, which is bounded. It grows
// with what has come, not with what is announced: who only announces takes none.
type bodyMemory struct {
	limit int64
	used  atomic.Int64
}

// add appends p to b, whose memory is of here; ok is false if there is no more. A body becomes at most most bytes long.
func (m *bodyMemory) add(b, p []byte, most int64) (_ []byte, ok bool) {
	need := len(b) + len(p)
	if need <= cap(b) {
		return append(b, p...), true
	}
	size := sizeAhead(need, most)
	if m.used.Add(int64(size)) > m.limit {
		m.used.Add(-int64(size))
		return b, false
	}
	out := append(takeAhead(size), b...)
	m.give(b)
	return append(out, p...), true
}

// sizeAhead returns how much memory to take for need bytes that may become most.
func sizeAhead(need int, most int64) int {
	if need <= smallAhead {
		return smallAhead
	}
	size := largeAhead
	for size < need {
		size *= 4
	}
	if size > largeAhead && int64(size) > most {
		size = max(int(most), need)
	}
	return size
}

func takeAhead(size int) []byte {
	switch size {
	case smallAhead:
		if p, ok := outBuffers.Get().(*[smallAhead]byte); ok {
			return p[:0]
		}
	case largeAhead:
		if p, ok := largeAheads.Get().(*[largeAhead]byte); ok {
			return p[:0]
		}
	}
	return make([]byte, 0, size)
}

// give takes back what add has returned. Nobody looks at it any more.
func (m *bodyMemory) give(b []byte) {
	if b == nil {
		return
	}
	m.used.Add(-int64(cap(b)))
	switch cap(b) {
	case smallAhead:
		outBuffers.Put((*[smallAhead]byte)(b[:smallAhead]))
	case largeAhead:
		largeAheads.Put((*[largeAhead]byte)(b[:largeAhead]))
	}
}
