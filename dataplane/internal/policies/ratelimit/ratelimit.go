// Package ratelimit enforces the rate-limit policy: it bounds how many requests a caller may make in several windows.
// The counters live in hostsvc, found by binding, windows and caller, so that they survive pushes.
package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

type rateLimit struct {
	limiter *hostsvc.Limiter
	subject func(x *exchange.Exchange) []byte
	// policyField is the RateLimit-Policy field; labels are the quoted names of the windows in it.
	policyField exchange.Header
	labels      []string
	hideHeaders bool
}

var (
	fieldRateLimit  = []byte("RateLimit")
	fieldRetryAfter = []byte("Retry-After")

	refuseTooMany = exchange.NewRefusal(429, "rate_limited", "Too many requests; see Retry-After.")
)

// Build makes the policy.
func Build(cfg *policyv1.RateLimit, d policy.Deps) (policy.Policy, error) {
	if len(cfg.GetWindows()) == 0 || len(cfg.GetWindows()) > hostsvc.MaxWindows {
		return nil, fmt.Errorf("need 1 to %d windows, have %d", hostsvc.MaxWindows, len(cfg.GetWindows()))
	}
	r := &rateLimit{hideHeaders: cfg.GetHideHeaders()}
	var windows []hostsvc.Window
	for _, w := range cfg.GetWindows() {
		length := w.GetWindow().AsDuration()
		if w.GetLimit() < 1 || w.GetLimit() > 1e9 || length < time.Second || length > 31*24*time.Hour {
			return nil, fmt.Errorf("window %d in %s is out of range", w.GetLimit(), length)
		}
		windows = append(windows, hostsvc.Window{Limit: w.GetLimit(), Length: length})
	}
	by := cfg.GetBy()
	if by == policyv1.RateLimitBy_RATE_LIMIT_BY_UNSPECIFIED {
		by = policyv1.RateLimitBy_RATE_LIMIT_BY_CONSUMER
	}
	if by == policyv1.RateLimitBy_RATE_LIMIT_BY_HEADER && cfg.GetHeader() == "" {
		return nil, errors.New("by: header needs header")
	}
	if r.subject = subjectOf(by, cfg.GetHeader()); r.subject == nil {
		return nil, fmt.Errorf("by: %d is not known here", by)
	}
	b := d.Binding
	r.limiter = d.Host.Limiters.Bind([]string{b.OwnerKind, b.OwnerUID, b.Type, b.Name, by.String(), cfg.GetHeader()}, windows)
	r.describe(b.Name, windows)
	return r, nil
}

// describe prepares the RateLimit-Policy field (draft-ietf-httpapi-ratelimit-headers-10, section 3).
func (r *rateLimit) describe(name string, windows []hostsvc.Window) {
	if name == "" {
		name = "rate-limit"
	}
	var value strings.Builder
	for i, w := range windows {
		label := strconv.Quote(name)
		if len(windows) > 1 {
			label = strconv.Quote(name + "-" + strconv.Itoa(i+1))
		}
		r.labels = append(r.labels, label)
		if i > 0 {
			value.WriteString(", ")
		}
		fmt.Fprintf(&value, "%s;q=%d;w=%d", label, w.Limit, ceilSeconds(w.Length))
	}
	r.policyField = exchange.Field("RateLimit-Policy", value.String())
}

// Request implements policy.Policy. The fields of the response are written now and kept in the slot, because they tell
// the state at the decision.
func (r *rateLimit) Request(x *exchange.Exchange) policy.Verdict {
	var d hostsvc.Decision
	r.limiter.Take(r.subject(x), x.Timings.Received, &d)
	slot := x.Slot()
	if !r.hideHeaders {
		slot.Bytes = r.appendState(x.Alloc(r.stateLen()), &d)
	}
	if d.OK {
		return policy.Next
	}
	slot.N = max(1, ceilSeconds(d.RetryAfter))
	x.Refuse(refuseTooMany)
	return policy.Stop
}

// Response implements policy.ResponsePolicy.
func (r *rateLimit) Response(x *exchange.Exchange) {
	slot, h := x.Slot(), &x.Response.Header
	if slot.Bytes != nil {
		h.Add(r.policyField)
		h.Add(exchange.Header{Name: fieldRateLimit, Value: slot.Bytes})
	}
	if slot.N > 0 {
		h.Set(exchange.Header{Name: fieldRetryAfter, Value: strconv.AppendInt(x.Alloc(20), slot.N, 10)})
	}
}

func (r *rateLimit) stateLen() int {
	const numbers = 48 // ";r=" + ";t=" + two numbers of up to 20 digits + ", "
	n := 0
	for _, l := range r.labels {
		n += len(l) + numbers
	}
	return n
}

func (r *rateLimit) appendState(b []byte, d *hostsvc.Decision) []byte {
	for i, q := range d.Quotas[:d.N] {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, r.labels[i]...)
		b = append(b, ";r="...)
		b = strconv.AppendUint(b, q.Remaining, 10)
		b = append(b, ";t="...)
		b = strconv.AppendInt(b, ceilSeconds(q.Reset), 10)
	}
	return b
}

func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
