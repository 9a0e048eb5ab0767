package check_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
)

const (
	overTCP  = "http://a.test"
	overTLS  = "https://a.test"
	protoH2  = configv1.Protocol_PROTOCOL_H2
	protoH2C = configv1.Protocol_PROTOCOL_H2C
)

func TestServiceRules(t *testing.T) {
	t.Parallel()
	targets := []*configv1.Target{{Address: "a.test:443"}}
	holds(t, []rule{
		{
			"weights", &configv1.Service{Targets: []*configv1.Target{{Weight: new(uint32)}, {}}},
			&configv1.Service{Targets: []*configv1.Target{{Weight: new(uint32)}}}, "targets",
		},
		{
			"protocol of url", &configv1.Service{Url: overTLS, Protocol: configv1.Protocol_PROTOCOL_HTTP},
			&configv1.Service{Url: overTCP, Protocol: configv1.Protocol_PROTOCOL_HTTPS}, "protocol",
		},
		{"HTTP/2 over TLS", &configv1.Service{Url: overTLS, Protocol: protoH2}, &configv1.Service{Url: overTCP, Protocol: protoH2}, "protocol"},
		{"HTTP/2 over TCP", &configv1.Service{Url: overTCP, Protocol: protoH2C}, &configv1.Service{Url: overTLS, Protocol: protoH2C}, "protocol"},
		{
			"gRPC over TLS", &configv1.Service{Url: overTLS, Protocol: configv1.Protocol_PROTOCOL_GRPCS},
			&configv1.Service{Url: overTCP, Protocol: configv1.Protocol_PROTOCOL_GRPCS}, "protocol",
		},
		{
			"gRPC over TCP", &configv1.Service{Url: overTCP, Protocol: configv1.Protocol_PROTOCOL_GRPC},
			&configv1.Service{Url: overTLS, Protocol: configv1.Protocol_PROTOCOL_GRPC}, "protocol",
		},
		{"service path", &configv1.Service{Path: "/a"}, &configv1.Service{Path: "/.."}, "path"},
		{"host_header", &configv1.Service{HostHeader: "a.test:80"}, &configv1.Service{HostHeader: "a test"}, "host_header"},
		{
			"methods to repeat", &configv1.Service{Retries: &configv1.Retries{Methods: []string{"idempotent", "POST", "M-SEARCH"}}},
			&configv1.Service{Retries: &configv1.Retries{Methods: []string{"GET", "get"}}}, "retries.methods[1]",
		},
		{
			"retry budget", &configv1.Service{Retries: &configv1.Retries{Budget: new(uint32(20_0000))}},
			&configv1.Service{Retries: &configv1.Retries{Budget: new(uint32(5000))}}, "retries.budget",
		},
		{
			"methods to repeat on a route", &configv1.Route{Retries: &configv1.RouteRetries{Methods: []string{"PUT"}}},
			&configv1.Route{Retries: &configv1.RouteRetries{Methods: []string{""}}}, "retries.methods[0]",
		},
		{
			"retry budget of a route", &configv1.Route{Retries: &configv1.RouteRetries{Budget: new(uint32)}},
			&configv1.Route{Retries: &configv1.RouteRetries{Budget: new(uint32(1))}}, "retries.budget",
		},
		{"TLS on", &configv1.Service{Url: overTLS, Tls: &configv1.UpstreamTls{}}, &configv1.Service{Url: overTCP, Tls: &configv1.UpstreamTls{}}, "tls"},
		{
			"TLS of targets", &configv1.Service{Targets: targets, Protocol: configv1.Protocol_PROTOCOL_GRPCS, Tls: &configv1.UpstreamTls{}},
			&configv1.Service{Targets: targets, Protocol: protoH2C, Tls: &configv1.UpstreamTls{}}, "tls",
		},
		{"authorities", withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/etc/ca.pem", "partners-ca"}}), withTLS(&configv1.UpstreamTls{Ca: []string{"{vault://a/b#c}"}}), "tls.ca[0]"},
		{"files of the control plane", withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/a"}}), withTLS(&configv1.UpstreamTls{Ca: []string{"/a"}}), "tls.ca[0]"},
		{"plain file names", withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/a/..b"}}), withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/a/../b"}}), "tls.ca[0]"},
		{"absolute file names", withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/a b"}}), withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:a"}}), "tls.ca[0]"},
		{"printable file names", withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/ä"}}), withTLS(&configv1.UpstreamTls{Ca: []string{"gateway:/a\x00"}}), "tls.ca[0]"},
		{"server name", withTLS(&configv1.UpstreamTls{Sni: "b.test"}), withTLS(&configv1.UpstreamTls{Sni: "::1"}), "tls.sni"},
		{
			"what is not verified", withTLS(&configv1.UpstreamTls{Verify: new(bool), Sni: "b.test", Pins: []string{"00"}}),
			withTLS(&configv1.UpstreamTls{Verify: new(bool), San: []string{"b.test"}}), "tls.verify",
		},
		{
			"versions of TLS", withTLS(&configv1.UpstreamTls{MinVersion: "1.3", MaxVersion: "1.3"}),
			withTLS(&configv1.UpstreamTls{MinVersion: "1.3", MaxVersion: "1.2"}), "tls.max_version",
		},
		{"depth", withTLS(&configv1.UpstreamTls{VerifyDepth: new(uint32)}), withTLS(&configv1.UpstreamTls{Verify: new(bool), VerifyDepth: new(uint32)}), "tls.verify"},
		{
			"cipher suites", withTLS(&configv1.UpstreamTls{CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}),
			withTLS(&configv1.UpstreamTls{CipherSuites: []string{"TLS_RSA_WITH_AES_128_GCM_SHA256"}}), "tls.cipher_suites[0]",
		},
		{
			"cipher suites of TLS 1.2", withTLS(&configv1.UpstreamTls{MinVersion: "1.2", CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}),
			withTLS(&configv1.UpstreamTls{MinVersion: "1.3", CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}), "tls.cipher_suites",
		},
		{"client certificates", shows(overTLS, "*.b.test:443", "*"), shows(overTLS, "*", "https://b.test"), "upstream_certificates[1].domain"},
		{"client certificates on TLS", shows(overTLS, "*"), shows(overTCP, "*"), "upstream_certificates"},
		{"domains once", shows(overTLS, "b.test", "b.test:443"), shows(overTLS, "b.test", "B.test."), "upstream_certificates[1].domain"},
		{
			"client certificates of the settings", &configv1.Settings{UpstreamCertificates: shows("", "*.b.test").GetUpstreamCertificates()},
			&configv1.Settings{UpstreamCertificates: shows("", "*.*.test").GetUpstreamCertificates()}, "upstream_certificates[0].domain",
		},
	})
}

// shows returns a service whose targets of some domains are shown a certificate.
func shows(url string, domains ...string) *configv1.Service {
	s := &configv1.Service{Url: url}
	for _, d := range domains {
		s.UpstreamCertificates = append(s.UpstreamCertificates, &configv1.UpstreamCertificate{Domain: d, Certificate: "client"})
	}
	return s
}

func withTLS(t *configv1.UpstreamTls) *configv1.Service {
	return &configv1.Service{Url: overTLS, Tls: t}
}

func TestBalancingAndHealthRules(t *testing.T) {
	t.Parallel()
	const hash = configv1.BalancerAlgorithm_BALANCER_ALGORITHM_CONSISTENT_HASH
	balancer := func(b *configv1.Balancer) *configv1.Service { return &configv1.Service{Balancer: b} }
	hashOn := func(h *configv1.HashOn) *configv1.Service {
		return balancer(&configv1.Balancer{Algorithm: hash, HashOn: h})
	}
	active := func(h *configv1.ActiveHealth) *configv1.Service {
		return &configv1.Service{Health: &configv1.Health{Active: h}}
	}
	passive := func(share uint32) *configv1.Service {
		return &configv1.Service{Health: &configv1.Health{Passive: &configv1.PassiveHealth{MaxEjected: share}}}
	}
	breaker := func(share uint32) *configv1.Service {
		return &configv1.Service{CircuitBreaker: &configv1.CircuitBreaker{FailureRatio: share}}
	}
	holds(t, []rule{
		{"hash for hashes", balancer(&configv1.Balancer{Algorithm: hash}), balancer(&configv1.Balancer{HashOn: &configv1.HashOn{}}), "balancer.hash_on"},
		{
			"header to hash", hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_HEADER, Name: "X-User"}),
			hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_HEADER}), "balancer.hash_on",
		},
		{
			"cookie to hash", hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_COOKIE, Name: "sid"}),
			hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_COOKIE}), "balancer.hash_on",
		},
		{
			"address to hash", hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_IP}),
			hashOn(&configv1.HashOn{By: configv1.HashOnSource_HASH_ON_SOURCE_IP, Name: "X-User"}), "balancer.hash_on.name",
		},
		{
			"slow start", balancer(&configv1.Balancer{SlowStart: durationpb.New(time.Minute)}),
			balancer(&configv1.Balancer{Algorithm: hash, SlowStart: durationpb.New(time.Minute)}), "balancer.slow_start",
		},
		{"path of probes", active(&configv1.ActiveHealth{Path: "/healthz"}), active(&configv1.ActiveHealth{Path: "/../healthz"}), "health.active.path"},
		{"host of probes", active(&configv1.ActiveHealth{Host: "[::1]:80"}), active(&configv1.ActiveHealth{Host: "a b"}), "health.active.host"},
		{
			"time for probes", active(&configv1.ActiveHealth{Interval: durationpb.New(time.Second), Timeout: durationpb.New(time.Second)}),
			active(&configv1.ActiveHealth{Interval: durationpb.New(time.Second), Timeout: durationpb.New(2 * time.Second)}), "health.active.timeout",
		},
		{"share of targets", passive(50_0000), passive(50_0001), "health.passive.max_ejected"},
		{"share of failures", breaker(1_0000), breaker(1_5000), "circuit_breaker.failure_ratio"},
	})
}

func TestSettingsRules(t *testing.T) {
	t.Parallel()
	listener := func(name string, l *configv1.Listener) *configv1.Settings {
		return &configv1.Settings{Listeners: map[string]*configv1.Listener{name: l}, TrustedProxies: []string{"10.0.0.0/8"}}
	}
	log := func(l *configv1.AccessLog) *configv1.Settings { return &configv1.Settings{AccessLog: l} }
	holds(t, []rule{
		{"listeners", listener("https-inner", nil), listener("inner", nil), "listeners.inner"},
		{
			"PROXY header", listener("http", &configv1.Listener{ProxyProtocol: true}),
			&configv1.Settings{Listeners: map[string]*configv1.Listener{"http": {ProxyProtocol: true}}}, "listeners.http.proxy_protocol",
		},
		{"members to redact", log(&configv1.AccessLog{Redact: check.LogMembers()}), log(&configv1.AccessLog{Redact: []string{"status"}}), "access_log.redact[0]"},
		{"headers with credentials", log(&configv1.AccessLog{Headers: []string{"Referer"}}), log(&configv1.AccessLog{Headers: []string{"cookie"}}), "access_log.headers[0]"},
		{
			"headers with addresses", log(&configv1.AccessLog{Headers: []string{"Forwarded"}, ClientIp: configv1.ClientIpForm_CLIENT_IP_FORM_FULL}),
			log(&configv1.AccessLog{Headers: []string{"x-real-ip"}, ClientIp: configv1.ClientIpForm_CLIENT_IP_FORM_HASHED}), "access_log.headers[0]",
		},
		{"headers once", log(&configv1.AccessLog{Headers: []string{"A", "B"}}), log(&configv1.AccessLog{Headers: []string{"A", "a"}}), "access_log.headers[1]"},
	})
}

func TestProtocolsThatCarryRequests(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"h2c", "h2", "http/2.0", "tls/1.3"} {
		if vs := check.Route(&configv1.Route{Upgrade: []string{"websocket", p}}); len(vs) != 1 || vs[0].Path != "upgrade[1]" {
			t.Errorf("upgrade to %s: %v", p, vs)
		}
	}
	if vs := check.Route(&configv1.Route{Upgrade: []string{"websocket", "connect-udp", "chat/2"}}); len(vs) > 0 {
		t.Errorf("refused: %v", vs)
	}
}
