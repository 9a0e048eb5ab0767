package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	rawTimeout = 10 * time.Second
	// rawQuiet is how long nothing has to come after an answer for it to be the last one.
	rawQuiet = 300 * time.Millisecond
)

// RawCall sends a request whose target is written as it is, and returns the answer, whose body is in memory.
func (g *Gateway) RawCall(t testing.TB, method, host, target string, headers ...string) *http.Response {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, target, host)
	for i := 0; i+1 < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	answers := g.Raw(t, b.String()+"\r\n")
	if len(answers) == 0 {
		t.Fatalf("%s %s: the connection was closed without an answer", method, target)
	}
	return answers[0]
}

// Raw writes bytes to a new connection, reads every answer until the gateway closes it or nothing comes for a while, and
// returns them with their bodies in memory. Interim answers are left out.
func (g *Gateway) Raw(t testing.TB, request string) []*http.Response {
	t.Helper()
	answers, err := RawTo(g.HTTP, request)
	if err != nil {
		t.Fatalf("%.200q: %v", request, err)
	}
	return answers
}

// RawTo is Raw to any address.
func RawTo(addr, request string) ([]*http.Response, error) {
	conn, err := net.DialTimeout("tcp", addr, rawTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(rawTimeout)); err != nil {
		return nil, err
	}
	go func() { _, _ = io.WriteString(conn, request) }() // a gateway may refuse before it has read everything
	var answers []*http.Response
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if ended(err) || (len(answers) > 0 && errors.Is(err, os.ErrDeadlineExceeded)) {
				return answers, nil
			}
			return answers, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return answers, err
		}
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if resp.StatusCode/100 == 1 {
			continue
		}
		answers = append(answers, resp)
		if err := conn.SetReadDeadline(time.Now().Add(rawQuiet)); err != nil {
			return answers, err
		}
	}
}

// ended says whether the other side has closed the connection between two answers.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "connection reset")
}
