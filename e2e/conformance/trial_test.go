package conformance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// A requirement is something that RFC 9110 or RFC 9112 demands of an intermediary. What it lets pass has to pass, and what
// it forbids has to be refused, removed or cut off.
type requirement struct {
	section, says  string
	accept, reject []trial
}

// A trial sends bytes through a gateway to an upstream that answers with bytes, and looks at what came of it.
type trial struct {
	name string
	// send is what the client sends; empty: a plain GET.
	send string
	// asked is what the client sends once it was told 100 Continue.
	asked string
	// half: the client closes its sending side after it. pieces: it sends octet by octet.
	half, pieces bool
	// warm: an upstream connection is already kept.
	warm bool
	// reply is what the upstream answers to the first request; empty: 200 and "ok". then is what becomes of its connection.
	reply, then string
	// answers is how many final answers are waited for; 0: one.
	answers int
	want    check
	// unlike names peers that refuse such requests whoever sends them.
	unlike []string
}

// outcome is what came of a trial.
type outcome struct {
	interim, answers []*harness.Message
	broken           error // what is wrong with the bytes after the answers, if anything
	closed           bool  // the client's connection has ended
	seen             []harness.Seen
	after            error // what is wrong with the next request, if anything

	host  string
	lossy bool
	done  func() // ends the sending side
	asked string // what 100 Continue asks for
}

// A check says what is wrong with an outcome.
type check func(o *outcome) error

const (
	host         = "a.test"
	trialTimeout = 5 * time.Second
)

func nextRequest(host string) string {
	return "GET /next HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
}

// bench is a gateway between a client and a witness.
type bench struct {
	addr, host string
	witness    *harness.Witness
	take       func() []harness.Seen // of another upstream than the witness
	// lossy: the gateway may reset a connection on which bytes are still unread, and its refusal is lost with it. net/http's
	// server does.
	lossy bool
}

// run runs a trial. Trials on one bench run one after the other.
func (b *bench) run(tr trial) (*outcome, error) {
	if tr.warm {
		if err := b.follow(); err != nil {
			return nil, fmt.Errorf("before the trial: %w", err)
		}
	}
	if b.witness != nil {
		b.witness.Take()
		if tr.reply != "" || tr.then != "" {
			b.witness.Answer(harness.Reply{Bytes: tr.reply, Then: tr.then})
		}
	}
	conn, o, err := b.send(tr, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	o.asked = tr.asked
	o.read(bufio.NewReader(conn), conn, max(tr.answers, 1), strings.HasPrefix(tr.send, "HEAD "))
	if o.closed {
		o.after = b.follow()
	}
	o.seen = b.seen()
	return o, nil
}

// send opens a connection and sends the trial's bytes on it, and more.
func (b *bench) send(tr trial, more string) (net.Conn, *outcome, error) {
	conn, err := net.DialTimeout("tcp", b.addr, trialTimeout)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(trialTimeout)); err != nil {
		return nil, nil, err
	}
	// All hosts are as long as this one: lengths stay what they are.
	bytes, sent := strings.ReplaceAll(tr.request(), host, b.host)+more, make(chan struct{})
	go func() { // a gateway may refuse before it has read everything
		defer close(sent)
		for size := len(bytes); len(bytes) > 0; bytes = bytes[size:] {
			if tr.pieces {
				size = 1
			}
			if _, err := io.WriteString(conn, bytes[:size]); err != nil {
				return
			}
		}
		if tr.half {
			closeWrite(conn)
		}
	}()
	return conn, &outcome{host: b.host, lossy: b.lossy, done: func() { <-sent; closeWrite(conn) }}, nil
}

// seen is what reached the upstream but for the requests that came after.
func (b *bench) seen() []harness.Seen {
	take := b.take
	if take == nil {
		take = b.witness.Take
	}
	return slices.DeleteFunc(take(), func(s harness.Seen) bool { return s.Err == nil && s.Target() == "/next" })
}

// closeWrite says that nothing more will be sent.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func (tr trial) request() string {
	if tr.send == "" {
		return get("")
	}
	return tr.send
}

// read reads the answers, and finds out whether the connection goes on after them.
func (o *outcome) read(r *bufio.Reader, conn net.Conn, n int, head bool) {
	for {
		method := "GET"
		if head && len(o.answers) == 0 {
			method = "HEAD"
		}
		m, err := harness.ReadResponse(r, method)
		if err != nil {
			o.closed = true
			if !errors.Is(err, harness.ErrBefore) && (!errors.Is(err, harness.ErrReset) || m.Line != "" || len(o.answers) == 0) {
				o.broken = err
				if m.Line != "" {
					o.answers = append(o.answers, m)
				}
			}
			return
		}
		if m.Status()/100 == 1 && m.Status() != 101 {
			o.interim = append(o.interim, m)
			if m.Status() == 100 {
				_, _ = io.WriteString(conn, o.asked)
				o.asked = ""
			}
			continue
		}
		o.answers = append(o.answers, m)
		if m.Framing == "close" {
			o.closed = true
			return
		}
		if m.Closes() {
			go o.done() // a gateway may wait for this before it closes
		}
		if len(o.answers) == n && !m.Closes() {
			o.goOn(r, conn)
			return
		}
	}
}

// goOn sends another request on the connection. The answer to it comes next, or the connection has ended unannounced.
func (o *outcome) goOn(r *bufio.Reader, conn net.Conn) {
	_, _ = io.WriteString(conn, nextRequest(o.host))
	m, err := harness.ReadResponse(r, "GET")
	switch {
	case errors.Is(err, harness.ErrBefore):
		o.closed = true
		o.after = errors.New("the connection ended without an announcement")
	case err != nil:
		o.closed, o.after = true, fmt.Errorf("after the answers: %w", err)
	default:
		o.after = isNext(m)
	}
}

// follow sends a request on a connection of its own. It has to be served whatever came before it.
func (b *bench) follow() error {
	conn, err := net.DialTimeout("tcp", b.addr, trialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(trialTimeout))
	if _, err := io.WriteString(conn, nextRequest(b.host)); err != nil {
		return err
	}
	m, err := harness.ReadResponse(bufio.NewReader(conn), "GET")
	if err != nil {
		return fmt.Errorf("the next request: %w", err)
	}
	return isNext(m)
}

// isNext holds that an answer is the one to the request for /next, and no other.
func isNext(m *harness.Message) error {
	if m.Status() != 200 || m.Get("X-Seen") != "/next" || m.Body != "ok" {
		return fmt.Errorf("the next request is answered %q, X-Seen %q, body %.100q", m.Line, m.Get("X-Seen"), m.Body)
	}
	return nil
}

// String shows an outcome in a report.
func (o *outcome) String() string {
	var b strings.Builder
	for _, m := range slices.Concat(o.interim, o.answers) {
		fmt.Fprintf(&b, "\n    answer   %q fields %q body %.200q trailer %q", m.Line, m.Fields, m.Body, m.Trailer)
	}
	if o.broken != nil {
		fmt.Fprintf(&b, "\n    broken   %v", o.broken)
	}
	fmt.Fprintf(&b, "\n    closed   %v", o.closed)
	for _, s := range o.seen {
		fmt.Fprintf(&b, "\n    upstream %q fields %q body %.200q trailer %q error %v", s.Line, s.Fields, s.Body, s.Trailer, s.Err)
	}
	if o.after != nil {
		fmt.Fprintf(&b, "\n    after    %v", o.after)
	}
	return b.String()
}

// judge runs a trial and reports what is wrong. A trial of a known difference has to go wrong: else the list is stale.
func (b *bench) judge(t *testing.T, tr trial, known string) {
	t.Helper()
	o, err := b.run(tr)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(tr.want(o), o.after)
	switch {
	case err != nil && known == "":
		t.Errorf("%v\n    sent     %.600q", err, tr.request())
		if tr.reply != "" || tr.then != "" {
			t.Errorf("    replied  %.600q, then %q", tr.reply, tr.then)
		}
		t.Errorf("    got      %v", o)
	case err == nil && known != "":
		t.Errorf("this is no difference any more: take it off the list (%s)", known)
	case err != nil:
		t.Logf("a known difference: %s", known)
	}
}

// ending says how the answers broke off, if they did.
func (o *outcome) ending() string {
	if o.broken == nil {
		return ""
	}
	return " (" + o.broken.Error() + ")"
}
