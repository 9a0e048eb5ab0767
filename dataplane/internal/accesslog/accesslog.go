// Package accesslog writes one JSON line for each exchange. It never makes a request wait: lines that do not fit into the
// buffer are dropped and counted. It prints no credentials: no header values but the user agent, no query, and of the
// caller only names. Called by the server at the end of each exchange.
package accesslog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"keyward.dev/dataplane/internal/exchange"
)

const (
	// buffered is how many lines may wait for the writer.
	buffered = 8192
	// maxText bounds what a client can make a line hold, for each field.
	maxText = 2048
	// batchBytes is how much is written at once at most.
	batchBytes = 64 << 10
)

// Outcome is what an exchange does not say about its end.
type Outcome struct {
	// Status that was sent; 0 if nothing was.
	Status   int
	BytesIn  int64 // of the request body
	BytesOut int64 // of the response body
	// Code says why the gateway answered itself or the exchange broke off; empty if it did not.
	Code string
	// Aborted: the response is incomplete.
	Aborted bool
}

// Log buffers lines until Run writes them.
type Log struct {
	out   io.Writer
	log   *slog.Logger
	lines chan []byte
	free  chan []byte
	drops atomic.Uint64
	fails atomic.Uint64
}

// New returns a log that writes to out.
func New(out io.Writer, log *slog.Logger) *Log {
	return &Log{out: out, log: log, lines: make(chan []byte, buffered), free: make(chan []byte, buffered)}
}

// Dropped returns how many lines were not written because the buffer was full or the writer failed.
func (l *Log) Dropped() uint64 { return l.drops.Load() + l.fails.Load() }

// Observe logs an exchange. It does not block.
func (l *Log) Observe(x *exchange.Exchange, o Outcome) {
	var line []byte
	select {
	case line = <-l.free:
	default:
		line = make([]byte, 0, 512)
	}
	line = Append(line[:0], x, o)
	select {
	case l.lines <- line:
	default:
		l.drops.Add(1)
		l.recycle(line)
	}
}

func (l *Log) recycle(line []byte) {
	select {
	case l.free <- line:
	default:
	}
}

// Run writes lines until ctx ends and then those that are left.
func (l *Log) Run(ctx context.Context) error {
	batch := make([]byte, 0, batchBytes)
	for {
		select {
		case line := <-l.lines:
			batch = l.gather(append(batch[:0], line...), line)
			l.write(batch)
		case <-ctx.Done():
			for len(l.lines) > 0 {
				line := <-l.lines
				l.write(l.gather(append(batch[:0], line...), line))
			}
			return nil
		}
	}
}

// gather adds lines that wait already.
func (l *Log) gather(batch, line []byte) []byte {
	l.recycle(line)
	for len(batch) < batchBytes {
		select {
		case line := <-l.lines:
			batch = append(batch, line...)
			l.recycle(line)
		default:
			return batch
		}
	}
	return batch
}

func (l *Log) write(batch []byte) {
	if _, err := l.out.Write(batch); err != nil {
		if l.fails.Add(1) == 1 {
			l.log.Error("access log cannot be written", "err", fmt.Errorf("write access log: %w", err))
		}
	}
}

// Append appends the line of an exchange.
func Append(b []byte, x *exchange.Exchange, o Outcome) []byte {
	b = append(b, `{"time":"`...)
	b = x.Timings.Received.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","id":"`...)
	b = x.ID().Append(b)
	b = append(b, '"')
	b = address(b, "client_ip", x.Request.ClientIP)
	b = address(b, "peer", x.Request.RemoteAddr.Addr())
	b = text(b, "scheme", x.Request.Scheme)
	b = text(b, "protocol", protocol(x.Request.Proto))
	b = text(b, "method", string(x.Request.Method))
	b = text(b, "host", string(x.Request.Host))
	b = text(b, "path", string(x.Request.Path))
	b = number(b, "status", int64(o.Status))
	b = number(b, "bytes_in", o.BytesIn)
	b = number(b, "bytes_out", o.BytesOut)
	b = number(b, "duration_us", since(x.Timings.Received, x.Timings.Done))
	if !x.Timings.UpstreamStarted.IsZero() {
		b = number(b, "upstream_us", since(x.Timings.UpstreamStarted, x.Timings.UpstreamHead))
	}
	b = text(b, "route", x.Route.Name)
	b = text(b, "service", x.Route.Service)
	if p := x.Principal; p != nil {
		b = text(b, "consumer", p.Consumer)
		b = text(b, "credential", p.Credential)
	}
	b = text(b, "user_agent", string(x.Request.Header.Get("User-Agent")))
	b = text(b, "code", o.Code)
	if by := x.StoppedBy; by != nil {
		b = text(b, "policy", by.Type)
		b = text(b, "binding", by.OwnerKind+"/"+by.OwnerName+"/"+by.Name)
	}
	b = reports(b, x.Reports)
	if o.Aborted {
		b = append(b, `,"aborted":true`...)
	}
	return append(b, "}\n"...)
}

// reports lists what bindings in report mode would have refused.
func reports(b []byte, list []exchange.Report) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, `,"would_refuse":[`...)
	for i, r := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"policy":`...)
		b = quote(b, r.By.Type)
		b = text(b, "binding", r.By.OwnerKind+"/"+r.By.OwnerName+"/"+r.By.Name)
		b = number(b, "status", int64(r.Refusal.Status()))
		b = append(b, '}')
	}
	return append(b, ']')
}

func since(from, to time.Time) int64 {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return to.Sub(from).Microseconds()
}

func protocol(p int) string {
	switch p {
	case 10:
		return "HTTP/1.0"
	case 11:
		return "HTTP/1.1"
	case 20:
		return "HTTP/2"
	}
	return ""
}

func address(b []byte, key string, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	b = name(b, key)
	b = append(b, '"')
	return append(a.AppendTo(b), '"')
}

func name(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

func number(b []byte, key string, v int64) []byte { return strconv.AppendInt(name(b, key), v, 10) }

// text appends a member unless it is empty.
func text(b []byte, key, v string) []byte {
	if v == "" {
		return b
	}
	return quote(name(b, key), v)
}

// quote appends a JSON string. What clients send is data: control characters are escaped and bytes that are no UTF-8
// replaced, so that a request can neither break a line nor forge one.
func quote(b []byte, v string) []byte {
	const digits = "0123456789abcdef"
	if len(v) > maxText {
		v = v[:maxText]
	}
	b = append(b, '"')
	for _, r := range v {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		case r == 0x2028 || r == 0x2029:
			b = append(b, '\\', 'u', '2', '0', '2', digits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
