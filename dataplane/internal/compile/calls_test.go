package compile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/runtime"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
)

func compiled(t testing.TB, s *configv1.Service) (*runtime.Service, []string) {
	t.Helper()
	rt, faults := build(t, record("services", "svc", "s", s))
	out, ok := rt.Services.Get("s")
	if !ok {
		t.Fatalf("no service; faults %q", faults)
	}
	return out, faults
}

// decoded reads a document as admission does.
func decoded[M proto.Message](t testing.TB, kind, doc string) M {
	t.Helper()
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	item, vs := c.DecodeResource(kind, []byte(doc), catalog.YAML, catalog.Place{})
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	if vs := append(c.Normalize(item.Message), check.Resource(item.Message)...); len(vs) > 0 {
		t.Fatal(vs)
	}
	m, ok := item.Message.(M)
	if !ok {
		t.Fatalf("%s is a %T", kind, item.Message)
	}
	return m
}

func ignoring(fields ...string) cmp.Option { return cmpopts.IgnoreFields(runtime.Service{}, fields...) }

func TestServices(t *testing.T) {
	t.Parallel()
	plain := func(change func(*runtime.Service)) *runtime.Service {
		s := &runtime.Service{
			UID: "svc", Name: "s", Targets: []runtime.Target{{Address: "a.test:80", Weight: 100}}, Weight: 100,
			Call: runtime.CallOptions{
				Connect: 5 * time.Second, ResponseHead: time.Minute, Idle: time.Minute,
				Retry: runtime.Retry{Attempts: 2, On: runtime.RetryConnect | runtime.RetryReset, Budget: 20},
			},
			Pool: runtime.Pool{MaxIdle: 512, IdleTimeout: time.Minute},
		}
		change(s)
		return s
	}
	over := func(tls *runtime.TLS, p runtime.Protocol) func(*runtime.Service) {
		return func(s *runtime.Service) { s.TLS, s.Protocol, s.Targets[0].Address = tls, p, "a.test:443" }
	}
	verified := &runtime.TLS{Verify: true, MinVersion: 0x0303}
	for doc, change := range map[string]func(*runtime.Service){
		"url: http://a.test":                       func(*runtime.Service) {},
		"{url: http://a.test, protocol: h2c}":      func(s *runtime.Service) { s.Protocol = runtime.HTTP2 },
		"{url: http://a.test, protocol: grpc}":     func(s *runtime.Service) { s.Protocol = runtime.HTTP2 },
		"{url: https://a.test, protocol: h2}":      over(&runtime.TLS{Verify: true}, runtime.HTTP2),
		"{targets: [a.test:443], protocol: grpcs}": over(&runtime.TLS{Verify: true}, runtime.HTTP2),
		"{url: https://a.test, tls: {}}":           over(verified, runtime.HTTP1),
		`{url: https://a.test, tls: {verify: false, sni: B.test, max_version: 1.3}}`: over(
			&runtime.TLS{ServerName: "b.test", MinVersion: 0x0303, MaxVersion: 0x0304}, runtime.HTTP1),
		"{url: https://a.test, tls: {ca: gateway:/ca.pem, san: [c.test, \"[::1]\"], pins: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=, min_version: 1.3}}": over(
			&runtime.TLS{
				Verify: true, CA: []string{"/ca.pem"}, SANs: []string{"c.test", "::1"}, MinVersion: 0x0304, Pins: [][32]byte{{
					0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
					0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
				}},
			}, runtime.HTTP1),
		"{url: http://a.test, retries: {attempts: 1, on: [timeout, bad-gateway, service-unavailable, gateway-timeout], budget: 0%, methods: [idempotent, POST, GET]}}": func(s *runtime.Service) {
			s.Call.Retry = runtime.Retry{
				Attempts: 1, On: runtime.RetryTimeout | runtime.RetryBadGateway | runtime.RetryUnavailable | runtime.RetryGatewayTimeout,
				Methods: []string{"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE"},
			}
		},
		"{url: http://a.test, retries: {methods: idempotent}}": func(*runtime.Service) {},
		"{url: http://a.test, retries: {methods: [POST]}}":     func(s *runtime.Service) { s.Call.Retry.Methods = []string{"POST"} },
		"{url: http://a.test, balancer: {algorithm: least-connections, slow_start: 30s}}": func(s *runtime.Service) {
			s.Balancer = runtime.Balancer{Algorithm: runtime.LeastConnections, SlowStart: 30 * time.Second}
		},
		"{url: http://a.test, balancer: peak-ewma}": func(s *runtime.Service) { s.Balancer.Algorithm = runtime.PeakEWMA },
		"{url: http://a.test, balancer: {algorithm: consistent-hash, hash_on: {by: header, name: X-User}}}": func(s *runtime.Service) {
			s.Balancer = runtime.Balancer{Algorithm: runtime.ConsistentHash, HashOn: runtime.HashHeader, HashName: "X-User"}
		},
		"{url: http://a.test, balancer: {algorithm: consistent-hash, hash_on: {by: cookie, name: sid}}}": func(s *runtime.Service) {
			s.Balancer = runtime.Balancer{Algorithm: runtime.ConsistentHash, HashOn: runtime.HashCookie, HashName: "sid"}
		},
		"{url: http://a.test, balancer: {algorithm: consistent-hash, hash_on: ip}}": func(s *runtime.Service) {
			s.Balancer.Algorithm = runtime.ConsistentHash
		},
		"{url: http://a.test, health: {active: {}, passive: {}}, circuit_breaker: {}}": func(s *runtime.Service) {
			s.Active = &runtime.ActiveHealth{Path: "/", Interval: 10 * time.Second, Timeout: 2 * time.Second, Healthy: 2, Unhealthy: 3}
			s.Passive = &runtime.PassiveHealth{Failures: 5, Ejection: 30 * time.Second, MaxEjected: 50}
			s.Breaker = &runtime.Breaker{FailureRatio: 50, MinRequests: 20, Window: 10 * time.Second, Open: 30 * time.Second, Probes: 3}
		},
		"{url: http://a.test, health: {active: {path: /up, host: b.test, interval: 5s, timeout: 1s, healthy: 1, unhealthy: 4, statuses: [204]}}}": func(s *runtime.Service) {
			s.Active = &runtime.ActiveHealth{
				Path: "/up", Host: "b.test", Interval: 5 * time.Second, Timeout: time.Second, Healthy: 1, Unhealthy: 4, Statuses: []int{204},
			}
		},
		"{url: http://a.test, health: {passive: {failures: 1, statuses: 503, ejection: 1s, max_ejected: 100%}}, circuit_breaker: {failure_ratio: 5%, min_requests: 1, window: 1s, open: 100ms, probes: 1}}": func(s *runtime.Service) {
			s.Passive = &runtime.PassiveHealth{Failures: 1, Statuses: []int{503}, Ejection: time.Second, MaxEjected: 100}
			s.Breaker = &runtime.Breaker{FailureRatio: 5, MinRequests: 1, Window: time.Second, Open: 100 * time.Millisecond, Probes: 1}
		},
	} {
		t.Run(doc, func(t *testing.T) {
			t.Parallel()
			if !strings.HasPrefix(doc, "{") {
				doc = "{" + doc + "}"
			}
			got, faults := compiled(t, decoded[*configv1.Service](t, "services", strings.Replace(doc, "{", "{name: s, ", 1)))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if diff := cmp.Diff(plain(change), got, ignoring("Owner", "Key", "Refs")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is left out is the same to the gateway as the schema's default written out.
func TestDefaultsAreThoseOfTheSchema(t *testing.T) {
	t.Parallel()
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	normal := func(m proto.Message) proto.Message {
		m = proto.Clone(m)
		if vs := c.Normalize(m); len(vs) > 0 {
			t.Fatal(vs)
		}
		return m
	}
	raw := []proto.Message{
		&configv1.Settings{},
		&configv1.Service{
			Name: "s", Url: "https://a.test", Tls: &configv1.UpstreamTls{MinVersion: "1.2"}, CircuitBreaker: &configv1.CircuitBreaker{},
			Health: &configv1.Health{Active: &configv1.ActiveHealth{}, Passive: &configv1.PassiveHealth{}},
		},
		&configv1.Route{Name: "r", Service: "s", Hosts: []string{"a.test"}},
	}
	kinds := []string{"settings", "services", "routes"}
	one, _ := build(t, record(kinds[0], "1", "settings", raw[0]), record(kinds[1], "2", "s", raw[1]), record(kinds[2], "3", "r", raw[2]))
	two, faults := build(t, record(kinds[0], "1", "settings", normal(raw[0])), record(kinds[1], "2", "s", normal(raw[1])), record(kinds[2], "3", "r", normal(raw[2])))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	a, _ := one.Services.Get("s")
	b, _ := two.Services.Get("s")
	if diff := cmp.Diff(a, b, ignoring("Owner", "Plain")); diff != "" {
		t.Errorf("service (-left out +written):\n%s", diff)
	}
	if diff := cmp.Diff(one.Settings, two.Settings, cmpopts.IgnoreFields(runtime.Settings{}, "Owner", "Egress", "Identities")); diff != "" {
		t.Errorf("settings (-left out +written):\n%s", diff)
	}
	r, _ := one.Routes.Get("3")
	q, _ := two.Routes.Get("3")
	if diff := cmp.Diff(r.Call, q.Call); diff != "" || r.MaxBody != q.MaxBody || r.MaxStreamAge != q.MaxStreamAge {
		t.Errorf("route (-left out +written):\n%s", diff)
	}
}

func TestRoutesSayOnlyWhatIsDifferent(t *testing.T) {
	t.Parallel()
	const service = "{name: s, url: http://a.test, timeouts: {connect: 1s, total: 9s}, retries: {attempts: 3, on: [timeout], methods: [POST], budget: 7%}}"
	base := runtime.CallOptions{
		Connect: time.Second, ResponseHead: time.Minute, Idle: time.Minute, Total: 9 * time.Second,
		Retry: runtime.Retry{Attempts: 3, On: runtime.RetryTimeout, Methods: []string{"POST"}, Budget: 7},
	}
	type want struct {
		Call     runtime.CallOptions
		Upgrades []string
		Age      time.Duration
		Body     int64
	}
	for _, tt := range []struct {
		name, service, route string
		change               func(*want)
	}{
		{"nothing", service, "{name: r, service: s}", func(*want) {}},
		{"nothing inside", service, "{name: r, service: s, timeouts: {}, retries: {}, limits: {}}", func(*want) {}},
		{"timeouts", service, "{name: r, service: s, timeouts: {response_head: 2s, idle: 3s, total: 0s}}", func(w *want) {
			w.Call.ResponseHead, w.Call.Idle, w.Call.Total = 2*time.Second, 3*time.Second, 0
		}},
		{"retries", service, "{name: r, service: s, retries: {attempts: 1, on: reset, budget: 0%}}", func(w *want) {
			w.Call.Retry = runtime.Retry{Attempts: 1, On: runtime.RetryReset, Methods: []string{"POST"}}
		}},
		{"idempotent methods again", service, "{name: r, service: s, retries: {methods: idempotent}}", func(w *want) { w.Call.Retry.Methods = nil }},
		{"streams", service, "{name: r, service: s, upgrade: WebSocket, max_stream_age: 1h, limits: {body: 1GiB}}", func(w *want) {
			w.Upgrades, w.Age, w.Body = []string{"websocket"}, time.Hour, 1<<30
		}},
		{"no body", service, "{name: r, service: s, limits: {body: 0}}", func(w *want) { w.Body = 0 }},
		{"HTTP/2 is not upgraded", strings.Replace(service, "}", "}, protocol: h2c", 1), "{name: r, service: s, upgrade: websocket}", func(*want) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rt, faults := build(t,
				record("settings", "1", "settings", decoded[*configv1.Settings](t, "settings", "{limits: {body: 5MiB}}")),
				record("services", "2", "s", decoded[*configv1.Service](t, "services", tt.service)),
				record("routes", "3", "r", decoded[*configv1.Route](t, "routes", tt.route)))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			r, _ := rt.Routes.Get("3")
			w := want{Call: base, Body: 5 << 20}
			tt.change(&w)
			if diff := cmp.Diff(w, want{*r.Call, r.Upgrades, r.MaxStreamAge, r.MaxBody}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	m := decoded[*configv1.Settings](t, "settings", `{upgrades: false, trusted_proxies: [10.0.0.1], listeners: {http: {proxy_protocol: true}, https: {}},
  limits: {connections: 100, connections_per_client: 10}, access_log: {sample: 0.1%, redact: [path], headers: [X-Tenant], client_ip: truncated}}`)
	rt, faults := build(t, record("settings", "1", "settings", m))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := runtime.Settings{
		Upgrades: false, MaxConns: 100, MaxConnsPerClient: 10,
		Listeners: map[string]runtime.ListenerOptions{"http": {ProxyProtocol: true}, "https": {}},
		AccessLog: runtime.AccessLog{
			Sample: 1000, Redact: map[string]struct{}{"path": {}}, Headers: []string{"x-tenant"}, ClientIP: runtime.ClientIPTruncated,
		},
	}
	got := runtime.Settings{
		Upgrades: rt.Settings.Upgrades, MaxConns: rt.Settings.MaxConns, MaxConnsPerClient: rt.Settings.MaxConnsPerClient,
		Listeners: rt.Settings.Listeners, AccessLog: rt.Settings.AccessLog,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rt, _ = build(t)
	if l := rt.Settings.AccessLog; !rt.Settings.Upgrades || l.Sample != 1_000_000 || l.ClientIP != runtime.ClientIPFull {
		t.Errorf("without settings: %+v", rt.Settings)
	}
}

// The key stays while connections may be kept, and changes when they would be made otherwise.
func TestKeySaysWhetherConnectionsMayBeShared(t *testing.T) {
	t.Parallel()
	service := func(change func(*configv1.Service)) *configv1.Service {
		s := &configv1.Service{Name: "s", Targets: []*configv1.Target{{Address: "a.test:1"}}, Protocol: configv1.Protocol_PROTOCOL_HTTPS, Tls: &configv1.UpstreamTls{}}
		change(s)
		return s
	}
	before, _ := compiled(t, service(func(*configv1.Service) {}))
	for name, tt := range map[string]struct {
		change func(*configv1.Service)
		same   bool
	}{
		"description":  {func(s *configv1.Service) { s.Description = "x" }, true},
		"labels":       {func(s *configv1.Service) { s.Labels = map[string]string{"a": "b"} }, true},
		"policies":     {func(s *configv1.Service) { s.Policies = []*configv1.Binding{ips("10.0.0.0/8")} }, true},
		"timeouts":     {func(s *configv1.Service) { s.Timeouts = &configv1.Timeouts{Connect: durationpb.New(time.Second)} }, true},
		"retries":      {func(s *configv1.Service) { s.Retries = &configv1.Retries{Attempts: 5} }, true},
		"targets":      {func(s *configv1.Service) { s.Targets = append(s.Targets, &configv1.Target{Address: "b.test:1"}) }, true},
		"weights":      {func(s *configv1.Service) { s.Targets[0].Weight = new(uint32(7)) }, true},
		"path":         {func(s *configv1.Service) { s.Path = "/p" }, true},
		"host":         {func(s *configv1.Service) { s.HostHeader = "preserve" }, true},
		"balancer":     {func(s *configv1.Service) { s.Balancer = &configv1.Balancer{Algorithm: 2} }, true},
		"health":       {func(s *configv1.Service) { s.Health = &configv1.Health{Passive: &configv1.PassiveHealth{}} }, true},
		"breaker":      {func(s *configv1.Service) { s.CircuitBreaker = &configv1.CircuitBreaker{} }, true},
		"default port": {func(s *configv1.Service) { s.Pool = &configv1.Pool{MaxIdle: new(uint32(512))} }, true},
		"pool":         {func(s *configv1.Service) { s.Pool = &configv1.Pool{MaxConnections: 1} }, true},
		"protocol":     {func(s *configv1.Service) { s.Protocol = configv1.Protocol_PROTOCOL_H2 }, false},
		"no TLS":       {func(s *configv1.Service) { s.Protocol, s.Tls = configv1.Protocol_PROTOCOL_HTTP, nil }, false},
		"verify":       {func(s *configv1.Service) { s.Tls.Verify = new(bool) }, false},
		"ca":           {func(s *configv1.Service) { s.Tls.Ca = []string{"gateway:/a"} }, false},
		"sni":          {func(s *configv1.Service) { s.Tls.Sni = "b.test" }, false},
		"san":          {func(s *configv1.Service) { s.Tls.San = []string{"b.test"} }, false},
		"pins":         {func(s *configv1.Service) { s.Tls.Pins = []string{strings.Repeat("00", 32)} }, false},
		"version":      {func(s *configv1.Service) { s.Tls.MinVersion = "1.3" }, false},
		"suites":       {func(s *configv1.Service) { s.Tls.CipherSuites = []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"} }, false},
		"depth":        {func(s *configv1.Service) { s.Tls.VerifyDepth = new(uint32) }, false},
		"most version": {func(s *configv1.Service) { s.Tls.MaxVersion = "1.2" }, false},
	} {
		after, faults := compiled(t, service(tt.change))
		if len(faults) > 0 {
			t.Errorf("%s: %q", name, faults)
		}
		if same := after.Key == before.Key; same != tt.same {
			t.Errorf("%s changed: same key is %t, want %t", name, same, tt.same)
		}
	}
	rt, _ := build(t, record("services", "other", "s", service(func(*configv1.Service) {})))
	if other, _ := rt.Services.Get("s"); other.Key == before.Key {
		t.Error("another service has the same key")
	}
}

// Where something says TLS, or says something of it that is not understood, nothing is spoken without.
func TestNothingLessThanTheTLSThatIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*configv1.Service{
		"protocol and url":   {Url: "http://a.test", Protocol: configv1.Protocol_PROTOCOL_H2},
		"url and protocol":   {Url: "https://a.test", Protocol: configv1.Protocol_PROTOCOL_H2C},
		"tls without TLS":    {Url: "http://a.test", Tls: &configv1.UpstreamTls{}},
		"ca of another kind": {Url: "https://a.test", Tls: &configv1.UpstreamTls{Ca: []string{"/partners"}}},
		"ca that is missing": {Url: "https://a.test", Tls: &configv1.UpstreamTls{Ca: []string{"partners"}}},
		"unsafe suite":       {Url: "https://a.test", Tls: &configv1.UpstreamTls{CipherSuites: []string{"TLS_RSA_WITH_AES_128_GCM_SHA256"}}},
		"missing client":     {Url: "https://a.test", Tls: &configv1.UpstreamTls{ClientCertificate: "client"}},
		"missing in a map":   {Url: "https://a.test", UpstreamCertificates: []*configv1.UpstreamCertificate{{Domain: "*", Certificate: "client"}}},
		"nobody in a map":    {Url: "https://a.test", UpstreamCertificates: []*configv1.UpstreamCertificate{{Domain: "*"}}},
		"scheme in a map":    {Url: "https://a.test", UpstreamCertificates: []*configv1.UpstreamCertificate{{Domain: "https://b.test", Certificate: "client"}}},
		"map without TLS":    {Url: "http://a.test", UpstreamCertificates: []*configv1.UpstreamCertificate{{Domain: "b.test", Certificate: "client"}}},
		"short pin":          {Url: "https://a.test", Tls: &configv1.UpstreamTls{Pins: []string{"00"}}},
		"long pin":           {Url: "https://a.test", Tls: &configv1.UpstreamTls{Pins: []string{strings.Repeat("00", 33)}}},
		"newer version":      {Url: "https://a.test", Tls: &configv1.UpstreamTls{MinVersion: "1.4"}},
		"older version":      {Url: "https://a.test", Tls: &configv1.UpstreamTls{MaxVersion: "1.1"}},
	} {
		if got, faults := compiled(t, s); got.Closed == "" || len(faults) != 1 {
			t.Errorf("%s: closed %q, faults %q", name, got.Closed, faults)
		}
	}
	if s, _ := compiled(t, &configv1.Service{Url: "HTTPS://a.test"}); s.TLS == nil || !s.TLS.Verify || s.Targets[0].Address != "a.test:443" {
		t.Errorf("scheme in capitals: %+v", s)
	}
}
