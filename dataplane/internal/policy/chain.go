package policy

import (
	"slices"

	"keyward.dev/dataplane/internal/exchange"
)

// Link is one built policy in its place.
type Link struct {
	Binding Identity
	// Report: refusals are reported, not enforced, and the exchange stays as it is. Not for authentication.
	Report bool
	// Shared: the policy is not this binding's alone, but also that of others; it is a pointer then.
	Shared bool
	Policy Policy
}

// Monitor is told what the exchange itself does not show. Its methods are called on the request path and must not block.
type Monitor interface {
	// Reported: a binding in report mode would have refused.
	Reported(x *exchange.Exchange, by *Identity, r *exchange.Refusal)
	// Panicked: a policy panicked with value v; the exchange is answered 500.
	Panicked(x *exchange.Exchange, by *Identity, v any)
}

// half says which progress of the exchange a chain uses.
type half int

const (
	routeHalf half = iota
	overlayHalf
)

// Chain is a compiled half of the effective policies of a request. It is immutable and used by many exchanges at once. What
// it does may be that of many chains (Sharing), what is its own is whose bindings these are: among very many routes a request
// that passes looks at nothing else of it.
type Chain struct {
	*program
	bindings []*Identity // of each link
}

// program is what chains do.
type program struct {
	half        half
	links       []compiled
	monitor     Monitor
	bodies      bool // some link sees them
	preflight   bool
	waits       bool
	credentials []string
}

// compiled is a link with its optional interfaces looked up once: all that a request that passes looks at, in one line of memory.
type compiled struct {
	policy   Policy
	response ResponsePolicy // nil: it sees none
	body     BodyPolicy     // nil: it sees none
	report   bool
}

var refusePanic = exchange.NewRefusal(500, "internal", "The gateway could not process the request.")

// NewRoute compiles the route half: the edge links in order, then authentication. Branches are alternatives of which one
// must pass; a branch passes when all its links do and name the same consumer. No branches: no authentication.
func NewRoute(edge []Link, branches [][]Link, m Monitor) *Chain {
	return NewOpenRoute(edge, branches, "", m)
}

// NewOpenRoute is NewRoute for a route on which callers that present no credential pass as the consumer of that name;
// empty: they do not.
func NewOpenRoute(edge []Link, branches [][]Link, anonymous string, m Monitor) *Chain {
	links := edge
	if len(branches) > 0 {
		a := newAuthn(branches)
		if anonymous != "" {
			a.anonymous = newAnonymous(anonymous)
		}
		links = append(append([]Link(nil), edge...), Link{Binding: a.binding(), Policy: a})
	}
	c := compile(routeHalf, links, m)
	c.credentials = credentialFields(branches)
	for _, b := range branches {
		c.waits = c.waits || anyWaits(b)
	}
	return c
}

// NewOverlay compiles the overlay half: authz, traffic and transform links in order.
func NewOverlay(links []Link, m Monitor) *Chain { return compile(overlayHalf, links, m) }

func compile(h half, links []Link, m Monitor) *Chain {
	return &Chain{program: programOf(h, links, m), bindings: bindingsOf(links)}
}

func programOf(h half, links []Link, m Monitor) *program {
	p := &program{half: h, monitor: m, links: make([]compiled, 0, len(links)), waits: anyWaits(links)}
	for _, l := range links {
		k := compiled{policy: l.Policy, report: l.Report}
		if !l.Report {
			k.response, _ = l.Policy.(ResponsePolicy)
		}
		k.body, _ = l.Policy.(BodyPolicy)
		p.bodies = p.bodies || k.body != nil
		_, answers := l.Policy.(Preflighter)
		p.preflight = p.preflight || answers && !l.Report
		p.links = append(p.links, k)
	}
	return p
}

func bindingsOf(links []Link) []*Identity {
	identities := make([]Identity, len(links))
	out := make([]*Identity, len(links))
	for i := range links {
		identities[i] = links[i].Binding
		out[i] = &identities[i]
	}
	return out
}

func anyWaits(links []Link) bool {
	return slices.ContainsFunc(links, func(l Link) bool {
		_, ok := l.Policy.(Waiter)
		return ok
	})
}

// Waits says whether Request may wait.
func (c *Chain) Waits() bool { return c.waits }

// Preflighter is a policy that answers every CORS preflight request (Fetch standard, section 4.8) itself.
type Preflighter interface {
	AnswersPreflight()
}

// AnswersPreflight says whether no preflight request passes the chain: a link answers each, unless one before it refuses.
func (c *Chain) AnswersPreflight() bool { return c.preflight }

// CredentialFields names the header fields in which authentication looks for credentials.
func (c *Chain) CredentialFields() []string { return c.credentials }

// NeedsBody says whether Body must be called with the request body.
func (c *Chain) NeedsBody() bool { return c.bodies }

// Len returns the number of links; authentication counts as one.
func (c *Chain) Len() int { return len(c.links) }

// Request runs the request side. After Stop, x.Response holds the answer, x.StoppedBy says whose it is, and Unwind
// must be called before it is sent.
func (c *Chain) Request(x *exchange.Exchange) (v Verdict) {
	p := &x.Progress[c.half]
	if len(c.links) == 0 {
		return Next
	}
	c.prepare(p)
	defer func() {
		if v == Stop && p.Ran > 0 {
			if r := recover(); r != nil {
				c.panicked(x, p.Ran-1, r)
			}
		}
	}()
	for i := range c.links {
		l := &c.links[i]
		p.Ran = i + 1
		x.UseSlot(&p.Slots[i])
		if l.response != nil {
			p.Due = append(p.Due, exchange.Due{Policy: l.response, Chain: c, Link: i})
		}
		if l.report {
			if !c.observe(x, i) && l.body != nil {
				p.Slots[i].N = bodyDone
			}
			continue
		}
		if l.policy.Request(x) != Next {
			c.stop(x, i)
			return Stop
		}
	}
	return Next
}

func (c *Chain) prepare(p *exchange.Progress) {
	p.Ran, p.Due = 0, p.Due[:0]
	if cap(p.Slots) < len(c.links) {
		p.Slots = make([]exchange.Slot, len(c.links), max(len(c.links), 8))
		return
	}
	p.Slots = p.Slots[:len(c.links)]
	clear(p.Slots)
}

// observe runs a link in report mode: its verdict is noted and everything it did is undone. It says whether the link let
// the request pass.
func (c *Chain) observe(x *exchange.Exchange, i int) bool {
	l := &c.links[i]
	x.Save()
	v := l.policy.Request(x)
	x.Restore()
	if v == Next {
		x.TakeRefusal()
		return true
	}
	c.report(x, i)
	return false
}

func (c *Chain) report(x *exchange.Exchange, i int) {
	by, r := c.bindings[i], x.TakeRefusal()
	if r == nil {
		r = refusePanic
	}
	if r.IsAnswer() {
		return
	}
	x.Reports = append(x.Reports, exchange.Report{By: by, Refusal: r})
	if c.monitor != nil {
		c.monitor.Reported(x, by, r)
	}
}

// stop makes the recorded refusal the answer. A policy that stops without one is broken: 500.
func (c *Chain) stop(x *exchange.Exchange, i int) {
	r := x.Refusal()
	if r == nil {
		r = refusePanic
	}
	x.StoppedBy = c.bindings[i]
	x.Answer(r)
	if a, ok := c.links[i].policy.(*authn); ok {
		if by := a.explain(x, r); by != nil {
			x.StoppedBy = by
		}
	}
}

func (c *Chain) panicked(x *exchange.Exchange, i int, value any) {
	x.StoppedBy = c.bindings[i]
	x.Answer(refusePanic)
	if c.monitor != nil {
		c.monitor.Panicked(x, x.StoppedBy, value)
	}
}

// Body shows a piece of the request body to the links that want it. After Stop, x.Response holds the answer; what was
// sent to the upstream must be aborted.
func (c *Chain) Body(x *exchange.Exchange, chunk []byte, last bool) (v Verdict) {
	if !c.bodies {
		return Next
	}
	p, at := &x.Progress[c.half], 0
	defer func() {
		if v == Stop {
			if r := recover(); r != nil {
				c.panicked(x, at, r)
			}
		}
	}()
	for ; at < p.Ran; at++ {
		l := &c.links[at]
		if l.body == nil || p.Slots[at].N == bodyDone {
			continue
		}
		x.UseSlot(&p.Slots[at])
		if l.body.Body(x, chunk, last) == Next {
			continue
		}
		if !l.report {
			c.stop(x, at)
			return Stop
		}
		c.report(x, at)
		p.Slots[at].N = bodyDone
	}
	return Next
}

// bodyDone in a slot's N marks a body policy in report mode that has given its verdict.
const bodyDone = -1 << 63

// Unwind runs the response side in reverse, for the links whose Request was called: those of the overlay first. A panic makes
// the answer a 500, and the rest still runs. It looks at nothing but the exchange and the policies that have something to do:
// with many routes, chains are in no cache any more when the response comes.
func Unwind(x *exchange.Exchange) {
	for _, h := range [...]half{overlayHalf, routeHalf} {
		p := &x.Progress[h]
		for i := range slices.Backward(p.Due) {
			respond(x, p, i)
		}
	}
}

func respond(x *exchange.Exchange, p *exchange.Progress, i int) {
	d := &p.Due[i]
	defer func() {
		if r := recover(); r != nil {
			if c, ok := d.Chain.(*Chain); ok {
				c.panicked(x, d.Link, r)
			}
		}
	}()
	x.UseSlot(&p.Slots[d.Link])
	d.Policy.Response(x)
}

// Forget leaves out the response side: nothing of the chains is to be touched again.
func Forget(x *exchange.Exchange) {
	for i := range x.Progress {
		x.Progress[i].Due = x.Progress[i].Due[:0]
	}
}
