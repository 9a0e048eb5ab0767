package app

import (
	"keyward.dev/dataplane/internal/status"
)

// cacheState is how the status asks for the sealed cache; nil if there is none.
func (g *Gateway) cacheState() func() status.Cache {
	if g.cache == nil {
		return nil
	}
	return func() status.Cache {
		s := g.cache.State()
		return status.Cache{Serving: s.Serving, Confirmed: s.Confirmed, Refused: string(s.Refused), WriteFailed: s.WriteFailed}
	}
}
