package httpwire

import "errors"

// ErrIncomplete says that more bytes are needed; nothing was used.
var ErrIncomplete = errors.New("message is incomplete")

// isIncomplete compares without errors.Is: it is asked for every read, and ErrIncomplete is never wrapped here.
func isIncomplete(err error) bool { return err == ErrIncomplete } //nolint:errorlint // see above

// Error is a message that is refused. The connection cannot be used any further.
type Error struct {
	// Status is the status code to answer with.
	Status int
	// Reason says what is wrong, without repeating input.
	Reason string

	cause *Error // of a response: one of the errors below
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

// Unwrap returns which of the errors below it is, if it is not one itself.
func (e *Error) Unwrap() error {
	if e.cause == nil {
		return nil
	}
	return e.cause
}

// What is wrong with a message. The status is that of the answer to a request; a response with such an error is answered
// with 502.
var (
	ErrLineEnd        = &Error{Status: 400, Reason: "a line does not end with CRLF"}
	ErrRequestLine    = &Error{Status: 400, Reason: "malformed request line"}
	ErrMethod         = &Error{Status: 400, Reason: "the method is no token"}
	ErrTarget         = &Error{Status: 400, Reason: "malformed request target"}
	ErrTargetLong     = &Error{Status: 414, Reason: "the request target is too long"}
	ErrVersion        = &Error{Status: 505, Reason: "unsupported HTTP version"}
	ErrHeadLong       = &Error{Status: 431, Reason: "the head is too long"}
	ErrManyFields     = &Error{Status: 431, Reason: "too many fields"}
	ErrManyOptions    = &Error{Status: 431, Reason: "too many connection options"}
	ErrFieldFold      = &Error{Status: 400, Reason: "a field is folded over lines"}
	ErrFieldName      = &Error{Status: 400, Reason: "a field name is no token"}
	ErrFieldValue     = &Error{Status: 400, Reason: "a field value has a control character"}
	ErrHost           = &Error{Status: 400, Reason: "missing, repeated or malformed Host"}
	ErrHostMismatch   = &Error{Status: 400, Reason: "the request target and Host disagree"}
	ErrContentLength  = &Error{Status: 400, Reason: "malformed or repeated Content-Length"}
	ErrLengthTwice    = &Error{Status: 400, Reason: "both Content-Length and Transfer-Encoding"}
	ErrTransferCoding = &Error{Status: 501, Reason: "unsupported transfer coding"}
	ErrEncodingOld    = &Error{Status: 400, Reason: "Transfer-Encoding in an HTTP/1.0 message"}
	ErrExpectation    = &Error{Status: 417, Reason: "unknown expectation"}
	ErrChunk          = &Error{Status: 400, Reason: "malformed chunk"}
	ErrTrailerName    = &Error{Status: 400, Reason: "a field that may not be in a trailer"}
	ErrTrailerLong    = &Error{Status: 431, Reason: "the trailer is too long"}

	// Of responses only.
	ErrStatusLine    = &Error{Status: 502, Reason: "malformed status line"}
	ErrBodyForbidden = &Error{Status: 502, Reason: "a body is announced with a status that has none"}
	ErrSwitch        = &Error{Status: 502, Reason: "a protocol switch without a protocol"}
)
