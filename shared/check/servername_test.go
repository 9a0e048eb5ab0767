package check_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check"
)

// TestACertificateSaysWhatTheSettingsDoNot sets each field on one side and on both.
func TestACertificateSaysWhatTheSettingsDoNot(t *testing.T) {
	t.Parallel()
	hsts := func(seconds int64) *configv1.Hsts {
		return &configv1.Hsts{MaxAge: &durationpb.Duration{Seconds: seconds}}
	}
	settings := &configv1.ServerTls{
		MinVersion: "1.2", MaxVersion: "1.2", CipherSuites: []string{"a"}, Curves: []string{"b"}, SessionTickets: new(true), Alpn: []string{"h2"}, Hsts: hsts(1),
		DefaultCertificate: []string{"c"},
	}
	for _, tt := range []struct {
		name     string
		settings *configv1.ServerTls
		own      *configv1.ServerNameTls
		want     *configv1.ServerTls
	}{
		{"nothing", nil, nil, &configv1.ServerTls{}},
		{"the settings only", settings, nil, settings},
		{"nothing in a message", settings, &configv1.ServerNameTls{}, settings},
		{
			"the certificate only", nil, &configv1.ServerNameTls{MinVersion: "1.3", SessionTickets: new(false)},
			&configv1.ServerTls{MinVersion: "1.3", SessionTickets: new(false)},
		},
		{
			"both", settings,
			&configv1.ServerNameTls{
				MinVersion: "1.3", MaxVersion: "1.3", CipherSuites: []string{"x"}, Curves: []string{"y", "z"}, SessionTickets: new(false),
				Alpn: []string{"http/1.1"}, Hsts: hsts(2),
			},
			&configv1.ServerTls{
				MinVersion: "1.3", MaxVersion: "1.3", CipherSuites: []string{"x"}, Curves: []string{"y", "z"}, SessionTickets: new(false),
				Alpn: []string{"http/1.1"}, Hsts: hsts(2), DefaultCertificate: []string{"c"},
			},
		},
	} {
		if diff := cmp.Diff(tt.want, check.ServerNameTLS(tt.settings, tt.own), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
