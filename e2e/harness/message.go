package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
)

// Field is one field line of a message, as it was written.
type Field struct{ Name, Value string }

// Message is an HTTP/1.1 message as it stood on the wire. It is read by the letter of RFC 9112, by code that shares
// nothing with the gateway or with net/http: whatever a reader could understand in two ways is an error.
type Message struct {
	// Line is the request line or the status line.
	Line    string
	Fields  []Field
	Body    string
	Trailer []Field
	// Framing says how the end of the body was found: none, length, chunked or close.
	Framing string
}

// How a connection can end: between two messages; or, with io.ErrUnexpectedEOF, within one; or by force.
var (
	ErrBefore = errors.New("the connection ended before a message")
	ErrReset  = errors.New("the connection was reset")
)

// Get returns the value of the first field with the name, without regard to case.
func (m *Message) Get(name string) string {
	if v := m.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values returns the values of all fields with the name, in their order.
func (m *Message) Values(name string) []string {
	var out []string
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value)
		}
	}
	return out
}

// Has says whether there is a field with the name.
func (m *Message) Has(name string) bool { return len(m.Values(name)) > 0 }

// Status is the status code of a response.
func (m *Message) Status() int {
	_, rest, _ := strings.Cut(m.Line, " ")
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		return 0
	}
	return n
}

// Method and Target are the first two words of a request line.
func (m *Message) Method() string {
	method, _, _ := strings.Cut(m.Line, " ")
	return method
}

// Target is the request target.
func (m *Message) Target() string {
	words := strings.Split(m.Line, " ")
	if len(words) < 2 {
		return ""
	}
	return words[1]
}

// Closes says whether the message announces that its connection ends with it.
func (m *Message) Closes() bool {
	old := strings.HasPrefix(m.Line, "HTTP/1.0 ") && !m.option("keep-alive")
	return m.option("close") || m.Framing == "close" || old
}

// option says whether Connection has the option.
func (m *Message) option(name string) bool {
	for _, v := range m.Values("Connection") {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}

// ReadRequest reads a request with its body. With an error the message holds what came before.
func ReadRequest(r *bufio.Reader) (*Message, error) {
	m, err := readHead(r)
	if err != nil {
		return m, err
	}
	words := strings.Split(m.Line, " ")
	if len(words) != 3 || words[2] != "HTTP/1.1" || words[0] == "" || strings.Trim(words[0], tokenBytes) != "" || words[1] == "" || strings.Trim(words[1], visibleBytes) != "" {
		return m, fmt.Errorf("malformed request line %q", m.Line)
	}
	if n := len(m.Values("Host")); n != 1 {
		return m, fmt.Errorf("%d Host fields", n)
	}
	return m, m.readBody(r, false)
}

// ReadResponse reads a response to a request with the method; interim ones are responses, too. With an error the message
// holds what came before: a response that did not end is one.
func ReadResponse(r *bufio.Reader, method string) (*Message, error) {
	m, err := readHead(r)
	if err != nil {
		return m, err
	}
	version, rest, _ := strings.Cut(m.Line, " ")
	code, _, reason := strings.Cut(rest, " ")
	if version != "HTTP/1.1" && version != "HTTP/1.0" || len(code) != 3 || strings.Trim(code, "0123456789") != "" || !reason {
		return m, fmt.Errorf("malformed status line %q", m.Line)
	}
	if n := m.Status(); method == "HEAD" || n/100 == 1 || n == 204 || n == 304 {
		m.Framing = "none"
		if n/100 == 1 || n == 204 {
			return m, m.unframed(n)
		}
		return m, nil
	}
	return m, m.readBody(r, true)
}

// unframed holds that a message that cannot have a body has no framing fields (RFC 9110 section 8.6, RFC 9112 section 6.1).
func (m *Message) unframed(status int) error {
	if m.Has("Content-Length") || m.Has("Transfer-Encoding") {
		return fmt.Errorf("a %d with framing fields", status)
	}
	return nil
}

const (
	tokenBytes   = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	visibleBytes = tokenBytes + "\"(),/:;<=>?@[\\]{}"
)

func readHead(r *bufio.Reader) (*Message, error) {
	m := &Message{}
	line, err := readLine(r)
	if err != nil {
		if line == "" && errors.Is(err, io.ErrUnexpectedEOF) {
			return m, ErrBefore
		}
		return m, err
	}
	m.Line = line
	m.Fields, err = readFields(r)
	return m, err
}

// readLine reads to the next CRLF and returns the line without it.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return line, fmt.Errorf("the connection ended in a line: %w", noEOF(err))
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\x00") {
		return line, fmt.Errorf("line %q does not end with CRLF, or has CR or NUL in it", line)
	}
	return text, nil
}

func readFields(r *bufio.Reader) ([]Field, error) {
	var out []Field
	for {
		line, err := readLine(r)
		if err != nil || line == "" {
			return out, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.Trim(name, tokenBytes) != "" {
			return out, fmt.Errorf("field line %q has no token for a name", line)
		}
		value = strings.Trim(value, " \t")
		if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return out, fmt.Errorf("field line %q has a control character", line)
		}
		out = append(out, Field{name, value})
	}
}

// readBody reads the body as the framing fields say.
func (m *Message) readBody(r *bufio.Reader, untilClose bool) error {
	codings, lengths := m.Values("Transfer-Encoding"), m.Values("Content-Length")
	switch {
	case len(codings) > 0 && len(lengths) > 0:
		return errors.New("both Content-Length and Transfer-Encoding")
	case len(codings) > 1 || len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return fmt.Errorf("codings %q", codings)
	case len(codings) == 1:
		m.Framing = "chunked"
		return m.readChunks(r)
	case len(lengths) > 1:
		return fmt.Errorf("lengths %q", lengths)
	case len(lengths) == 1:
		m.Framing = "length"
		return m.readLength(r, lengths[0])
	case untilClose:
		m.Framing = "close"
		b, err := io.ReadAll(r)
		m.Body = string(b)
		return noEOF(err)
	}
	m.Framing = "none"
	return nil
}

func (m *Message) readLength(r *bufio.Reader, length string) error {
	n, err := strconv.ParseUint(length, 10, 63)
	if err != nil {
		return fmt.Errorf("length %q", length)
	}
	b := make([]byte, n)
	have, err := io.ReadFull(r, b)
	m.Body = string(b[:have])
	return noEOF(err)
}

func (m *Message) readChunks(r *bufio.Reader) error {
	var body strings.Builder
	defer func() { m.Body = body.String() }()
	for {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(size, 16, 63)
		if err != nil {
			return fmt.Errorf("chunk size %q", line)
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&body, r, int64(n)); err != nil {
			return noEOF(err)
		}
		switch end, err := readLine(r); {
		case err != nil:
			return err
		case end != "":
			return fmt.Errorf("a chunk ends with %q", end)
		}
	}
	trailer, err := readFields(r)
	m.Trailer = trailer
	return err
}

// noEOF turns an end within a message into what it is.
func noEOF(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ErrReset
	}
	return err
}
