package fleet

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"time"

	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Settings are those of the command.
type Settings struct {
	Gateways                int
	Ramp, ReportEvery       time.Duration
	ControlPlane, Labels    []string
	JoinToken               settings.Secret
	ServiceAccountTokenFile string
	Group, RootSPKI         string
	IdentityDir             string
	TrustDomain             string
	StatusListen            string
	Log                     telemetry.LogOptions
}

// maxGateways is more than a machine has ports for connections to one address.
const maxGateways = 100_000

// Flags declares the settings.
func (s *Settings) Flags(fs *flag.FlagSet) {
	fs.IntVar(&s.Gateways, "gateways", 100, "`how many` gateways to simulate")
	fs.DurationVar(&s.Ramp, "ramp", 10*time.Second, "`time` over which they start")
	settings.ListVar(fs, &s.ControlPlane, "control-plane", nil, "`host:port` of the control plane's sync port; may be repeated")
	settings.SecretVar(fs, &s.JoinToken, "join-token", "join `token` with as many uses as there are gateways without an identity")
	fs.StringVar(&s.ServiceAccountTokenFile, "service-account-token-file", "", "`path` of a projected Kubernetes service-account token to join with")
	fs.StringVar(&s.Group, "group", "", "gateway `group` to join; needed only if what they join with allows several")
	fs.StringVar(&s.RootSPKI, "root-spki", "", "SHA-256 of the control plane root's public key in `hex`; a join token carries it")
	fs.StringVar(&s.IdentityDir, "identity-dir", "",
		"`directory` that keeps the identities over restarts; empty: in memory only, and every run leaves its gateways behind in the control plane's list")
	fs.StringVar(&s.TrustDomain, "trust-domain", "keyward.local", "trust `domain` of the installation")
	settings.ListVar(fs, &s.Labels, "label", nil, "`key=value` that the gateways say of themselves; may be repeated")
	fs.StringVar(&s.StatusListen, "status-listen", "127.0.0.1:8110", "`host:port` of /livez, /readyz and /metrics")
	fs.DurationVar(&s.ReportEvery, "report-every", time.Second, "how `often` the state of all is written to standard output")
	s.Log.Level = slog.LevelError // what a thousand gateways have to say of an outage is in the counters
	s.Log.Flags(fs)
}

// Check names everything that is wrong with the settings.
func (s *Settings) Check() error {
	var faults settings.Faults
	if len(s.ControlPlane) == 0 {
		faults.Addf("control-plane", "is needed")
	}
	for _, a := range append([]string{s.StatusListen}, s.ControlPlane...) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			faults.Add("", fmt.Errorf("%q is not host:port", a))
		}
	}
	if s.Gateways < 1 || s.Gateways > maxGateways {
		faults.Addf("gateways", "is not between 1 and %d", maxGateways)
	}
	if s.Ramp < 0 {
		faults.Addf("ramp", "is negative")
	}
	if s.ReportEvery <= 0 {
		faults.Addf("report-every", "is not positive")
	}
	_, err := settings.Pairs(s.Labels)
	faults.Add("label", err)
	if s.RootSPKI != "" {
		_, err := mtls.ParseSPKI(s.RootSPKI)
		faults.Add("root-spki", err)
	}
	return faults.Err()
}

// policyTypes are those that a gateway of this version can run, so that the control plane takes the fleet for such.
func policyTypes() []string {
	var types []string
	for _, f := range policies.All() {
		types = append(types, f.Type)
	}
	return types
}
