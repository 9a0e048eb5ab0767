package ratelimit

import (
	"encoding/binary"

	"keyward.dev/dataplane/internal/exchange"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// Subjects begin with a letter for their sort, so that a consumer cannot share a counter with a header value.
const (
	sortConsumer   = 'c'
	sortCredential = 'k'
	sortIP         = 'i'
	sortHeader     = 'h'
	sortNoHeader   = 'n'
	sortRoute      = 'r'
)

// subjectOf returns the function that says who shares a counter, nil for an unknown word.
func subjectOf(by policyv1.RateLimitBy, header string) func(x *exchange.Exchange) []byte {
	switch by {
	case policyv1.RateLimitBy_RATE_LIMIT_BY_CONSUMER:
		return byConsumer
	case policyv1.RateLimitBy_RATE_LIMIT_BY_CREDENTIAL:
		return byCredential
	case policyv1.RateLimitBy_RATE_LIMIT_BY_IP:
		return byIP
	case policyv1.RateLimitBy_RATE_LIMIT_BY_HEADER:
		return func(x *exchange.Exchange) []byte { return byHeader(x, header) }
	case policyv1.RateLimitBy_RATE_LIMIT_BY_ROUTE:
		return func(x *exchange.Exchange) []byte { return named(x, sortRoute, x.Route.UID) }
	}
	return nil
}

func byConsumer(x *exchange.Exchange) []byte {
	if p := x.Principal; p != nil && p.ConsumerUID != "" {
		return named(x, sortConsumer, p.ConsumerUID)
	}
	return byIP(x)
}

func byCredential(x *exchange.Exchange) []byte {
	if p := x.Principal; p != nil && p.CredentialUID != "" {
		return named(x, sortCredential, p.CredentialUID)
	}
	return byIP(x)
}

func named(x *exchange.Exchange, sort byte, name string) []byte {
	return append(append(x.Alloc(1+len(name)), sort), name...)
}

// byIP takes an IPv6 client's /64: a single subscriber usually has that many addresses.
func byIP(x *exchange.Exchange) []byte {
	b := append(x.Alloc(17), sortIP)
	a := x.Request.ClientIP.Unmap()
	switch {
	case a.Is4():
		v := a.As4()
		return append(b, v[:]...)
	case a.Is6():
		v := a.As16()
		return append(b, v[:8]...)
	}
	return b
}

// byHeader takes all fields of that name with their lengths, so that no two lists of values look alike.
func byHeader(x *exchange.Exchange, name string) []byte {
	h, n := x.Request.Header, 1
	for i := h.Index(name, 0); i >= 0; i = h.Index(name, i+1) {
		n += 4 + len(h[i].Value)
	}
	b := x.Alloc(n)
	if n == 1 {
		return append(b, sortNoHeader)
	}
	b = append(b, sortHeader)
	for i := h.Index(name, 0); i >= 0; i = h.Index(name, i+1) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(h[i].Value)))
		b = append(b, h[i].Value...)
	}
	return b
}
