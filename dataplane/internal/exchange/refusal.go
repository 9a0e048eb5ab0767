package exchange

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
)

// Refusal is an answer that the gateway gives itself, prepared when a policy is built: status, header fields and, unless
// it is a plain answer, a problem document (RFC 9457) with a place for the exchange's id. It is shared and never changed.
type Refusal struct {
	status      int
	code        string
	reason      string // empty: the code
	detail      string
	header      Headers
	head, tail  []byte // the body before and after the id; nil: no body
	text        []byte // the body of a plain answer; nil: none
	plainAnswer bool
	absent      bool
}

// NewRefusal prepares a refusal. The code is a stable snake_case word; detail tells the caller what to do.
func NewRefusal(status int, code, detail string, header ...Header) *Refusal {
	r := &Refusal{status: status, code: code, detail: detail}
	r.header = append(r.header, Field("Content-Type", "application/problem+json"), Field("Cache-Control", "no-store"))
	r.header = append(r.header, header...)
	r.head = fmt.Appendf(nil, `{"type":"about:blank","title":%s,"status":%d,"code":%s,"detail":%s,"instance":"urn:uuid:`,
		quoted(cmp.Or(Reason(status), "Status "+strconv.Itoa(status))), status, quoted(code), quoted(detail))
	r.tail = []byte("\"}\n")
	return r
}

// NewAnswer prepares an answer without a body that is no refusal, e.g. that to a preflight request.
func NewAnswer(status int, header ...Header) *Refusal {
	return &Refusal{status: status, code: "answered", header: header, plainAnswer: true}
}

// NewText prepares an answer with a body that is no refusal.
func NewText(status int, text []byte, header ...Header) *Refusal {
	r := NewAnswer(status, header...)
	r.text = text
	return r
}

// Status returns the status code.
func (r *Refusal) Status() int { return r.status }

// Code returns the stable word for what happened.
func (r *Refusal) Code() string { return r.code }

// Because returns the same answer with another word for the access log, which callers are not told.
func (r *Refusal) Because(reason string) *Refusal {
	other := *r
	other.reason = reason
	return &other
}

// Absent returns the same answer, marked as that to somebody who has presented nothing at all.
func (r *Refusal) Absent() *Refusal {
	other := *r
	other.absent = true
	return &other
}

// IsAbsent says that no credential was presented.
func (r *Refusal) IsAbsent() bool { return r.absent }

// Reason returns the word for the access log: mostly the code.
func (r *Refusal) Reason() string { return cmp.Or(r.reason, r.code) }

// Detail returns the sentence for people.
func (r *Refusal) Detail() string { return r.detail }

// Header returns the prepared fields; they must not be changed.
func (r *Refusal) Header() Headers { return r.header }

// IsAnswer says that nothing was refused.
func (r *Refusal) IsAnswer() bool { return r.plainAnswer }

// Field makes a header field from strings.
func Field(name, value string) Header { return Header{Name: []byte(name), Value: []byte(value)} }

// Refuse records why the request must not go on; the policy then returns Stop. What becomes of it is the chain's
// decision: an alternative may pass, or the binding only reports.
func (x *Exchange) Refuse(r *Refusal) { x.refusal = r }

// Refusal returns the recorded refusal, nil if there is none.
func (x *Exchange) Refusal() *Refusal { return x.refusal }

// TakeRefusal returns the recorded refusal and forgets it.
func (x *Exchange) TakeRefusal() *Refusal {
	r := x.refusal
	x.refusal = nil
	return r
}

// Answer makes r the response, in place of any that is there.
func (x *Exchange) Answer(r *Refusal) {
	x.refusal = r
	x.Response.Status, x.Response.Local, x.Response.Body = r.status, true, r.text
	x.Response.Header = append(x.Response.Header[:0], r.header...)
	if r.head == nil {
		return
	}
	body := append(x.Alloc(len(r.head)+idLen+len(r.tail)), r.head...)
	body = x.ID().Append(body)
	x.Response.Body = append(body, r.tail...)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return strconv.Quote(s)
	}
	return string(b)
}
