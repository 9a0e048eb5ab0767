package server

import (
	"io"
	"net/http"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/trace"
)

// writeLocal sends an answer of the gateway's own.
func (c *call) writeLocal() {
	x := &c.x
	x.Response.Header.Del("Content-Length")
	x.Response.Header.Set(c.field("Server", "keyward"))
	length := int64(len(x.Response.Body))
	if x.Response.Status == http.StatusNoContent || x.Response.Status == http.StatusNotModified {
		length = -1
	}
	c.begin(length)
	var err error
	if c.withBody() {
		err = c.wire.write(x.Response.Body, false)
		c.out.BytesOut += length
	}
	if err == nil {
		err = c.wire.finish(nil)
	}
	if err != nil {
		c.abort = true
	}
}

// begin hands the head of the response to the wire.
func (c *call) begin(length int64) {
	t := &c.x.Timings
	if t.HeadSent = t.UpstreamHead; t.HeadSent.IsZero() { // nothing since then has waited, and a clock costs
		t.HeadSent = t.Now()
	}
	c.headSent = true
	trace.Respond(&c.x)
	if c.x.Request.TLS && c.rt != nil {
		if hsts := c.rt.TransportSecurity(c.x.Request.Host); hsts != nil {
			c.x.Response.Header.Set(*hsts)
		}
	}
	c.out.Status = c.x.Response.Status
	c.wire.begin(c, length)
}

// withBody says whether the response has a body (RFC 9110 section 6.4.1).
func (c *call) withBody() bool {
	status := c.x.Response.Status
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified && string(c.x.Request.Method) != http.MethodHead
}

// field makes a field that lives as long as the exchange.
func (c *call) field(name, value string) exchange.Header {
	return exchange.Header{Name: c.copy(name), Value: c.copy(value)}
}

func (c *call) copy(s string) []byte { return append(c.x.Alloc(len(s)), s...) }

// ended says whether an error of a body is its end.
func ended(err error) bool { return err == io.EOF } //nolint:errorlint // as io.Reader says
