package policy

import (
	"sync/atomic"

	"keyward.dev/dataplane/internal/exchange"
)

// howAnonymous is how an anonymous caller has proved who it is.
const howAnonymous = "anonymous"

// refuseLost answers for an anonymous consumer of whom nothing is known here: what applies to it is not known either.
var refuseLost = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5")).Because("anonymous_consumer_unknown")

// anonymous is the consumer as whom callers pass that present no credential.
type anonymous struct {
	name []byte
	// known is its principal as the newest directory has it, so that one is made for each directory and not for each request.
	known atomic.Pointer[anonymousIn]
}

type anonymousIn struct {
	directory exchange.Directory
	principal *exchange.Principal
}

func newAnonymous(name string) *anonymous { return &anonymous{name: []byte(name)} }

// in returns the principal, nil if the directory knows no such consumer.
func (a *anonymous) in(d exchange.Directory) *exchange.Principal {
	if k := a.known.Load(); k != nil && k.directory == d {
		return k.principal
	}
	k := &anonymousIn{directory: d}
	if d != nil {
		if p := d.Consumer(exchange.ConsumerByName, a.name); p != nil {
			made := *p
			made.Kind, made.How = exchange.KindAnonymous, howAnonymous
			k.principal = &made
		}
	}
	a.known.Store(k)
	return k.principal
}

// anonymously lets a request pass as the anonymous consumer if nothing was presented to the links that were not asked yet
// either: so far only the first of each branch was. It returns nil with x.Principal set, or the refusal and who it is by.
func (a *authn) anonymously(x *exchange.Exchange, first *exchange.Refusal, blame int) (*exchange.Refusal, int) {
	for b, branch := range a.branches {
		for i := 1; i < len(branch); i++ {
			x.TakeRefusal()
			passed := branch[i].Policy.Request(x) == Next
			x.Principal, x.Vouched = nil, x.Vouched[:0]
			r := x.TakeRefusal()
			switch {
			case passed:
				return first, blame // one of two credentials
			case r == nil:
				return refusePanic, b*maxBranchLen + i
			case !r.IsAbsent():
				return r, b*maxBranchLen + i
			}
		}
	}
	p := a.anonymous.in(x.Directory)
	if p == nil {
		return refuseLost, blame
	}
	x.TakeRefusal()
	x.Principal = p
	for _, h := range a.hiders {
		h.Hide(x)
	}
	return nil, 0
}
