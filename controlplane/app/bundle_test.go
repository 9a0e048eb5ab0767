package app_test

import (
	"flag"
	"strings"
	"testing"

	"keyward.dev/controlplane/app"
	"keyward.dev/shared/settings"
)

func TestSettingsOfFallbackBundles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		want string // empty: nothing is wrong with bundles
	}{
		"none":               {},
		"a directory":        {args: []string{"--bundle-dir=/b"}},
		"a bucket":           {args: []string{"--bundle-s3=https://s3.test/b"}, env: keysOf("a", "s")},
		"both":               {args: []string{"--bundle-dir=/b", "--bundle-s3=https://s3.test/b"}, env: keysOf("a", "s"), want: "which of the two"},
		"without keys":       {args: []string{"--bundle-s3=https://s3.test/b"}, want: "an access key and a secret key"},
		"plain HTTP":         {args: []string{"--bundle-s3=http://s3.test/b"}, env: keysOf("a", "s"), want: "not https"},
		"too short a life":   {args: []string{"--bundle-interval=1m", "--bundle-ttl=1m"}, want: "twice --bundle-interval"},
		"too short a period": {args: []string{"--bundle-interval=1ms"}, want: "between 1s and 24h"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s app.Settings
			fs := flag.NewFlagSet("serve", flag.ContinueOnError)
			s.Flags(fs)
			lookup := func(key string) (string, bool) { v, ok := tt.env[key]; return v, ok }
			if err := settings.Parse(fs, tt.args, lookup); err != nil {
				t.Fatal(err)
			}
			err := s.Check() // the database is missing, always
			if got := strings.Contains(err.Error(), "bundle-"); got != (tt.want != "") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check() = %v, want %q", err, tt.want)
			}
		})
	}
}

func keysOf(access, secret string) map[string]string {
	return map[string]string{"KEYWARD_BUNDLE_S3_ACCESS_KEY": access, "KEYWARD_BUNDLE_S3_SECRET_KEY": secret}
}
