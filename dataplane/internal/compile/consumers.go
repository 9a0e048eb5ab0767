package compile

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/credentials"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/shardmap"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/token"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/chain"
)

// changedGroups compiles the consumer groups that changed.
func (b *build) changedGroups() {
	changes := b.changes[kindGroups]
	for _, ch := range changes {
		b.staleGroups = true
		b.forget(kindGroups, ch.uid())
		delete(b.rt.LostGroups, ch.uid())
		before, _ := ch.names()
		if g, ok := b.groups.Get(before); ok && g.UID == ch.uid() {
			b.groups.Delete(before)
		}
	}
	for _, ch := range changes {
		if ch.after != nil {
			b.group(ch.after)
		}
	}
}

func (b *build) group(r *state.Record) {
	m, reason := decoded[*configv1.ConsumerGroup](r)
	if reason == "" {
		o := b.owner(r, m.GetPolicies())
		b.ownFaults(r, chain.Input{Groups: []*chain.Owner{&o.Owner}})
		b.groups.Put(r.Name, o)
		return
	}
	b.fault(r, reason)
	if r.Name == "" {
		b.rt.LostGroups[r.UID] = struct{}{}
		return
	}
	o := &runtime.Owner{Closed: "consumer group " + r.Name + " cannot be read"}
	o.Kind, o.UID, o.Name = r.Kind, r.UID, r.Name
	b.groups.Put(r.Name, o)
}

// changedConsumers compiles the consumers that changed, and works out again what applies to each if a group did. A
// consumer that cannot be read is nobody: its credentials find no one, and whoever is not found is told that it cannot be known.
func (b *build) changedConsumers() {
	if b.staleGroups {
		b.rt.Profiles, b.rt.Granted = shardmap.New[*runtime.Profile](), &runtime.Granted{}
	}
	for _, ch := range b.changes[kindConsumers] {
		if ch.before == nil {
			continue
		}
		b.forget(kindConsumers, ch.uid())
		b.consumers.Delete(ch.uid())
		b.directory.SetReadable(ch.uid())
		if before, _ := ch.names(); before != "" {
			b.directory.RemoveConsumer(before)
		}
	}
	profiles := b.rt.Profiles.Edit()
	b.consumers.Expect(b.rt.Set.Len(kindConsumers))
	for r, got := range ahead(after(b.changes[kindConsumers]), read[*configv1.Consumer]) {
		b.consumer(r, got, profiles)
	}
	if b.staleGroups {
		b.reprofile(profiles)
	}
	b.rt.Profiles = profiles.Map()
}

func (b *build) consumer(r *state.Record, got reading[*configv1.Consumer], profiles *shardmap.Editor[*runtime.Profile]) {
	m := got.m
	if got.reason != "" {
		b.fault(r, got.reason)
		b.directory.SetUnreadableConsumer(r.UID)
		return
	}
	same := b.inSameGroups(r.UID, m.GetGroups())
	c := &runtime.Consumer{UID: r.UID, Name: r.Name, Groups: same.groups, Standing: same.standing}
	if len(m.GetPolicies()) > 0 {
		c.Standing = nil
		c.Owner = b.owner(r, m.GetPolicies())
		b.ownFaults(r, chain.Input{Consumer: &c.Owner.Owner})
	}
	c.Profile = b.profile(c, profiles)
	b.consumers.Put(r.UID, c)
	in := directory.Consumer{
		UID: r.UID, Name: r.Name, Username: m.GetUsername(), CustomID: m.GetCustomId(), Kind: credentials.Kind(m.GetKind()),
		Groups: c.Groups, Labels: m.GetLabels(),
	}
	if c.Standing != nil {
		in.Standing = c.Standing
	}
	b.directory.PutConsumer(in)
}

// sameGroups is what consumers have in common that are in the same groups: what requests of many callers look at is then in the
// processor's caches.
type sameGroups struct {
	groups   []string
	standing *runtime.Standing
}

func (b *build) inSameGroups(uid string, names []string) sameGroups {
	if was, ok := b.prev.Consumers.Get(uid); ok && was.Standing != nil && slices.Equal(was.Groups, names) {
		return sameGroups{was.Groups, was.Standing}
	}
	key := strings.Join(names, " ")
	if known, ok := b.same[key]; ok && slices.Equal(known.groups, names) { // whatever is in a name
		return known
	}
	made := sameGroups{names, &runtime.Standing{}}
	b.same[key] = made
	return made
}

// reprofile gives every consumer that did not change itself its new profile, and lets routes forget the old ones.
func (b *build) reprofile(profiles *shardmap.Editor[*runtime.Profile]) {
	for uid, old := range b.prev.Consumers.All() {
		if now, ok := b.consumers.Get(uid); !ok || now != old || len(old.Groups) == 0 {
			continue
		}
		c := *old
		c.Profile = b.profile(&c, profiles)
		b.consumers.Put(uid, &c)
	}
	for _, r := range b.prev.Routes.All() { // those that are compiled again forget all anyway
		if r.Overlays != nil {
			r.Overlays.Forget()
		}
	}
}

// profile returns what applies to the consumer, shared with others to whom the same applies.
func (b *build) profile(c *runtime.Consumer, profiles *shardmap.Editor[*runtime.Profile]) *runtime.Profile {
	var groups []*runtime.Owner
	var closed string
	var key strings.Builder
	for _, name := range c.Groups {
		g, ok := b.groups.Get(name)
		switch {
		case ok && g.Closed != "":
			closed = g.Closed
		case !ok && len(b.rt.LostGroups) > 0:
			closed = "a consumer group whose name is not known cannot be read"
		}
		if ok && (len(g.Bindings) > 0 || g.Closed != "") {
			groups = append(groups, g)
			key.WriteString(g.UID + " ")
		}
	}
	switch {
	case closed != "" || c.Owner != nil:
		return &runtime.Profile{Groups: groups, Consumer: c.Owner, Closed: closed}
	case len(groups) == 0:
		return nil
	}
	if known, ok := profiles.Get(key.String()); ok {
		return known
	}
	p := &runtime.Profile{Groups: groups}
	profiles.Put(key.String(), p)
	return p
}

// changedCredentials enters the credentials that changed into the directory. One that cannot be read is found by nobody, and
// while there is one whoever is not found is told that it cannot be known.
func (b *build) changedCredentials() {
	if len(b.changes[kindCredentials]) == 0 {
		return
	}
	b.rt.Bound = maps.Clone(b.prev.Bound)
	b.directory.Expect(b.rt.Set.Len(kindCredentials))
	for _, ch := range b.changes[kindCredentials] {
		if ch.before == nil {
			continue
		}
		b.forget(kindCredentials, ch.uid())
		b.directory.SetReadable(ch.uid())
		if was := b.directory.RemoveCredential(ch.uid()); was != nil && was.Bound() != "" {
			b.binds(was.How, &runtime.Demand{Key: was.Bound()}, -1)
		}
	}
	there := after(b.changes[kindCredentials])
	delete(b.changes, kindCredentials) // of a million it is three times as much as what is left to do
	for r, got := range ahead(there, b.readCredential) {
		b.made(r.Kind, r.UID, got.refs)
		if got.reason != "" {
			b.fault(r, got.reason)
			b.directory.SetUnreadable(r.UID, got.credential.Type)
			continue
		}
		if got.fault != "" {
			b.fault(r, got.fault)
		}
		if got.bound != nil {
			b.binds(got.credential.Type, got.bound, 1)
			made, _ := b.clients.Get(got.bound.Key)
			got.credential.Bound = made.Demand.Key // the same for all that are bound to the same
		}
		b.holdKeys(&got.credential)
		b.directory.PutCredential(got.credential)
	}
	b.everyRoute = b.everyRoute || !sameTypes(b.prev.Bound, b.rt.Bound)
}

// holdKeys has the keys of a consumer fetched that are kept elsewhere, before the first of its tokens comes.
func (b *build) holdKeys(c *directory.Credential) {
	if own, ok := c.Material.(*token.OwnKey); ok && own.URL != "" {
		own.Held = b.deps.Host.KeySets.Hold(hostsvc.KeysAt(own.URL))
	}
}

// readable is a credential for the directory, or why there is none.
type readable struct {
	credential directory.Credential
	bound      *runtime.Demand // nil: to nothing
	refs       []string        // what else it is made from
	reason     string
	fault      string // why it cannot prove anything now, though it is known
}

func (b *build) readCredential(r *state.Record) (got readable) {
	m, reason := decoded[*configv1.Credential](r)
	if reason != "" {
		return readable{reason: reason}
	}
	got.credential.Type = m.GetType()
	if to := m.GetBoundCertificate(); len(to) > 0 {
		got.bound = runtime.NewDemand(to, nil)
	}
	cfg, newer, err := state.Unpack(m.GetConfig())
	switch {
	case err != nil:
		got.reason = "this gateway does not know its type"
	case newer:
		got.reason = "it has fields or values that this gateway does not know"
	default:
		cfg, got.refs, got.reason = b.clear(m.GetConfig(), cfg)
	}
	unresolved := got.reason
	if unresolved == "" || len(got.refs) > 0 {
		got.credential, got.reason = credential(r, m, cfg, unresolved == "")
		if got.credential.Used = b.prev.Directory.Mark(r.UID); got.credential.Used == nil {
			got.credential.Used = &lastuse.Mark{}
		}
	}
	if got.reason == "" {
		got.fault = unresolved
	}
	return got
}

func credential(r *state.Record, m *configv1.Credential, cfg proto.Message, resolved bool) (_ directory.Credential, reason string) {
	c, reason := credentials.Read(m, cfg, resolved)
	c.UID = r.UID
	if consumer, name, _ := strings.Cut(r.Name, "/"); consumer == c.Consumer && name == c.Name {
		c.Consumer, c.Name = consumer, name // the same without memory of their own
	}
	if c.Consumer == "" {
		reason = "it belongs to nobody"
	}
	return c, reason
}

// changedPeppers takes the pepper terms of the set. While one cannot be read, a key that is not found may be hashed under
// it: whoever presents it is answered that it cannot be checked, not that it is wrong.
func (b *build) changedPeppers() {
	changes := b.changes[kindPepper]
	if len(changes) == 0 {
		return
	}
	for _, ch := range changes {
		b.forget(kindPepper, ch.uid())
	}
	var terms []*directory.Term
	lost := false
	for r := range b.rt.Set.All(kindPepper) {
		m, reason := decoded[*systemv1.PepperTerm](r)
		if reason != "" {
			lost = true
			b.fault(r, reason)
			continue
		}
		t, err := directory.NewTerm(m.GetTerm(), m.GetKey())
		if err != nil {
			lost = true
			b.fault(r, "it is not a usable term")
			continue
		}
		terms = append(terms, t)
	}
	b.directory.SetTerms(terms)
	b.directory.SetLost(lost)
}
