package policy

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// authn combines authentication bindings: an OR of ANDs.
type authn struct {
	branches [][]Link
	unbound  [][]*exchange.Refusal // for each link: of a credential that is bound to a certificate which the client does not have
	hiders   []Hider
	// anonymous is as whom callers pass that present nothing; nil: they do not.
	anonymous *anonymous
}

// notBound is what the access log says of it; callers are told what they are of any credential that does not count.
const notBound = "certificate_not_bound"

var refuseUnbound = exchange.NewRefusal(401, "unauthenticated", "The credential is not valid.").Because(notBound)

var refuseMixed = exchange.NewRefusal(401, "unauthenticated", "The presented credentials belong to different consumers.")

func newAuthn(branches [][]Link) *authn {
	a := &authn{branches: branches, unbound: make([][]*exchange.Refusal, len(branches))}
	seen := map[Policy]bool{}
	for i, b := range branches {
		for _, l := range b {
			a.unbound[i] = append(a.unbound[i], unboundRefusal(l.Policy))
			if h, ok := l.Policy.(Hider); ok && !seen[l.Policy] {
				seen[l.Policy] = true
				a.hiders = append(a.hiders, h)
			}
		}
	}
	return a
}

func unboundRefusal(p Policy) *exchange.Refusal {
	if u, ok := p.(Uniform); ok {
		return u.Invalid().Because(notBound)
	}
	return refuseUnbound
}

// binding names the whole by its only binding if there is one.
func (a *authn) binding() Identity {
	if len(a.branches) == 1 && len(a.branches[0]) == 1 {
		return a.branches[0][0].Binding
	}
	return Identity{Type: "authn", Name: "authn"}
}

// Request tries the branches in order. The refusal of the first failed branch is the answer, unless one failed by an
// outage and none passed: then nobody can know, and the answer is that 5xx. Who has presented nothing to any of them may
// pass as the anonymous consumer.
func (a *authn) Request(x *exchange.Exchange) Verdict {
	var first *exchange.Refusal
	blame, nothing := 0, true
	for i := range a.branches {
		r, at := a.tryBranch(x, i)
		if r == nil {
			x.TakeRefusal()
			for _, h := range a.hiders {
				h.Hide(x)
			}
			for _, p := range x.Proofs {
				p.Used.Note(x.Timings.Received)
			}
			return Next
		}
		nothing = nothing && at == 0 && r.IsAbsent() // a link that passed was presented something
		if first == nil || first.Status() < 500 && r.Status() >= 500 {
			first, blame = r, i*maxBranchLen+at
		}
	}
	x.Principal, x.Proofs, x.Vouched = nil, x.Proofs[:0], x.Vouched[:0]
	if a.anonymous != nil && nothing {
		if first, blame = a.anonymously(x, first, blame); first == nil {
			return Next
		}
	}
	x.Slot().N = int64(blame)
	x.Refuse(first)
	return Stop
}

// maxBranchLen is more than any branch has; admission allows 8.
const maxBranchLen = 1 << 16

// tryBranch returns nil with x.Principal set if all links pass and name one consumer, else why not and which link says so.
// Whether a credential is bound to a certificate is looked at here and not by each policy, so that none can forget it.
func (a *authn) tryBranch(x *exchange.Exchange, n int) (*exchange.Refusal, int) {
	var who *exchange.Principal
	branch := a.branches[n]
	x.Vouched, x.Proofs = x.Vouched[:0], x.Proofs[:0]
	for i := range branch {
		x.Principal = nil
		x.TakeRefusal()
		if branch[i].Policy.Request(x) != Next {
			return refusalOf(x), i
		}
		if x.Principal == nil {
			return refusePanic, i // passing without saying who is a bug, never an identity
		}
		if to := x.Principal.Bound(); to != "" && (x.Client == nil || !x.Client.Proves(to)) {
			return a.unbound[n][i], i
		}
		x.Proofs = append(x.Proofs, x.Principal)
		if who == nil {
			who = x.Principal
		} else if who.ConsumerUID != x.Principal.ConsumerUID || who.ConsumerUID == "" {
			return refuseMixed, i
		}
	}
	if who == nil {
		return refusePanic, 0 // an empty branch would let everybody in
	}
	x.Principal = who
	return nil, 0
}

func refusalOf(x *exchange.Exchange) *exchange.Refusal {
	if r := x.TakeRefusal(); r != nil {
		return r
	}
	return refusePanic
}

// explain completes a 401 with the challenges of every binding that could have helped (RFC 9110 section 11.6.1 allows
// several) and returns the binding to name in the log.
func (a *authn) explain(x *exchange.Exchange, r *exchange.Refusal) *Identity {
	if r.Status() == 401 {
		for b := range a.branches {
			for i := range a.branches[b] {
				if c, ok := a.branches[b][i].Policy.(Challenger); ok {
					addChallenge(&x.Response.Header, c.Challenge())
				}
			}
		}
	}
	at := int(x.Slot().N)
	if b := at / maxBranchLen; at%maxBranchLen < len(a.branches[b]) {
		return &a.branches[b][at%maxBranchLen].Binding
	}
	return nil
}

// Challenger is an authentication policy that tells callers how to authenticate.
type Challenger interface {
	// Challenge returns its WWW-Authenticate field.
	Challenge() exchange.Header
}

// addChallenge adds a challenge, unless it is there already, maybe with more to it (RFC 6750 section 3: what was wrong).
func addChallenge(h *exchange.Headers, f exchange.Header) {
	for _, have := range *h {
		if rest, same := bytes.CutPrefix(have.Value, f.Value); same && exchange.EqualFold(have.Name, "WWW-Authenticate") && (len(rest) == 0 || rest[0] == ',') {
			return
		}
	}
	h.Add(f)
}

func credentialFields(branches [][]Link) (names []string) {
	for _, b := range branches {
		for _, l := range b {
			if bearer, ok := l.Policy.(Bearer); ok {
				names = append(names, bearer.CredentialFields()...)
			}
		}
	}
	return names
}
