package harness

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Frames is a client of HTTP/2 that sends what it is told, frame by frame, whatever the protocol says about it.
type Frames struct {
	conn *tls.Conn
	fr   *http2.Framer

	write sync.Mutex // guards what follows, and writing
	block bytes.Buffer
	enc   *hpack.Encoder
}

// H2Response is what came back on a stream.
type H2Response struct {
	Status  int
	Interim []int
	Fields  []Field
	Body    string
	Trailer []Field
	// Ended: END_STREAM came. Reset: RST_STREAM came, with Code.
	Ended, Reset bool
	Code         http2.ErrCode
	// Gone: the connection ended, or GOAWAY said that the stream was not looked at.
	Gone bool
}

const framesTimeout = 10 * time.Second

// DialFrames opens a connection, over TLS with ALPN, and exchanges settings.
func DialFrames(addr, name string, roots *x509.CertPool) (*Frames, error) {
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}}
	raw, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn, ok := raw.(*tls.Conn)
	if !ok || conn.ConnectionState().NegotiatedProtocol != "h2" {
		raw.Close()
		return nil, errors.New("the gateway does not speak HTTP/2")
	}
	if err := conn.SetDeadline(time.Now().Add(framesTimeout)); err != nil {
		return nil, err
	}
	c := &Frames{conn: conn, fr: http2.NewFramer(conn, conn)}
	c.fr.AllowIllegalWrites, c.fr.AllowIllegalReads = true, false
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	return c, c.fr.WriteSettings()
}

// Close closes the connection.
func (c *Frames) Close() error { return c.conn.Close() }

// Headers sends a header block: name, value, name, value…
func (c *Frames) Headers(stream uint32, end bool, fields ...string) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return err
		}
	}
	return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true})
}

// Data sends data.
func (c *Frames) Data(stream uint32, end bool, data string) error {
	c.write.Lock()
	defer c.write.Unlock()
	return c.fr.WriteData(stream, end, []byte(data))
}

// Message sends a message on a stream: fields, data and trailer, the last of which ends the stream unless it stays open.
func (c *Frames) Message(stream uint32, open bool, fields, data, trailer []string) error {
	last := func(more ...[]string) bool {
		for _, m := range more {
			if len(m) > 0 {
				return false
			}
		}
		return !open
	}
	if err := c.Headers(stream, last(data, trailer), fields...); err != nil {
		return err
	}
	for i, d := range data {
		if err := c.Data(stream, last(data[i+1:], trailer), d); err != nil {
			return nil //nolint:nilerr // the gateway may have refused already: Await tells
		}
	}
	if len(trailer) > 0 {
		_ = c.Headers(stream, last(), trailer...)
	}
	return nil
}

// Await reads until the stream has ended one way or the other.
func (c *Frames) Await(stream uint32) (*H2Response, error) {
	s := &H2Response{}
	for !s.Ended && !s.Reset && !s.Gone {
		f, err := c.fr.ReadFrame()
		if err != nil {
			if _, malformed := errors.AsType[http2.StreamError](err); malformed {
				return s, fmt.Errorf("the gateway sent a malformed message: %w", err)
			}
			s.Gone = true // the end of the connection is an answer, too
			return s, nil
		}
		if err := c.take(s, stream, f); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (c *Frames) take(s *H2Response, stream uint32, f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.write.Lock()
			defer c.write.Unlock()
			return c.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.write.Lock()
			defer c.write.Unlock()
			return c.fr.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		s.Gone = s.Gone || f.LastStreamID < stream || f.ErrCode != http2.ErrCodeNo
		s.Code = f.ErrCode
	case *http2.RSTStreamFrame:
		if f.StreamID == stream {
			s.Reset, s.Code = true, f.ErrCode
		}
	case *http2.DataFrame:
		if f.StreamID == stream {
			s.Body += string(f.Data())
			s.Ended = f.StreamEnded()
		}
	case *http2.MetaHeadersFrame:
		if f.StreamID == stream {
			s.fields(f)
		}
	}
	return nil
}

func (s *H2Response) fields(f *http2.MetaHeadersFrame) {
	fields := make([]Field, 0, len(f.Fields))
	status := 0
	for _, h := range f.Fields {
		if h.Name == ":status" {
			status, _ = strconv.Atoi(h.Value)
			continue
		}
		fields = append(fields, Field{h.Name, h.Value})
	}
	switch {
	case status/100 == 1:
		s.Interim = append(s.Interim, status)
	case s.Status == 0:
		s.Status, s.Fields = status, fields
	default:
		s.Trailer = fields
	}
	s.Ended = f.StreamEnded()
}
