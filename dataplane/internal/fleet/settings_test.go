package fleet_test

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/fleet"
	"keyward.dev/shared/settings"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args string
		env  map[string]string
		want []string // parts of the error; none: no error
	}{
		{"the least", "--control-plane a:1", map[string]string{"KEYWARD_JOIN_TOKEN": "t"}, nil},
		{"all", "--control-plane a:1,b:2 --gateways 5000 --ramp 1m --report-every 5s --label a=b --identity-dir /x --status-listen :0 --log-level info", nil, nil},
		{"by environment", "", map[string]string{"KEYWARD_CONTROL_PLANE": "a:1", "KEYWARD_GATEWAYS": "7"}, nil},
		{"no control plane", "", nil, []string{"--control-plane"}},
		{
			"everything at once", "--control-plane a --gateways 0 --ramp -1s --report-every 0s --label x --root-spki zz", nil,
			[]string{`"a" is not host:port`, "--gateways", "--ramp", "--report-every", "--label", "--root-spki"},
		},
		{"too many", "--control-plane a:1 --gateways 100001", nil, []string{"--gateways"}},
		{"a token on the command line", "--control-plane a:1 --join-token t", nil, []string{"join-token"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var s fleet.Settings
			fs := flag.NewFlagSet("keyward-fleet", flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			s.Flags(fs)
			err := settings.Parse(fs, strings.Fields(test.args), func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
			err = errors.Join(err, s.Check())
			if (err != nil) != (len(test.want) > 0) {
				t.Fatalf("error = %v, want %q", err, test.want)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error = %v, which lacks %q", err, part)
				}
			}
		})
	}
}
