package app

import (
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/status"
)

// sharedStores answers how the stores do that this gateway shares with others.
func sharedStores(services *hostsvc.Services) func() []status.Store {
	return func() []status.Store {
		var out []status.Store
		for _, u := range hostsvc.Held[hostsvc.RedisUse](&services.Kept) {
			out = append(out, status.Store{
				Name: u.Name, DownSince: u.DownSince(), First: u.First.Load(), Again: u.Again.Load(), Failed: u.Failed.Load(), Skipped: u.Skipped.Load(),
			})
		}
		return out
	}
}
