package rest

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
)

const contentTypeJSON = "application/json"

// answer writes a JSON body.
func (c *call) answer(status int, body []byte) {
	c.w.Header().Set("Content-Type", contentTypeJSON)
	c.write(status, body)
}

func (c *call) write(status int, body []byte) {
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return
	}
	if _, err := c.w.Write(body); err != nil {
		c.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// fail writes the problem of an error: of our own, or of a status the RPC ended with.
func (c *call) fail(err error) {
	var p *problem.Problem
	if own, ok := errors.AsType[*problem.Error](err); ok {
		p = own.Problem
	} else {
		p = grpcstatus.ToProblem(err)
	}
	wait := grpcstatus.RetryAfter(err)
	if wait == 0 && p.Status == http.StatusServiceUnavailable {
		wait = time.Second
	}
	if wait > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	if p.Status == http.StatusInternalServerError {
		c.cfg.Log.Error("request failed", "operation", c.operation(), "err", err)
	}
	c.problem(p)
}

func (c *call) problem(p *problem.Problem) {
	c.w.Header().Del("ETag")
	c.w.Header().Set("Content-Type", problem.ContentType)
	c.write(p.Status, p.JSON())
}

func (c *call) operation() string {
	if c.op == nil {
		return ""
	}
	return c.op.ID
}

func (c *call) refuseMethod(allowed []string) {
	slices.Sort(allowed)
	c.w.Header().Set("Allow", strings.Join(slices.Compact(allowed), ", "))
	p := problem.New(problem.Malformed, "this path does not take "+printable(c.r.Method))
	p.Status, p.Title = http.StatusMethodNotAllowed, "Method not allowed"
	c.problem(p)
}

// printable keeps a problem's detail readable whatever the client sent.
func printable(s string) string {
	if len(s) > 32 {
		s = s[:32]
	}
	return strings.ToValidUTF8(s, "?")
}
