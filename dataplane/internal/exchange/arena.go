package exchange

// Exchanges that needed more than this give the memory back instead of holding it in the pool.
const maxKeptArena = 64 << 10

// arena hands out bytes that live as long as the exchange.
type arena struct {
	buf []byte
}

// alloc returns an empty slice with room for n bytes. Slices handed out earlier stay valid when the arena grows: they
// keep the old block alive.
func (a *arena) alloc(n int) []byte {
	used := len(a.buf)
	if cap(a.buf)-used < n {
		a.buf, used = make([]byte, 0, max(2*cap(a.buf), n, 512)), 0
	}
	a.buf = a.buf[:used+n]
	return a.buf[used : used : used+n]
}

func (a *arena) reset() {
	if cap(a.buf) > maxKeptArena {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// Alloc returns an empty slice with room for n bytes, valid until Reset.
func (x *Exchange) Alloc(n int) []byte { return x.arena.alloc(n) }

// Copy returns a copy of b, valid until Reset.
func (x *Exchange) Copy(b []byte) []byte { return append(x.arena.alloc(len(b)), b...) }
