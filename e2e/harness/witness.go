package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Reply is what a witness answers: bytes as they are, and what becomes of the connection.
type Reply struct {
	Bytes string
	// Then is close or reset; empty: the connection is kept. Without bytes and without this the answer is 200.
	Then string
}

// Seen is a request that reached a witness.
type Seen struct {
	*Message
	// Conn numbers the witness's connections.
	Conn int
	// Err says what is wrong with it: it did not come whole, or is not well-formed.
	Err error
}

// String is method, target and body.
func (s Seen) String() string { return fmt.Sprintf("%s %s %q", s.Method(), s.Target(), s.Body) }

// Cut says whether the request broke off before its end: to nobody it is a request.
func (s Seen) Cut() bool { return errors.Is(s.Err, io.ErrUnexpectedEOF) || errors.Is(s.Err, ErrReset) }

// Witness is an upstream that reads by the letter, remembers what reaches it and answers what it is told.
type Witness struct {
	Addr string

	mu    sync.Mutex
	seen  []Seen // guarded by mu
	reply *Reply // guarded by mu: for the next request
	open  int    // guarded by mu: connections
}

// NewWitness starts a witness. Without being told it answers 200 and "ok", and in X-Seen which target it saw.
func NewWitness(t testing.TB) *Witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Witness{Addr: l.Addr().String()}
	var serving sync.WaitGroup
	ended, end := context.WithCancel(context.Background())
	serving.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				stop := context.AfterFunc(ended, func() { conn.Close() })
				defer stop()
				w.serve(conn, n)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		end()
		serving.Wait()
	})
	return w
}

// Answer sets the answer to the next request but one for /next, which tests send to see whether things go on; those after it
// are answered as usual.
func (w *Witness) Answer(r Reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reply = &r
}

// Take returns what was seen since it was called last, in the order of its end, and forgets an answer that nobody came for.
func (w *Witness) Take() []Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen, w.reply = nil, nil
	return seen
}

// Open is how many connections are open.
func (w *Witness) Open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

func (w *Witness) count(change int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += change
}

func (w *Witness) serve(conn net.Conn, n int) {
	w.count(1)
	defer w.count(-1)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		m, err := ReadRequest(r)
		if errors.Is(err, ErrBefore) || errors.Is(err, ErrReset) && m.Line == "" {
			return
		}
		reply := w.note(Seen{m, n, err})
		if err != nil {
			return
		}
		if reply.Bytes == "" && reply.Then == "" {
			reply.Bytes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Seen: " + m.Target() + "\r\n\r\nok"
			if m.Method() == "HEAD" {
				reply.Bytes = reply.Bytes[:len(reply.Bytes)-2]
			}
		}
		if _, err := io.WriteString(conn, reply.Bytes); err != nil {
			return
		}
		switch reply.Then {
		case "close":
			return
		case "reset":
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			return
		}
	}
}

func (w *Witness) note(s Seen) Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
	if w.reply == nil || s.Err != nil || s.Target() == "/next" {
		return Reply{}
	}
	r := *w.reply
	w.reply = nil
	return r
}

// Length is the Content-Length field of a text.
func Length(text string) string { return "Content-Length: " + strconv.Itoa(len(text)) + "\r\n" }
