package httpwire

import "errors"

// ErrIncomplete says that more bytes are needed; nothing was used.
var ErrIncomplete = errors.New("message is incomplete")

// Error is a message that is refused. The connection cannot be used any further.
type Error struct {
	// Status is the status code to answer with.
	Status int
	// Reason says what is wrong, without repeating input.
	Reason string
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

// What is wrong with a head.
var (
	ErrLineEnd        = &Error{400, "a line does not end with CRLF"}
	ErrRequestLine    = &Error{400, "malformed request line"}
	ErrMethod         = &Error{400, "the method is no token"}
	ErrTarget         = &Error{400, "malformed request target"}
	ErrTargetLong     = &Error{414, "the request target is too long"}
	ErrVersion        = &Error{505, "unsupported HTTP version"}
	ErrHeadLong       = &Error{431, "the request head is too long"}
	ErrManyFields     = &Error{431, "too many header fields"}
	ErrFieldFold      = &Error{400, "a header field is folded over lines"}
	ErrFieldName      = &Error{400, "a header field name is no token"}
	ErrFieldValue     = &Error{400, "a header field value has a control character"}
	ErrHost           = &Error{400, "missing, repeated or malformed Host"}
	ErrHostMismatch   = &Error{400, "the request target and Host disagree"}
	ErrContentLength  = &Error{400, "malformed or repeated Content-Length"}
	ErrLengthTwice    = &Error{400, "both Content-Length and Transfer-Encoding"}
	ErrTransferCoding = &Error{501, "unsupported transfer coding"}
	ErrEncodingOld    = &Error{400, "Transfer-Encoding in an HTTP/1.0 message"}
	ErrTrailerName    = &Error{400, "Trailer names a field that may not be in a trailer"}
	ErrExpectation    = &Error{417, "unknown expectation"}
	ErrChunk          = &Error{400, "malformed chunk"}
	ErrTrailerLong    = &Error{431, "the trailer is too long"}
)
