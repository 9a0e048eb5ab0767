package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/runtime"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/ciphers"
)

// onePercent is what the schema keeps one percent as.
const onePercent = 10_000

// fillCalls fills in how targets are chosen and called; the defaults are those of the schema.
func fillCalls(s *runtime.Service, m *configv1.Service) error {
	t, p := m.GetTimeouts(), m.GetPool()
	s.Call = runtime.CallOptions{
		Connect: duration(t.GetConnect(), 5*time.Second), ResponseHead: duration(t.GetResponseHead(), 60*time.Second),
		Idle: duration(t.GetIdle(), 60*time.Second), Total: duration(t.GetTotal(), 0), Retry: defaultRetry(),
	}
	s.Pool = runtime.Pool{MaxIdle: 512, IdleTimeout: duration(p.GetIdleTimeout(), 60*time.Second), MaxConns: int(p.GetMaxConnections())}
	if p != nil && p.MaxIdle != nil {
		s.Pool.MaxIdle = int(p.GetMaxIdle())
	}
	setIf(&s.Call.Retry.Attempts, int(m.GetRetries().GetAttempts()))
	if err := retry(&s.Call.Retry, m.GetRetries()); err != nil {
		return fmt.Errorf("retries: %w", err)
	}
	fillHealth(s, m.GetHealth())
	fillBreaker(s, m.GetCircuitBreaker())
	if err := fillBalancer(&s.Balancer, m.GetBalancer()); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	return nil
}

// callOf returns how a service is called for a route: what the route leaves out, the service says.
func callOf(s *runtime.Service, m *configv1.Route) (*runtime.CallOptions, error) {
	if m.GetTimeouts() == nil && m.GetRetries() == nil {
		return &s.Call, nil
	}
	c, t := s.Call, m.GetTimeouts()
	c.Connect = duration(t.GetConnect(), c.Connect)
	c.ResponseHead = duration(t.GetResponseHead(), c.ResponseHead)
	c.Idle = duration(t.GetIdle(), c.Idle)
	c.Total = duration(t.GetTotal(), c.Total)
	setIf(&c.Retry.Attempts, int(m.GetRetries().GetAttempts()))
	if err := retry(&c.Retry, m.GetRetries()); err != nil {
		return &c, fmt.Errorf("retries: %w", err)
	}
	return &c, nil
}

func duration(d *durationpb.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return d.AsDuration()
}

func defaultRetry() runtime.Retry {
	return runtime.Retry{Attempts: 2, On: runtime.RetryConnect | runtime.RetryReset, Budget: 20}
}

// retries are those of a service or a route.
type retries interface {
	GetOn() []configv1.RetryOn
	GetMethods() []string
	GetBudget() uint32
}

// retry changes what is said otherwise.
func retry(r *runtime.Retry, m retries) error {
	if on := m.GetOn(); len(on) > 0 {
		r.On = 0
		for _, reason := range on {
			bit, ok := retryOn(reason)
			if !ok {
				return fmt.Errorf("reason %d is not known", reason)
			}
			r.On |= bit
		}
	}
	if methods := m.GetMethods(); len(methods) > 0 {
		r.Methods = repeatable(methods)
	}
	if b, ok := budgetOf(m); ok {
		r.Budget = int(b / onePercent)
	}
	return nil
}

func budgetOf(m retries) (uint32, bool) {
	switch m := m.(type) {
	case *configv1.Retries:
		return m.GetBudget(), m != nil && m.Budget != nil
	case *configv1.RouteRetries:
		return m.GetBudget(), m != nil && m.Budget != nil
	default:
		return 0, false
	}
}

func retryOn(r configv1.RetryOn) (runtime.RetryOn, bool) {
	switch r {
	case configv1.RetryOn_RETRY_ON_CONNECT:
		return runtime.RetryConnect, true
	case configv1.RetryOn_RETRY_ON_RESET:
		return runtime.RetryReset, true
	case configv1.RetryOn_RETRY_ON_TIMEOUT:
		return runtime.RetryTimeout, true
	case configv1.RetryOn_RETRY_ON_BAD_GATEWAY:
		return runtime.RetryBadGateway, true
	case configv1.RetryOn_RETRY_ON_SERVICE_UNAVAILABLE:
		return runtime.RetryUnavailable, true
	case configv1.RetryOn_RETRY_ON_GATEWAY_TIMEOUT:
		return runtime.RetryGatewayTimeout, true
	default:
		return 0, false
	}
}

// repeatable returns the methods that may be repeated, nil for just the idempotent ones.
func repeatable(methods []string) []string {
	i := slices.Index(methods, check.Idempotent)
	if i < 0 {
		return methods
	}
	if len(methods) == 1 {
		return nil
	}
	all := append([]string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}, slices.Delete(slices.Clone(methods), i, i+1)...)
	slices.Sort(all)
	return slices.Compact(all)
}

func fillBalancer(b *runtime.Balancer, m *configv1.Balancer) error {
	switch a := m.GetAlgorithm(); a {
	case configv1.BalancerAlgorithm_BALANCER_ALGORITHM_UNSPECIFIED, configv1.BalancerAlgorithm_BALANCER_ALGORITHM_ROUND_ROBIN:
		b.Algorithm = runtime.RoundRobin
	case configv1.BalancerAlgorithm_BALANCER_ALGORITHM_LEAST_CONNECTIONS:
		b.Algorithm = runtime.LeastConnections
	case configv1.BalancerAlgorithm_BALANCER_ALGORITHM_PEAK_EWMA:
		b.Algorithm = runtime.PeakEWMA
	case configv1.BalancerAlgorithm_BALANCER_ALGORITHM_CONSISTENT_HASH:
		b.Algorithm = runtime.ConsistentHash
	default:
		return fmt.Errorf("algorithm %d is not known", a)
	}
	switch by := m.GetHashOn().GetBy(); by {
	case configv1.HashOnSource_HASH_ON_SOURCE_UNSPECIFIED, configv1.HashOnSource_HASH_ON_SOURCE_IP:
		b.HashOn = runtime.HashClientIP
	case configv1.HashOnSource_HASH_ON_SOURCE_HEADER:
		b.HashOn = runtime.HashHeader
	case configv1.HashOnSource_HASH_ON_SOURCE_COOKIE:
		b.HashOn = runtime.HashCookie
	default:
		return fmt.Errorf("hash_on %d is not known", by)
	}
	b.HashName = m.GetHashOn().GetName()
	b.SlowStart = duration(m.GetSlowStart(), 0)
	return nil
}

func fillHealth(s *runtime.Service, m *configv1.Health) {
	if a := m.GetActive(); a != nil {
		s.Active = &runtime.ActiveHealth{
			Path: cmp.Or(a.GetPath(), "/"), Host: a.GetHost(),
			Interval: duration(a.GetInterval(), 10*time.Second), Timeout: duration(a.GetTimeout(), 2*time.Second),
			Healthy: int(cmp.Or(a.GetHealthy(), 2)), Unhealthy: int(cmp.Or(a.GetUnhealthy(), 3)), Statuses: statuses(a.GetStatuses()),
		}
	}
	if p := m.GetPassive(); p != nil {
		s.Passive = &runtime.PassiveHealth{
			Failures: int(cmp.Or(p.GetFailures(), 5)), Statuses: statuses(p.GetStatuses()),
			Ejection: duration(p.GetEjection(), 30*time.Second), MaxEjected: int(cmp.Or(p.GetMaxEjected(), 50*onePercent) / onePercent),
		}
	}
}

func statuses(list []uint32) []int {
	var out []int
	for _, s := range list {
		out = append(out, int(s))
	}
	return out
}

func fillBreaker(s *runtime.Service, m *configv1.CircuitBreaker) {
	if m == nil {
		return
	}
	s.Breaker = &runtime.Breaker{
		FailureRatio: int(cmp.Or(m.GetFailureRatio(), 50*onePercent) / onePercent), MinRequests: int(cmp.Or(m.GetMinRequests(), 20)),
		Window: duration(m.GetWindow(), 10*time.Second), Open: duration(m.GetOpen(), 30*time.Second), Probes: int(cmp.Or(m.GetProbes(), 3)),
	}
}

// Numbers of the versions of TLS, RFC 8446 section 4.2.1.
const (
	tls12 = 0x0303
	tls13 = 0x0304
)

// targetTLS refuses whatever it does not understand: half of what is asked of a certificate is no check.
func targetTLS(m *configv1.UpstreamTls) (*runtime.TLS, error) {
	t := &runtime.TLS{Verify: m == nil || m.Verify == nil || m.GetVerify(), ServerName: m.GetSni(), SANs: m.GetSan()}
	names := check.AuthorityNames(m.GetCa()) // which are opened elsewhere
	for _, ref := range m.GetCa() {
		file, ok := check.GatewayFile(ref)
		switch {
		case ok:
			t.CA = append(t.CA, file)
		case !slices.Contains(names, ref):
			return nil, errors.New("ca is neither a name nor gateway:/path")
		}
	}
	if m != nil && m.VerifyDepth != nil {
		t.Depth = new(int(m.GetVerifyDepth()))
	}
	for _, name := range m.GetCipherSuites() {
		suite, ok := ciphers.Suites()[name]
		if !ok {
			return nil, errors.New("a cipher suite cannot be asked for")
		}
		t.Suites = append(t.Suites, suite)
	}
	for _, pin := range m.GetPins() {
		hash, err := hex.DecodeString(pin)
		if err != nil || len(hash) != sha256.Size {
			return nil, errors.New("a pin is not a SHA-256 hash in hex")
		}
		t.Pins = append(t.Pins, [sha256.Size]byte(hash))
	}
	var known [2]bool
	t.MinVersion, known[0] = tlsVersion(m.GetMinVersion())
	t.MaxVersion, known[1] = tlsVersion(m.GetMaxVersion())
	if known != [2]bool{true, true} {
		return nil, errors.New("a version is neither 1.2 nor 1.3")
	}
	return t, nil
}

func tlsVersion(text string) (number uint16, ok bool) {
	switch text {
	case "":
		return 0, true
	case "1.2":
		return tls12, true
	case "1.3":
		return tls13, true
	default:
		return 0, false
	}
}
