package runtime

import (
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/router"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/chain"
)

// Route is a route with everything that follows from it.
type Route struct {
	// What every request looks at comes first.

	// Closed says why its requests are answered 503; empty if they are not.
	Closed string
	// Chain is the half of the policies that runs before the caller is known, Overlays are the half that runs afterwards.
	Chain    *policy.Chain
	Overlays *Overlays
	Service  *Service
	// Call is how the service is called for this route: mostly as for all of them.
	Call *CallOptions
	// MaxBody bounds the request body.
	MaxBody int64
	// Demand is which client certificates are wanted; nil: none.
	Demand *Demand
	Info   exchange.RouteInfo
	// StripPrefix and AddPrefix say how the path is rewritten.
	StripPrefix bool
	AddPrefix   string

	// Asks is what its authentication policies want of certificates, which not every client needs to have.
	Asks Asks
	// Need is what it asks of connections: its demand, or a needless one for all that may be shown to it; nil: nothing.
	Need *Demand

	// ServiceName is the service it names; empty if the route could not be read.
	ServiceName string
	// Match is its part in the table.
	Match *router.Route
	// MatchFault says why it closes its hosts, Lost that not even those are known and it closes everything.
	MatchFault string
	Lost       bool

	// Upgrades are the protocols, in lower case, that a connection may be switched to; empty: none.
	Upgrades []string
	// MaxStreamAge bounds tunnels and responses without an end; 0: no bound.
	MaxStreamAge time.Duration
}

// Early is the half of the policies that runs before the caller is known: one for all routes that add nothing to what their
// service or the settings say, so that it stays in the processor's caches however many there are.
type Early struct {
	Chain *policy.Chain
	Asks  Asks
}

// Plain is what applies to routes of a service that have no policies and no authentication of their own.
type Plain struct {
	// Settings are those it was made with; with others it is not valid any more.
	Settings *Owner
	Early    *Early
	Overlays *Overlays
}

// Overlay is the half of the policies that runs once the caller is known.
type Overlay struct {
	Chain  policy.Chain
	Closed string // why requests with it are answered 503
}

// maxOverlays bounds the overlays that are kept. Routes called by more different profiles build some again.
const maxOverlays = 1024

// OverlayMaker is what overlays of a route are made from.
type OverlayMaker struct {
	Lookup                   chain.Lookup
	Settings, Service, Route *Owner
	Authn                    *configv1.Authn
	Sharing                  *policy.Sharing
}

// Overlays makes overlays and keeps them. It fills one line of memory, and of many routes callers without a profile look at
// nothing else of their overlay.
type Overlays struct {
	anybody Overlay
	maker   *OverlayMaker
	kept    atomic.Pointer[keptOverlays] // nil: none
}

type keptOverlays struct {
	of sync.Map // *Profile: *Overlay
	n  atomic.Int32
}

// NewOverlays returns the overlays that m makes.
func NewOverlays(m *OverlayMaker) *Overlays { return &Overlays{maker: m, anybody: *m.make(nil)} }

// Forget drops the overlays kept so far, whose profiles are not used any more.
func (o *Overlays) Forget() { o.kept.Store(nil) }

// Overlay returns the overlay of the route for a caller, nil for an unknown one. It allocates nothing unless this profile is new to
// the route.
func (rt *Runtime) Overlay(r *Route, p *exchange.Principal) *Overlay {
	if p == nil {
		return &r.Overlays.anybody
	}
	profile, ok := rt.profileOf(p)
	switch {
	case !ok:
		return lostOverlay
	case profile == nil:
		return &r.Overlays.anybody
	}
	return r.Overlays.of(profile)
}

// lostOverlay answers callers of whom the runtime does not know what applies to them.
var lostOverlay = &Overlay{Closed: "what applies to the caller is not known"}

func (o *Overlays) of(p *Profile) *Overlay {
	kept := o.kept.Load()
	if kept != nil {
		if v, ok := kept.of.Load(p); ok {
			return v.(*Overlay) //nolint:forcetypeassert // nothing else is put there
		}
	}
	if kept == nil || kept.n.Add(1) > maxOverlays {
		kept = &keptOverlays{}
		o.kept.Store(kept) // whoever does the same now loses nothing but work
	}
	made := o.maker.make(p)
	kept.of.Store(p, made)
	return made
}

func (m *OverlayMaker) make(p *Profile) *Overlay {
	if p != nil && p.Closed != "" {
		return &Overlay{Closed: p.Closed}
	}
	in := chain.Input{Settings: m.Settings.chain(), Service: m.Service.chain(), Route: m.Route.chain(), Authn: m.Authn}
	owners := []*Owner{m.Settings, m.Service, m.Route}
	if p != nil {
		for _, g := range p.Groups {
			in.Groups = append(in.Groups, g.chain())
		}
		in.Consumer = p.Consumer.chain()
		owners = append(append(owners, p.Groups...), p.Consumer)
	}
	c := chain.Effective(m.Lookup, in)
	if reason := c.Closed(); reason != "" {
		return &Overlay{Closed: reason}
	}
	var links []policy.Link
	for i := range c.Links {
		l := &c.Links[i]
		if !l.Applies() || l.Phase <= optionsv1.Phase_PHASE_AUTHN {
			continue
		}
		link, fault := LinkOf(owners, l)
		if fault != "" {
			return &Overlay{Closed: fault}
		}
		links = append(links, link)
	}
	return &Overlay{Chain: m.Sharing.Overlay(links)}
}
