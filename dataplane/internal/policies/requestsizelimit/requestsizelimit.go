// Package requestsizelimit enforces the request-size-limit policy: it bounds the request body, declared or counted.
package requestsizelimit

import (
	"fmt"
	"math"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const defaultMax = 1 << 20

type sizeLimit struct {
	max              int64
	needLength       bool
	tooLarge, length *exchange.Refusal
}

// Build makes the policy.
func Build(cfg *policyv1.RequestSizeLimit) (policy.Policy, error) {
	limit := uint64(defaultMax)
	if cfg.Max != nil {
		limit = cfg.GetMax()
	}
	if limit > math.MaxInt64 {
		return nil, fmt.Errorf("max %d is too large", limit)
	}
	return &sizeLimit{
		max: int64(limit), needLength: cfg.GetRequireContentLength(),
		tooLarge: exchange.NewRefusal(413, "too_large", fmt.Sprintf("The request body may have at most %d bytes.", limit)),
		length:   exchange.NewRefusal(411, "length_required", "This route needs a Content-Length."),
	}, nil
}

// Request implements policy.Policy.
func (s *sizeLimit) Request(x *exchange.Exchange) policy.Verdict {
	switch n := x.Request.ContentLength; {
	case n < 0 && s.needLength:
		x.Refuse(s.length)
		return policy.Stop
	case n > s.max:
		x.Refuse(s.tooLarge)
		return policy.Stop
	}
	return policy.Next
}

// Body implements policy.BodyPolicy.
func (s *sizeLimit) Body(x *exchange.Exchange, chunk []byte, _ bool) policy.Verdict {
	seen := x.Slot()
	seen.N += int64(len(chunk))
	if seen.N > s.max {
		x.Refuse(s.tooLarge)
		return policy.Stop
	}
	return policy.Next
}
