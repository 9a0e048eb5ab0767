package conn_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"keyward.dev/dataplane/internal/conn"
)

// TestBuffer does random things to a buffer and to a plain model of it. Between them another buffer takes whatever memory
// was given back and overwrites it: what is unused or pinned must not change.
func TestBuffer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		m := newModel(t, seed)
		for range 200 {
			m.step()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// kept is a part of a buffer that somebody holds, and what it has to be.
type kept struct{ got, want []byte }

type model struct {
	t      *testing.T
	rand   *rand.Rand
	conn   *conn.Conn
	other  *conn.Conn
	buf    conn.Buffer
	unused []byte
	used   []kept // since the last Fill
	pinned []kept
	pins   bool // since the last Unpin
	at     int
	size   int // of reads, at most
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 1)), size: 1 << (seed % 17)}
	s := conn.NewSweeper()
	m.conn = conn.New(&script{next: func(most int) int { return 1 + m.rand.IntN(min(most, m.size)) }}, s)
	m.other = conn.New(&script{next: func(most int) int { return most }}, s)
	return m
}

func (m *model) step() {
	switch op := m.rand.IntN(20); {
	case op < 8:
		m.fill(1 << m.rand.IntN(18))
	case op < 13:
		m.discard(m.rand.IntN(m.buf.Len() + 1))
	case op < 15:
		m.discard(m.buf.Len())
	case op < 16:
		m.buf.Pin()
		m.pinned = append(m.pinned, m.used...)
		m.used, m.pins = nil, true
	case op < 17:
		m.buf.Unpin()
		m.pinned, m.used, m.pins = nil, nil, false
	case op < 18:
		m.buf.Grow()
		m.used = nil
	default:
		m.buf.Release()
		m.used = nil
		if m.buf.Len() == 0 && !m.pins && m.buf.Holds() > 0 {
			m.t.Error("memory is held for nothing")
		}
	}
	m.scribble()
	m.check()
}

func (m *model) fill(limit int) {
	before := m.buf.Len()
	err := m.conn.Fill(&m.buf, limit)
	if before >= limit {
		if !errors.Is(err, conn.ErrFull) || m.buf.Len() != before {
			m.t.Errorf("Fill() of a full buffer = %v", err)
		}
		return
	}
	if err != nil || m.buf.Len() <= before {
		m.t.Errorf("Fill() = %v, %d bytes more", err, m.buf.Len()-before)
	}
	more := make([]byte, m.buf.Len()-before)
	count(more, m.at)
	m.at += len(more)
	m.unused = append(m.unused, more...)
	m.used = nil
}

func (m *model) discard(n int) {
	m.used = append(m.used, kept{m.buf.Bytes()[:n], m.unused[:n:n]})
	m.buf.Discard(n)
	m.unused = m.unused[n:]
}

// scribble takes memory out of the pools, all that was given back first, and writes to it.
func (m *model) scribble() {
	var small, large conn.Buffer
	if m.rand.IntN(4) == 0 {
		large.Grow()
	}
	for _, b := range []*conn.Buffer{&small, &large} {
		if err := m.other.Fill(b, 1<<20); err != nil {
			m.t.Error(err)
		}
		if err := m.other.Fill(b, 1<<20); err != nil {
			m.t.Error(err)
		}
	}
	for _, b := range []*conn.Buffer{&small, &large} {
		b.Discard(b.Len())
		b.Release()
	}
}

func (m *model) check() {
	if !bytes.Equal(m.buf.Bytes(), m.unused) || m.buf.Len() != len(m.unused) {
		m.t.Error("what is unused has changed")
	}
	for _, k := range m.pinned[max(0, len(m.pinned)-10):] {
		if !bytes.Equal(k.got, k.want) {
			m.t.Error("what is pinned has changed")
		}
	}
}

// TestBufferGivesMemoryBack: going through all sizes again and again takes no new memory.
func TestBufferGivesMemoryBack(t *testing.T) {
	if raceDetector {
		t.Skip("pools drop things at random with the race detector")
	}
	c := conn.New(&script{next: func(most int) int { return most }}, conn.NewSweeper())
	var b conn.Buffer
	fill := func(limit int) {
		if err := c.Fill(&b, limit); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		fill(1 << 20)
		fill(1 << 20)
		b.Discard(b.Len() / 2)
		b.Pin()
		b.Grow()
		fill(1 << 20)
		b.Discard(b.Len())
		b.Unpin()
		b.Release()
	}); n != 0 {
		t.Errorf("a cycle takes new memory %v times", n)
	}
	if b.Holds() != 0 {
		t.Errorf("the buffer holds %d bytes", b.Holds())
	}
}

// TestBufferStaysSmall: what goes through a buffer does not make it larger, with or without something pinned or left over.
func TestBufferStaysSmall(t *testing.T) {
	t.Parallel()
	for _, pinned := range []int{0, 100} {
		for _, left := range []int{0, 1, 1000} {
			c := conn.New(&script{next: func(most int) int { return min(most, 3000) }}, conn.NewSweeper())
			var b conn.Buffer
			for i := range 1000 {
				if err := c.Fill(&b, 64<<10); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					b.Discard(min(pinned, b.Len()))
					b.Pin()
				}
				b.Discard(max(0, b.Len()-left))
			}
			if b.Holds() != 8<<10 {
				t.Errorf("%d pinned, %d left over: holds %d", pinned, left, b.Holds())
			}
		}
	}
}

func TestGrow(t *testing.T) {
	t.Parallel()
	c := conn.New(&script{next: func(most int) int { return min(most, 100) }}, conn.NewSweeper())
	var b conn.Buffer
	for range 2 {
		if err := c.Fill(&b, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	had := bytes.Clone(b.Bytes())
	b.Grow()
	at := &b.Bytes()[0]
	b.Grow()
	if b.Holds() != 64<<10 || !bytes.Equal(b.Bytes(), had) || at != &b.Bytes()[0] {
		t.Errorf("holds %d with %d bytes unused, want 64 KiB with %d, moved once", b.Holds(), b.Len(), len(had))
	}
	for b.Len() < 100<<10 {
		if err := c.Fill(&b, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	at = &b.Bytes()[0]
	if b.Grow(); at != &b.Bytes()[0] {
		t.Error("what is large already is moved")
	}
}

// TestBufferIsBounded: a peer that sends without end takes no more memory than a few times the limit.
func TestBufferIsBounded(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 100, 8 << 10, 8<<10 + 1, 64 << 10, 100 << 10} {
		for _, size := range []int{1, 7, 1 << 20} {
			c := conn.New(&script{next: func(most int) int { return min(most, size) }}, conn.NewSweeper())
			var b conn.Buffer
			err := error(nil)
			for err == nil {
				err = c.Fill(&b, limit)
			}
			if !errors.Is(err, conn.ErrFull) || b.Len() < limit || b.Holds() > max(64<<10, 2*limit) {
				t.Errorf("limit %d, reads of %d: %v with %d bytes in %d", limit, size, err, b.Len(), b.Holds())
			}
		}
	}
}

func TestFillOfNothing(t *testing.T) {
	t.Parallel()
	c := conn.New(&script{next: func(int) int { return 0 }}, conn.NewSweeper())
	var b conn.Buffer
	if err := c.Fill(&b, 1); !errors.Is(err, io.EOF) || b.Holds() != 0 {
		t.Errorf("Fill() at the end = %v, holds %d", err, b.Holds())
	}
	c = conn.New(mute{}, conn.NewSweeper())
	if err := c.Fill(&b, 1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Fill() from a reader that gives nothing = %v, want io.ErrNoProgress", err)
	}
}

type mute struct{ net.Conn }

func (mute) Read([]byte) (int, error) { return 0, nil }
