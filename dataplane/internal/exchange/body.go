package exchange

// BodyReader reads the body of a request.
type BodyReader interface {
	// ReadBody returns all of the body if it has at most limit bytes, else why it is not to be had. What was read of one
	// that is longer is not lost: the request can be forwarded all the same.
	ReadBody(limit int64) ([]byte, *Refusal)
}

// bodyState says what the exchange has of the body.
type bodyState uint8

const (
	bodyUnread bodyState = iota
	bodyRead
	bodyReplaced
)

var (
	// RefuseBodyTooLong answers for a body that is longer than whoever has to look at it can take.
	RefuseBodyTooLong = NewRefusal(413, "body_too_large", "The request body is too large to be checked.")

	refuseUnread = NewRefusal(500, "internal", "The gateway could not process the request.")
)

// Body returns all of the request's body, waiting for it if need be; it is empty if there is none. If ok is false it cannot
// be had, or is longer than limit: why is recorded, and the policy returns Stop. Policies that call it declare BODY_BUFFER.
//
// The body is as it was sent, whatever its Content-Encoding, valid until Reset, and must not be changed. Whatever can be
// refused without it should be refused before: to read costs memory and time of the caller's choosing.
func (x *Exchange) Body(limit int64) (body []byte, ok bool) {
	if x.bodyState == bodyUnread && x.Request.ContentLength != 0 && !x.readBody(limit) {
		return nil, false
	}
	if int64(len(x.body)) > limit {
		x.Refuse(RefuseBodyTooLong)
		return nil, false
	}
	return x.body, true
}

func (x *Exchange) readBody(limit int64) bool {
	if x.Bodies == nil {
		x.Refuse(refuseUnread) // nobody must take it for empty
		return false
	}
	b, r := x.Bodies.ReadBody(limit)
	if r != nil {
		x.Refuse(r)
		return false
	}
	x.body, x.bodyState = b, bodyRead
	return true
}

// ReplaceBody has other bytes forwarded in the place of a body that was read. They must be valid until Reset. Fields that
// say what the bytes of the body hash to are removed with it: of the new ones that is not true.
func (x *Exchange) ReplaceBody(b []byte) {
	x.body, x.bodyState = b, bodyReplaced
	for _, name := range [...]string{"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"} {
		x.Request.Header.Del(name)
	}
}

// ReplacedBody returns what is forwarded in the place of the body that was received, if something is.
func (x *Exchange) ReplacedBody() ([]byte, bool) { return x.body, x.bodyState == bodyReplaced }
