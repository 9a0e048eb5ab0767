package conn

import "sync"

// Sizes of read buffers. Most heads fit the first; bodies are read with the last.
const (
	smallBuffer = 8 << 10
	largeBuffer = 64 << 10
)

var (
	small = sync.Pool{New: func() any { return new([smallBuffer]byte) }} //nolint:gochecknoglobals // memory, not state
	large = sync.Pool{New: func() any { return new([largeBuffer]byte) }} //nolint:gochecknoglobals // memory, not state
)

// Buffer holds what was received and not yet used. Its memory is shared by all connections: an empty buffer gives it back
// with Release. What was pinned stays where it is until Unpin, so that a head can be used while the body after it is read.
type Buffer struct {
	mem       []byte
	pin, r, w int
	old       [][]byte // memory with something pinned that became too small
}

// Bytes returns what is unused. It is valid until the next Fill.
func (b *Buffer) Bytes() []byte { return b.mem[b.r:b.w] }

// Len returns how much is unused.
func (b *Buffer) Len() int { return b.w - b.r }

// Discard marks n bytes as used.
func (b *Buffer) Discard(n int) { b.r += n }

// Pin keeps what was used so far in its place until Unpin.
func (b *Buffer) Pin() { b.pin = b.r }

// Unpin lets go of what was pinned.
func (b *Buffer) Unpin() {
	b.pin = 0
	for i, mem := range b.old {
		give(mem)
		b.old[i] = nil
	}
	b.old = b.old[:0]
}

// Release gives the memory back if nothing is unused or pinned.
func (b *Buffer) Release() {
	if b.mem == nil || b.Len() > 0 || b.pin > 0 || len(b.old) > 0 {
		return
	}
	give(b.mem)
	*b = Buffer{old: b.old}
}

// Grow has what is read from now on read with a large buffer: for bodies.
func (b *Buffer) Grow() {
	if len(b.mem) < largeBuffer && b.w-b.r < largeBuffer/2 {
		b.move(largeBuffer)
	}
}

// reserve makes room for at least one byte more; limit is how much may be unused at once.
func (b *Buffer) reserve(limit int) {
	switch {
	case b.mem == nil:
		b.mem = take(smallBuffer)
	case b.r == b.w && b.w-b.pin > 0:
		b.r, b.w = b.pin, b.pin // all after the pinned was used
	}
	if len(b.mem)-b.w >= len(b.mem)/4 {
		return
	}
	if b.r > b.pin && len(b.mem)-b.pin-b.Len() >= len(b.mem)/4 {
		b.w = b.pin + copy(b.mem[b.pin:], b.mem[b.r:b.w])
		b.r = b.pin
		return
	}
	if b.w < len(b.mem) && len(b.mem) >= limit {
		return
	}
	b.move(max(2*b.Len(), smallBuffer))
}

// move goes on with other memory of at least n bytes.
func (b *Buffer) move(n int) {
	mem := take(n)
	w := copy(mem, b.mem[b.r:b.w])
	switch {
	case b.mem == nil:
	case b.pin > 0:
		b.old = append(b.old, b.mem)
	default:
		give(b.mem)
	}
	b.mem, b.pin, b.r, b.w = mem, 0, 0, w
}

func take(n int) []byte {
	switch {
	case n <= smallBuffer:
		if p, ok := small.Get().(*[smallBuffer]byte); ok {
			return p[:]
		}
	case n <= largeBuffer:
		if p, ok := large.Get().(*[largeBuffer]byte); ok {
			return p[:]
		}
	}
	return make([]byte, n)
}

func give(b []byte) {
	switch cap(b) {
	case smallBuffer:
		small.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		large.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}
