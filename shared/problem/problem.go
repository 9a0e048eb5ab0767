// Package problem is the one form in which Keyward says what went wrong: RFC 9457 problem details with a stable code and,
// for input that breaks rules, every violation with its place in the document. Codes are attached once, where they are
// known, and rendered once, at the edge. It must not hold secrets: a reason says what is expected, never the value of a
// secret field. Both planes, the admin API and the command line use it.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const typePrefix = "urn:keyward:problem:"

// ContentType is the media type of a rendered Problem.
const ContentType = "application/problem+json"

// Code is the stable word for a class of problems, which programs branch on.
type Code string

// The codes. Each has one HTTP status.
const (
	Malformed            Code = "malformed"
	Unauthenticated      Code = "unauthenticated"
	Forbidden            Code = "forbidden"
	NotFound             Code = "not_found"
	Conflict             Code = "conflict"
	PreconditionFailed   Code = "precondition_failed"
	TooLarge             Code = "too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	Invalid              Code = "invalid"
	RateLimited          Code = "rate_limited"
	Internal             Code = "internal"
	Unavailable          Code = "unavailable"
)

type codeInfo struct {
	code   Code
	status int
	title  string
}

// codeInfos lists every code with its status and title; a function, so that nothing can change it.
func codeInfos() [12]codeInfo {
	return [...]codeInfo{
		{Malformed, http.StatusBadRequest, "The request is malformed"},
		{Unauthenticated, http.StatusUnauthorized, "Authentication is required"},
		{Forbidden, http.StatusForbidden, "Not allowed"},
		{NotFound, http.StatusNotFound, "Not found"},
		{Conflict, http.StatusConflict, "The request conflicts with what is stored"},
		{PreconditionFailed, http.StatusPreconditionFailed, "A precondition does not hold"},
		{TooLarge, http.StatusRequestEntityTooLarge, "The request is too large"},
		{UnsupportedMediaType, http.StatusUnsupportedMediaType, "The media type is not supported"},
		{Invalid, http.StatusUnprocessableEntity, "The document breaks rules"},
		{RateLimited, http.StatusTooManyRequests, "Too many requests"},
		{Internal, http.StatusInternalServerError, "Internal error"},
		{Unavailable, http.StatusServiceUnavailable, "Temporarily unavailable"},
	}
}

// Codes lists every code, ordered by status.
func Codes() []Code {
	infos := codeInfos()
	codes := make([]Code, 0, len(infos))
	for _, i := range infos {
		codes = append(codes, i.code)
	}
	return codes
}

// Status returns the HTTP status of a code, 500 for an unknown one.
func (c Code) Status() int { return c.info().status }

// Title returns the short sentence that heads problems of this code.
func (c Code) Title() string { return c.info().title }

func (c Code) info() codeInfo {
	infos := codeInfos()
	if i := slices.IndexFunc(infos[:], func(i codeInfo) bool { return i.code == c }); i >= 0 {
		return infos[i]
	}
	return codeInfo{Internal, http.StatusInternalServerError, "Internal error"}
}

// CodeOf returns the code of an HTTP status. An unknown 4xx is Malformed, anything else unknown is Internal.
func CodeOf(status int) Code {
	for _, i := range codeInfos() {
		if i.status == status {
			return i.code
		}
	}
	if status >= 400 && status < 500 {
		return Malformed
	}
	return Internal
}

// Problem is a problem detail of RFC 9457, extended by a code and violations.
type Problem struct {
	Type       string      `json:"type"`
	Title      string      `json:"title"`
	Status     int         `json:"status"`
	Detail     string      `json:"detail,omitempty"`
	Code       Code        `json:"code"`
	Violations []Violation `json:"violations,omitempty"`
}

// New returns a problem of a code; detail says what happened this time.
func New(code Code, detail string) *Problem {
	return &Problem{Type: typePrefix + string(code), Title: code.Title(), Status: code.Status(), Detail: detail, Code: code}
}

// FromViolations returns the problem for broken rules: of the code that all of them have, a failed precondition if any is
// one, else Invalid. It returns nil if there are none.
func FromViolations(vs []Violation) *Problem {
	if len(vs) == 0 {
		return nil
	}
	p := New(codeOfViolations(vs), fmt.Sprintf("%d violations", len(vs)))
	if len(vs) == 1 {
		p.Detail = vs[0].String()
	}
	p.Violations = vs
	return p
}

func codeOfViolations(vs []Violation) Code {
	code := vs[0].Code
	for _, v := range vs {
		if v.Code == PreconditionFailed {
			return PreconditionFailed
		}
		if v.Code != code {
			code = Invalid
		}
	}
	if code == "" {
		return Invalid
	}
	return code
}

// JSON renders the problem. It cannot fail: a Problem has no type that JSON cannot hold.
func (p *Problem) JSON() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		return []byte(`{"type":"urn:keyward:problem:internal","title":"Internal error","status":500,"code":"internal"}`)
	}
	return b
}

// Parse reads a rendered problem, as a client does.
func Parse(body []byte) (*Problem, error) {
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("parse problem: %w", err)
	}
	if p.Code == "" {
		p.Code = CodeOf(p.Status)
	}
	return &p, nil
}

// Error carries a Problem through Go code; errors.As finds it.
type Error struct {
	Problem *Problem
	cause   error
}

// Errorf returns an error of a code. A %w operand stays reachable for errors.Is but see Wrap about what callers are told.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Problem: New(code, err.Error()), cause: errors.Unwrap(err)}
}

// Wrap attaches a code and a detail for the caller to an error whose own text is only for our logs.
func Wrap(code Code, detail string, cause error) *Error {
	return &Error{Problem: New(code, detail), cause: cause}
}

// Violated returns the error for broken rules, nil if there are none.
func Violated(vs []Violation) error {
	if len(vs) == 0 {
		return nil
	}
	return &Error{Problem: FromViolations(vs)}
}

// Error returns the detail, or the title where there is none, and every violation.
func (e *Error) Error() string {
	var b strings.Builder
	if b.WriteString(e.Problem.Detail); e.Problem.Detail == "" {
		b.WriteString(e.Problem.Title)
	}
	if len(e.Problem.Violations) > 1 {
		for _, v := range e.Problem.Violations {
			b.WriteString("; " + v.String())
		}
	}
	return b.String()
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Of returns the problem inside an error. An error without one is an internal error whose text is not shown to callers.
func Of(err error) *Problem {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Problem
	}
	return New(Internal, "")
}
