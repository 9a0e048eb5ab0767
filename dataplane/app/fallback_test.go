package app_test

import (
	"strings"
	"testing"

	"keyward.dev/dataplane/app"
)

func TestSettingsOfTheFallbackBundle(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		bundle app.FallbackBundle
		group  string
		want   string // empty: nothing is wrong with the bundle
	}{
		"none":           {},
		"a path":         {app.FallbackBundle{Source: "/b/pay.bundle", KeyFile: "k", SignerFile: "s"}, "pay", ""},
		"a URL":          {app.FallbackBundle{Source: "https://b.test/pay.bundle", KeyFile: "k", SignerFile: "s"}, "pay", ""},
		"plain HTTP":     {app.FallbackBundle{Source: "http://b.test/pay.bundle", KeyFile: "k", SignerFile: "s"}, "pay", "neither a path nor an https URL"},
		"without keys":   {app.FallbackBundle{Source: "/b", KeyFile: "k"}, "pay", "needs --bundle-key-file and --bundle-signer-file"},
		"without group":  {app.FallbackBundle{Source: "/b", KeyFile: "k", SignerFile: "s"}, "", "needs --group"},
		"keys alone":     {app.FallbackBundle{KeyFile: "k"}, "pay", "is needed with --bundle-key-file"},
		"no host in URL": {app.FallbackBundle{Source: "https:///b", KeyFile: "k", SignerFile: "s"}, "pay", "neither a path nor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := app.Settings{Group: tt.group, Fallback: tt.bundle}
			err := s.Check()
			if got := err != nil && strings.Contains(err.Error(), "fallback-bundle"); got != (tt.want != "") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check() = %v, want %q", err, tt.want)
			}
		})
	}
}
