package hostsvc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxLDAPAnswer bounds what is read for one use of a connection: an entry with its groups is some kilobytes.
const maxLDAPAnswer = 4 << 20

// ldapLife is how long a connection is used at most, so that what changes behind a name is noticed.
const ldapLife = 10 * time.Minute

// ldapConn is a connection that is used by one at a time.
type ldapConn struct {
	*ldap.Conn
	raw    *boundedConn
	host   *ldapHost
	made   time.Time
	idle   time.Time // since when
	reader bool      // logged in as the account of the configuration, or as nobody if there is none
}

// boundedConn reads no more than it is allowed to.
type boundedConn struct {
	net.Conn
	left atomic.Int64
}

var errLongAnswer = fmt.Errorf("the directory answers with more than %d bytes", maxLDAPAnswer)

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left <= 0 {
		return 0, errLongAnswer
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.left.Add(-int64(n))
	return n, err
}

// arm gives the connection until then, and fresh allowance; rest takes the time limit away.
func (c *ldapConn) arm(until time.Time) {
	c.raw.left.Store(maxLDAPAnswer)
	_ = c.raw.SetDeadline(until)
}

func (c *ldapConn) rest() { _ = c.raw.SetDeadline(time.Time{}) }

// drop closes the connection; it says goodbye if that is possible at once.
func (c *ldapConn) drop() {
	_ = c.raw.SetDeadline(time.Now().Add(100 * time.Millisecond))
	_ = c.Unbind()
	_ = c.Close()
}

// connectLDAP connects to a host of the server, with TLS begun.
func connectLDAP(s *LDAPServer, host *ldapHost, until time.Time) (*ldapConn, error) {
	if by := time.Now().Add(s.ConnectTimeout); by.Before(until) {
		until = by
	}
	ctx, cancel := context.WithDeadline(context.Background(), until) // a request has no context; its time is what counts
	defer cancel()
	plain, err := NewDialer(s.Egress, 0).DialContext(ctx, "tcp", host.address)
	if err != nil {
		return nil, err
	}
	raw := &boundedConn{Conn: plain}
	raw.left.Store(maxLDAPAnswer)
	conn, err := protect(ctx, s, host.address, raw, until)
	if err != nil {
		plain.Close()
		return nil, err
	}
	c := &ldapConn{Conn: ldap.NewConn(conn, s.Security != LDAPPlain), raw: raw, host: host, made: time.Now()}
	c.reader = s.BindDN == ""
	c.Start()
	return c, nil
}

// protect begins TLS. There is no way on without it where it is asked for.
func protect(ctx context.Context, s *LDAPServer, address string, raw net.Conn, until time.Time) (net.Conn, error) {
	if s.Security == LDAPPlain {
		return raw, nil
	}
	if err := raw.SetDeadline(until); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if s.Security == LDAPStartTLS {
		if err := startTLS(raw); err != nil {
			return nil, err
		}
	}
	conn := tls.Client(raw, verifying(address, s.ServerName, s.Authorities))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, &tlsError{err}
	}
	return conn, nil
}

// tlsError tells failures of TLS from others.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

// startTLSRequest is message 1, an ExtendedRequest with the name of StartTLS (RFC 4511 section 4.14).
const startTLSRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

var errNoStartTLS = errors.New("the directory does not begin TLS")

// startTLS asks for TLS. It reads the answer and not a byte more: what somebody on the way puts behind it would be taken for
// something that was said under TLS.
func startTLS(conn net.Conn) error {
	if _, err := io.WriteString(conn, startTLSRequest); err != nil {
		return fmt.Errorf("ask for TLS: %w", err)
	}
	message, err := readElement(conn, 0x30)
	if err != nil {
		return err
	}
	id, rest, err := cutElement(message, 0x02)
	if err != nil || string(id) != "\x01" {
		return errNoStartTLS
	}
	response, _, err := cutElement(rest, 0x78)
	if err != nil {
		return errNoStartTLS
	}
	if code, _, err := cutElement(response, 0x0a); err != nil || string(code) != "\x00" {
		return errNoStartTLS
	}
	return nil
}

// maxStartTLSAnswer is more than a result with a text.
const maxStartTLSAnswer = 4096

// readElement reads one BER element with that tag.
func readElement(r io.Reader, tag byte) ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read answer about TLS: %w", err)
	}
	size := int(head[1])
	if head[0] != tag || size == 0x80 || size > 0x82 {
		return nil, errNoStartTLS
	}
	if size > 0x80 {
		more := make([]byte, size-0x80)
		if _, err := io.ReadFull(r, more); err != nil {
			return nil, fmt.Errorf("read answer about TLS: %w", err)
		}
		size = 0
		for _, b := range more {
			size = size<<8 | int(b)
		}
	}
	if size > maxStartTLSAnswer {
		return nil, errNoStartTLS
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read answer about TLS: %w", err)
	}
	return body, nil
}

// cutElement cuts the first BER element off, which has to have that tag.
func cutElement(b []byte, tag byte) (body, rest []byte, err error) {
	r := bytes.NewReader(b)
	body, err = readElement(r, tag)
	return body, b[len(b)-r.Len():], err
}
