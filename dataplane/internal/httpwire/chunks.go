package httpwire

// Chunks decodes a chunked body (RFC 9112 section 7.1) piece by piece. The zero value is at the beginning.
type Chunks struct {
	state     chunkState
	remaining int64
	// overhead counts bytes of extensions since the last data and of the trailer, which carry nothing and are bounded
	overhead int
}

type chunkState uint8

const (
	atSize chunkState = iota
	inData
	afterData
	inTrailer
	atEnd
)

const (
	maxChunkLine = 512
	maxOverhead  = 16 << 10
	maxSizeHex   = 15 // a size below 2^60
)

// Done says that the body has ended.
func (c *Chunks) Done() bool { return c.state == atEnd }

// Next decodes from the beginning of buf: it returns a piece of data in place and how many bytes were used, with or
// without data. ErrIncomplete means that more bytes are needed. After Done nothing more is used. Trailer fields are
// checked and dropped.
func (c *Chunks) Next(buf []byte) (data []byte, n int, err error) {
	for !c.Done() {
		if c.state == inData {
			piece := min(c.remaining, int64(len(buf)-n))
			if piece == 0 {
				return nil, n, incompleteAfter(n)
			}
			data = buf[n : n+int(piece)]
			if c.remaining -= piece; c.remaining == 0 {
				c.state = afterData
			}
			return data, n + int(piece), nil
		}
		used, err := c.step(buf[n:])
		if err == ErrIncomplete { //nolint:errorlint // ours, and never wrapped
			return nil, n, incompleteAfter(n)
		}
		if err != nil {
			return nil, 0, err
		}
		n += used
	}
	return nil, n, nil
}

// incompleteAfter: progress is reported first, the lack of bytes at the next call.
func incompleteAfter(n int) error {
	if n > 0 {
		return nil
	}
	return ErrIncomplete
}

// step reads one line.
func (c *Chunks) step(buf []byte) (int, error) {
	line, size, err := cutLine(buf)
	if err == ErrIncomplete && len(buf) > maxChunkLine { //nolint:errorlint // ours, and never wrapped
		return 0, ErrChunk
	}
	if err != nil {
		return 0, err
	}
	switch c.state {
	case afterData:
		if len(line) > 0 {
			return 0, ErrChunk
		}
		c.state = atSize
	case atSize:
		err = c.size(line)
	case inTrailer:
		err = c.trailer(line)
	}
	return size, err
}

func (c *Chunks) size(line []byte) error {
	i, n := 0, int64(0)
	for ; i < len(line) && isHex(line[i]); i++ {
		n = n<<4 | hexValue(line[i])
	}
	if i == 0 || i > maxSizeHex || len(line) > maxChunkLine {
		return ErrChunk
	}
	if ext := line[i:]; len(ext) > 0 {
		if ext[0] != ';' {
			return ErrChunk
		}
		for _, b := range ext {
			if b < ' ' && b != '\t' || b >= 0x7f {
				return ErrChunk
			}
		}
		if c.overhead += len(ext); c.overhead > maxOverhead {
			return ErrChunk
		}
	}
	c.remaining, c.state = n, inData
	if n == 0 {
		c.state = inTrailer
	}
	return nil
}

func (c *Chunks) trailer(line []byte) error {
	if len(line) == 0 {
		c.state = atEnd
		return nil
	}
	if c.overhead += len(line); c.overhead > maxOverhead {
		return ErrTrailerLong
	}
	_, err := parseField(line)
	return err
}
