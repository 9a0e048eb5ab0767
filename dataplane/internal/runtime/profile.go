package runtime

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"keyward.dev/dataplane/internal/exchange"
)

// maxGranted bounds the profiles that are kept of callers whose groups somebody else says. With more, some are made again.
const maxGranted = 1024

// Granted keeps the profiles of callers whose groups are not those that they are configured with: of those in the same groups
// it is one. It may outlive a runtime as long as no consumer group changes.
type Granted struct {
	kept atomic.Pointer[map[string]*Profile]
	mu   sync.Mutex // of who adds
}

// Standing is that of consumers in the same groups, in the same order, without bindings of their own: the same applies to them.
// What that is it remembers, so that a request does not have to look its consumer up.
type Standing struct{ known atomic.Pointer[standingIn] }

// standingIn holds as long as no consumer group changes.
type standingIn struct {
	as      *Granted
	profile *Profile
}

// profileOf returns what applies to a caller; nil: what applies to everybody. ok is false if that is not known.
func (rt *Runtime) profileOf(p *exchange.Principal) (_ *Profile, ok bool) {
	standing, _ := p.Standing.(*Standing)
	if standing != nil && !p.Dynamic {
		if known := standing.known.Load(); known != nil && known.as == rt.Granted {
			return known.profile, true
		}
	}
	var c *Consumer
	if p.ConsumerUID != "" {
		if c, ok = rt.Consumers.Get(p.ConsumerUID); !ok {
			return nil, false
		}
	}
	profile, ok := rt.profile(c, p)
	if ok && c != nil && standing != nil && standing == c.Standing && !p.Dynamic {
		standing.known.Store(&standingIn{rt.Granted, profile})
	}
	return profile, ok
}

// profile returns what applies to a caller, who may be no consumer; nil: what applies to everybody. ok is false if that is not
// known: groups that the caller is in may be among those that cannot be read.
func (rt *Runtime) profile(c *Consumer, p *exchange.Principal) (_ *Profile, ok bool) {
	switch {
	case p.Dynamic:
	case c != nil:
		return c.Profile, true
	default:
		return nil, len(p.Groups) == 0
	}
	if len(p.Groups) > 0 && len(rt.LostGroups) > 0 {
		return nil, false
	}
	var buf [512]byte
	key := buf[:0]
	for i, name := range p.Groups {
		g, found := rt.Groups.Get(name)
		switch {
		case found && g.Closed != "":
			return nil, false
		case found && len(g.Bindings) > 0 && !slices.Contains(p.Groups[:i], name):
			key = append(append(key, g.UID...), ' ')
		}
	}
	if c == nil || c.Owner == nil {
		if len(key) == 0 {
			return nil, true
		}
		if same, ok := rt.Profiles.GetBytes(key); ok { // of consumers who are configured so
			return same, true
		}
		return rt.granted(key, nil, p), true
	}
	return rt.granted(append(append(key, "of "...), c.UID...), c.Owner, p), true
}

// granted returns the one profile of a key.
func (rt *Runtime) granted(key []byte, own *Owner, p *exchange.Principal) *Profile {
	if rt.Granted == nil {
		return rt.grant(own, p)
	}
	if kept := rt.Granted.kept.Load(); kept != nil {
		if known := (*kept)[string(key)]; known != nil && known.Consumer == own {
			return known
		}
	}
	return rt.Granted.add(string(key), rt.grant(own, p))
}

func (g *Granted) add(key string, made *Profile) *Profile {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := map[string]*Profile{}
	if kept := g.kept.Load(); kept != nil {
		if known := (*kept)[key]; known != nil && known.Consumer == made.Consumer {
			return known
		}
		if len(*kept) < maxGranted {
			maps.Copy(next, *kept)
		}
	}
	next[key] = made
	g.kept.Store(&next)
	return made
}

func (rt *Runtime) grant(own *Owner, p *exchange.Principal) *Profile {
	made := &Profile{Consumer: own}
	for i, name := range p.Groups {
		if g, ok := rt.Groups.Get(name); ok && len(g.Bindings) > 0 && !slices.Contains(p.Groups[:i], name) {
			made.Groups = append(made.Groups, g)
		}
	}
	return made
}
