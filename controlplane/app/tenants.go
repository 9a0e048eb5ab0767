package app

import (
	"flag"

	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/shared/settings"
)

// Tenants says what groups may have the control plane call.
type Tenants struct {
	// Networks are ranges, beside public addresses, where servers may be that groups name.
	Networks []string
}

// Flags declares the settings.
func (t *Tenants) Flags(fs *flag.FlagSet) {
	settings.ListVar(fs, &t.Networks, "tenant-networks", nil, "`ranges` of addresses, beside public ones, where servers may be that groups have the control plane call: secret providers, ACME authorities, revocation lists, responders")
}

func (t *Tenants) check(faults *settings.Faults) {
	_, err := t.egress()
	faults.Add("tenant-networks", err)
}

// egress are the rules for all that is called for groups.
func (t *Tenants) egress() (*egress.Rules, error) {
	return egress.New(t.Networks, egress.Interfaces)
}
