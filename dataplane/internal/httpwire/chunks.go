package httpwire

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// Chunks decodes a chunked body (RFC 9112 section 7.1) piece by piece, however it is split. The zero value is at the
// beginning.
type Chunks struct {
	state     chunkState
	digits    int   // of the size line so far
	extension int   // length of the extension of this chunk so far
	remaining int64 // of the chunk
	// overhead is by how much extensions exceed the data: they carry nothing, and so are bounded
	overhead int64

	trailer exchange.Headers
	lines   []byte // of the trailer; fields point into it
	line    int    // where in lines the unfinished one begins
}

// chunkState is what is expected next.
type chunkState uint8

const (
	atSize chunkState = iota
	inExtension
	atSizeLF
	inData
	atDataCR
	atDataLF
	inTrailer
	atEnd
)

const (
	maxExtension     = 512
	maxOverhead      = 16 << 10
	maxSizeDigits    = 15 // a size below 2^60
	maxTrailer       = 16 << 10
	maxTrailerFields = 64
	maxTrailerKept   = 4 << 10 // memory that Reset keeps
)

// Done says that the body has ended.
func (c *Chunks) Done() bool { return c.state == atEnd }

// Trailer returns the trailer fields. They are valid after Done until Reset.
func (c *Chunks) Trailer() exchange.Headers { return c.trailer }

// Reset goes back to the beginning and keeps memory for the next trailer.
func (c *Chunks) Reset() {
	clear(c.trailer)
	if cap(c.lines) > maxTrailerKept {
		c.lines = nil
	}
	*c = Chunks{trailer: c.trailer[:0], lines: c.lines[:0]}
}

// Next decodes from the beginning of buf: it returns a piece of data in place and how many bytes were used, with or
// without data. ErrIncomplete means that there was nothing to use. After Done nothing more is used.
func (c *Chunks) Next(buf []byte) (data []byte, n int, err error) {
	for n < len(buf) && c.state != atEnd {
		if c.state == inData {
			piece := int(min(c.remaining, int64(len(buf)-n)))
			if c.remaining -= int64(piece); c.remaining == 0 {
				c.state = atDataCR
			}
			return buf[n : n+piece], n + piece, nil
		}
		used, err := c.step(buf[n:])
		if err != nil {
			return nil, 0, err
		}
		n += used
	}
	if n == 0 && c.state != atEnd {
		return nil, 0, ErrIncomplete
	}
	return nil, n, nil
}

// step uses at least one byte of what is between data.
func (c *Chunks) step(buf []byte) (int, error) {
	switch c.state {
	case atSize:
		return c.size(buf)
	case inExtension:
		return c.skipExtension(buf)
	case atDataCR:
		return 1, c.expect(buf[0], '\r', atDataLF)
	case atDataLF:
		return 1, c.expect(buf[0], '\n', atSize)
	case inTrailer:
		return c.trailerLine(buf)
	}
	next := inData
	if c.remaining == 0 {
		next = inTrailer
	}
	c.digits, c.extension = 0, 0
	return 1, c.expect(buf[0], '\n', next)
}

// expect takes one byte of a line end.
func (c *Chunks) expect(got, want byte, next chunkState) error {
	if got != want {
		return unexpected(got)
	}
	c.state = next
	return nil
}

// unexpected tells a bare LF from other junk.
func unexpected(b byte) error {
	if b == '\n' {
		return ErrLineEnd
	}
	return ErrChunk
}

func (c *Chunks) size(buf []byte) (int, error) {
	n := 0
	for ; n < len(buf) && isHex(buf[n]); n++ {
		if c.digits++; c.digits > maxSizeDigits {
			return 0, ErrChunk
		}
		c.remaining = c.remaining<<4 | hexValue(buf[n])
	}
	switch {
	case n == len(buf):
		return n, nil
	case c.digits == 0:
		return 0, ErrChunk
	case buf[n] == ';':
		c.state = inExtension
	case buf[n] == '\r':
		c.sizeKnown()
	default:
		return 0, unexpected(buf[n])
	}
	return n + 1, nil
}

func (c *Chunks) skipExtension(buf []byte) (int, error) {
	n := 0
	for ; n < len(buf) && (buf[n] >= ' ' && buf[n] < 0x7f || buf[n] == '\t'); n++ {
		c.extension++
	}
	if c.extension > maxExtension || c.overhead+int64(c.extension) > maxOverhead {
		return 0, ErrChunk
	}
	if n == len(buf) {
		return n, nil
	}
	if buf[n] != '\r' {
		return 0, unexpected(buf[n])
	}
	c.sizeKnown()
	return n + 1, nil
}

// sizeKnown accounts for the size line, which has ended.
func (c *Chunks) sizeKnown() {
	c.state = atSizeLF
	c.overhead = max(0, c.overhead+int64(c.extension)-c.remaining)
}

// trailerLine takes what there is of a line of the trailer, and the field on it once it has ended.
func (c *Chunks) trailerLine(buf []byte) (int, error) {
	n := bytes.IndexByte(buf, '\n') + 1
	ended := n > 0
	if !ended {
		n = len(buf)
	}
	if len(c.lines)+n > maxTrailer {
		return 0, ErrTrailerLong
	}
	c.lines = append(c.lines, buf[:n]...)
	if !ended {
		return n, nil
	}
	line := c.lines[c.line:]
	c.line = len(c.lines)
	if string(line) == "\r\n" {
		c.state = atEnd
		return n, nil
	}
	return n, c.trailerField(line)
}

func (c *Chunks) trailerField(line []byte) error {
	f, err := parseField(line, 0)
	switch {
	case err != nil:
		return err
	case !ValidTrailerName(line[:f.colon]):
		return ErrTrailerName
	case len(c.trailer) >= maxTrailerFields:
		return ErrManyFields
	}
	c.trailer = append(c.trailer, exchange.Header{Name: line[:f.colon], Value: line[f.value:f.end]})
	return nil
}
