package app

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"time"

	"keyward.dev/controlplane/internal/certstatus"
	"keyward.dev/controlplane/internal/outbound"
	"keyward.dev/shared/settings"
)

// Fetching says what may be called that groups name.
type Fetching struct {
	Networks []string
}

// Flags declares the settings.
func (f *Fetching) Flags(fs *flag.FlagSet) {
	settings.ListVar(fs, &f.Networks, "fetch-networks", nil, "`ranges` of addresses that may be called although they are of the machine itself, link-local or of metadata services, where groups name what is to be fetched")
}

func (f *Fetching) check(faults *settings.Faults) {
	_, err := f.allowed()
	faults.Add("fetch-networks", err)
}

func (f *Fetching) allowed() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range f.Networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no range of addresses such as 127.0.0.1/32", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// newStatusKeeper fetches what others say of certificates.
func (p *plane) newStatusKeeper() (*certstatus.Keeper, error) {
	allow, err := p.settings.Fetching.allowed()
	if err != nil {
		return nil, err
	}
	unlock := func(ctx context.Context, group string) (certstatus.Vault, error) {
		return p.core.sealer.Group(ctx, group)
	}
	return certstatus.New(certstatus.Config{
		Database: p.core.store, Unlock: unlock, Groups: p.core.groups, Writer: p.core.config,
		Fetcher: outbound.New(allow), Now: time.Now, Log: p.log,
	}), nil
}
