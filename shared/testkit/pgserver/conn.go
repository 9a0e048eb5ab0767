package pgserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A few statements are all this package needs, so it speaks the few messages of the protocol itself: a driver here would
// become a requirement of every module that shares this one, the gateway's among them.

const (
	protocolVersion = 3 << 16
	maxMessage      = 64 << 20
	sqlTimeout      = time.Minute
)

// Exec runs one statement as the superuser.
func (s *Server) Exec(ctx context.Context, database, statement string) error {
	_, err := s.Query(ctx, database, statement)
	return err
}

// Query runs one statement as the superuser and returns its rows as text; a null is an empty string. It takes
// "copy … to stdout" too, and then every row has one column, the line.
func (s *Server) Query(ctx context.Context, database, statement string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	rows, err := query(ctx, s.address(), database, s.password, statement)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", database, err)
	}
	return rows, nil
}

func query(ctx context.Context, address, database, password, statement string) ([][]string, error) {
	var d net.Dialer
	socket, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })()

	c := &conn{Writer: socket, in: bufio.NewReader(socket)}
	startup := binary.BigEndian.AppendUint32(nil, protocolVersion)
	for _, word := range []string{"user", Superuser, "database", database, ""} {
		startup = append(append(startup, word...), 0)
	}
	if err := c.send(0, startup); err != nil {
		return nil, err
	}
	if err := c.authenticate(password); err != nil {
		return nil, err
	}
	if _, err := c.rows(); err != nil { // up to the first "ready for query"
		return nil, err
	}
	if err := c.send('Q', append([]byte(statement), 0)); err != nil {
		return nil, err
	}
	rows, err := c.rows()
	if err != nil {
		return nil, err
	}
	return rows, c.send('X', nil)
}

type conn struct {
	io.Writer
	in *bufio.Reader
}

// send writes a message; the first one of a connection has no type.
func (c *conn) send(kind byte, body []byte) error {
	var message []byte
	if kind != 0 {
		message = append(message, kind)
	}
	message = binary.BigEndian.AppendUint32(message, uint32(len(body)+4))
	_, err := c.Write(append(message, body...))
	return err
}

func (c *conn) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > maxMessage {
		return 0, nil, fmt.Errorf("message of %d bytes", size)
	}
	body = make([]byte, size-4)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return 0, nil, err
	}
	if head[0] == 'E' {
		return 0, nil, serverError(body)
	}
	return head[0], body, nil
}

// rows reads until the server is ready for the next statement.
func (c *conn) rows() ([][]string, error) {
	var rows [][]string
	var failed error
	for {
		kind, body, err := c.receive()
		var refused *Error
		switch {
		case errors.As(err, &refused):
			failed = err
			if refused.Severity == "FATAL" {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		switch kind {
		case 'D':
			row, err := columns(body)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		case 'd':
			rows = append(rows, []string{strings.TrimSuffix(string(body), "\n")})
		case 'Z':
			return rows, failed
		}
	}
}

func columns(body []byte) ([]string, error) {
	r := bytes.NewReader(body)
	var n int16
	if err := binary.Read(r, binary.BigEndian, &n); err != nil {
		return nil, err
	}
	row := make([]string, 0, max(n, 0))
	for range n {
		var size int32
		if err := binary.Read(r, binary.BigEndian, &size); err != nil {
			return nil, err
		}
		if int(size) > r.Len() {
			return nil, io.ErrUnexpectedEOF
		}
		value := make([]byte, max(size, 0))
		if _, err := io.ReadFull(r, value); err != nil {
			return nil, err
		}
		row = append(row, string(value))
	}
	return row, nil
}

// Error is the server's refusal of a statement or a connection.
type Error struct {
	Severity, Code, Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (%s)", e.Severity, e.Message, e.Code) }

func serverError(body []byte) *Error {
	e := &Error{}
	for field := range bytes.SplitSeq(body, []byte{0}) {
		if len(field) == 0 {
			continue
		}
		switch value := string(field[1:]); field[0] {
		case 'V':
			e.Severity = value
		case 'C':
			e.Code = value
		case 'M':
			e.Message = value
		}
	}
	return e
}
