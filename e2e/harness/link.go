package harness

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Link is the way to one address, which a test can break: cut it, or let nothing through without telling anybody, as a
// partition of the network does. What was held meanwhile comes through when it is healed, as TCP sends it again.
type Link struct {
	// Addr is what to connect to instead.
	Addr string

	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	target   string
	requests *gate
	answers  *gate
	conns    map[net.Conn]bool
	closed   bool
}

// gate lets bytes through while it is open.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
	shut bool
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case shut && !g.shut:
		g.open = make(chan struct{})
	case !shut && g.shut:
		close(g.open)
	}
	g.shut = shut
}

func (g *gate) pass() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// NewLink starts a link to an address, host:port.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	return NewLinkAt(t, "127.0.0.1", target)
}

// NewLinkAt starts a link from an address of this machine.
func NewLinkAt(t testing.TB, from, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(from, "0"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{
		Addr: listener.Addr().String(), listener: listener, target: target, requests: newGate(), answers: newGate(),
		conns: map[net.Conn]bool{},
	}
	l.running.Go(l.accept)
	t.Cleanup(func() {
		listener.Close()
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.Cut()
		l.Heal()
		l.running.Wait()
	})
	return l
}

// Stall lets nothing through any more, in either direction; connections stay, and new ones open and say nothing.
func (l *Link) Stall() {
	l.requests.set(true)
	l.answers.set(true)
}

// StallAnswers lets nothing through of what the target says.
func (l *Link) StallAnswers() { l.answers.set(true) }

// Heal lets everything through.
func (l *Link) Heal() {
	l.requests.set(false)
	l.answers.set(false)
}

// Cut resets the connections there are.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// Turn makes new connections go to another address, and cuts those there are.
func (l *Link) Turn(target string) {
	l.mu.Lock()
	l.target = target
	l.mu.Unlock()
	l.Cut()
}

func (l *Link) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.carry(conn) })
	}
}

// carry connects a client with the target.
func (l *Link) carry(client net.Conn) {
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	if !l.keep(client, server) {
		return
	}
	ended, end := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { defer end(); pump(ended, l.requests, server, client) })
	both.Go(func() { defer end(); pump(ended, l.answers, client, server) })
	<-ended.Done()
	client.Close()
	server.Close()
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, client)
	delete(l.conns, server)
}

func (l *Link) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range conns {
		if l.closed {
			conn.Close()
			continue
		}
		l.conns[conn] = true
	}
	return !l.closed
}

// pump carries bytes while the gate is open. Who closes is told to the other side at once, open or not: a process that was
// killed does not wait for its network.
func pump(ended context.Context, g *gate, to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			select {
			case <-g.pass():
			case <-ended.Done():
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
