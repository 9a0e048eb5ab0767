package check_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

func TestServerTLS(t *testing.T) {
	t.Parallel()
	with := func(s *configv1.ServerTls) *configv1.Settings {
		if s.GetMinVersion() == "" {
			s.MinVersion = "1.2"
		}
		return &configv1.Settings{Tls: s}
	}
	hsts := func(age time.Duration, subdomains, preload bool) *configv1.Settings {
		return with(&configv1.ServerTls{Hsts: &configv1.Hsts{MaxAge: durationpb.New(age), IncludeSubdomains: subdomains, Preload: preload}})
	}
	const year = 365 * 24 * time.Hour
	suite := []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
	holds(t, []rule{
		{
			"versions leave something", with(&configv1.ServerTls{MaxVersion: "1.2"}),
			with(&configv1.ServerTls{MinVersion: "1.3", MaxVersion: "1.2"}), "tls.max_version",
		},
		{
			"suites are safe ones", with(&configv1.ServerTls{CipherSuites: suite}),
			with(&configv1.ServerTls{CipherSuites: []string{suite[0], "TLS_RSA_WITH_AES_128_GCM_SHA256"}}), "tls.cipher_suites[1]",
		},
		{
			"suites are not void", with(&configv1.ServerTls{CipherSuites: suite}),
			with(&configv1.ServerTls{CipherSuites: suite, MinVersion: "1.3"}), "tls.cipher_suites",
		},
		{
			"curves are known", with(&configv1.ServerTls{Curves: []string{"X25519", "P-256"}}),
			with(&configv1.ServerTls{Curves: []string{"X25519", "secp256k1"}}), "tls.curves[1]",
		},
		{
			"curves leave something for TLS 1.2", with(&configv1.ServerTls{Curves: []string{"X25519MLKEM768"}, MinVersion: "1.3"}),
			with(&configv1.ServerTls{Curves: []string{"X25519MLKEM768"}}), "tls.curves",
		},
		{"protocols are known", with(&configv1.ServerTls{Alpn: []string{"http/1.1", "h2"}}), with(&configv1.ServerTls{Alpn: []string{"http/1.1", "h3"}}), "tls.alpn[1]"},
		{"HSTS counts seconds", hsts(time.Second, false, false), hsts(1500*time.Millisecond, false, false), "tls.hsts.max_age"},
		{"preloading is for long", hsts(year, true, true), hsts(year-time.Hour, true, true), "tls.hsts.preload"},
		{"preloading is for all hosts", hsts(year, true, true), hsts(year, false, true), "tls.hsts.preload"},
	})
}
