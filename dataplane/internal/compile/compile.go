// Package compile turns a set of records into a runtime. It is a pure function of the set: two gateways that hold equal
// sets enforce equally, whatever their history; the previous runtime only saves work. It does no I/O; what a set names of the
// gateway's own files it is given (Files).
//
// What does not compile is closed and reported, never left out. A route whose matching is unclear closes its hosts, and
// everything if not even its hosts are known; a route of which a policy, its service or the settings are unclear keeps
// its place and answers 503. Credentials and consumers are always those of the new set: who cannot be read is nobody, and
// while there are such, nobody who is not found is told to be wrong.
package compile

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/shardmap"
	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/check/tokenpair"
)

// Kinds of records.
const (
	kindSettings    = "settings"
	kindServices    = "services"
	kindRoutes      = "routes"
	kindConsumers   = "consumers"
	kindCredentials = "credentials"
	kindGroups      = "consumer-groups"
	kindPepper      = "pepper-terms"
	kindCerts       = certs.Kind
	kindAuthorities = certs.KindCA
	kindResolved    = certs.KindResolved
	kindTickets     = "session-ticket-keys"
	// kindProviders are for the control plane only; gateways are sent their names.
	kindProviders  = "secret-providers"
	kindLists      = known.Kind
	kindStaples    = known.KindStaple
	kindIssuers    = certs.KindIssuer // of which gateways use nothing
	kindIssued     = certs.KindIssued
	kindChallenges = certs.KindChallenge
	kindStores     = tokenpair.KindStore // of which gateways use nothing
	kindStored     = tokenpair.KindEntry
	kindStates     = tokenpair.KindState
	kindRedis      = "redis-stores"
)

// Deps is what a compiler needs beside the set.
type Deps struct {
	Factories []policy.Factory
	Host      *hostsvc.Services
	Monitor   policy.Monitor
	// Responders keep what they have said of clients' certificates; nil: they are never asked.
	Responders *revocation.Cache
	// Files are the certificates in files of this machine; nil: none can be named.
	Files Files
	Log   *slog.Logger
	Group string // the gateway group's name, for logs
}

// Files gives what is in files of this machine. It is asked about the same places again and again.
type Files interface {
	// Read answers what is at a place, or why there is nothing, and a number that is another one whenever that is.
	Read(at certs.Local) (v *configv1.CertificateVersion, reason string, generation uint64)
	// Generation answers the number alone.
	Generation(at certs.Local) uint64
}

// Compiler makes runtimes. It is safe for concurrent use.
type Compiler struct {
	deps      Deps
	factories map[string]factory
}

type factory struct {
	policy.Factory
	options *optionsv1.PolicyOptions
}

// New returns a compiler.
func New(d Deps) *Compiler {
	if d.Responders == nil {
		d.Responders = revocation.NewCache(nil) // does not run
	}
	c := &Compiler{deps: d, factories: map[string]factory{}}
	for _, f := range d.Factories {
		if o := optionsOf(f.Message); o != nil {
			c.factories[f.Type] = factory{Factory: f, options: o}
		}
	}
	return c
}

func optionsOf(message protoreflect.FullName) *optionsv1.PolicyOptions {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(message)
	if err != nil {
		return nil
	}
	o, _ := proto.GetExtension(mt.Descriptor().Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions)
	return o
}

// Types returns the policy types that can be compiled, sorted.
func (c *Compiler) Types() []string { return slices.Sorted(maps.Keys(c.factories)) }

func (c *Compiler) lookup(policyType string) *optionsv1.PolicyOptions {
	return c.factories[policyType].options
}

// Build compiles set. The previous runtime, which may be nil, is reused where its set does not differ; it is not changed.
func (c *Compiler) Build(set *state.Set, prev *runtime.Runtime) (*runtime.Runtime, []runtime.Fault) {
	if prev == nil {
		prev = empty()
	}
	b := &build{
		Compiler: c, prev: prev, changes: changesOf(prev.Set, set),
		rt: &runtime.Runtime{
			Set: set, Closed: prev.Closed, Settings: prev.Settings, LostGroups: maps.Clone(prev.LostGroups),
			Files: maps.Clone(prev.Files), Profiles: prev.Profiles, Granted: prev.Granted, Sharing: prev.Sharing, Faults: maps.Clone(prev.Faults), Responders: c.deps.Responders,
		},
		table: prev.Table.Edit(), routes: prev.Routes.Edit(),
		services: prev.Services.Edit(), consumers: prev.Consumers.Edit(), groups: prev.Groups.Edit(),
		users: usersOf(prev.Users), versions: usersOf(prev.Versions), dependents: usersOf(prev.Dependents),
		references: usersOf(prev.References), uses: usersOf(prev.Uses), usesOf: prev.UsesOf.Edit(),
		same: map[string]sameGroups{}, identities: map[string]identified{}, authorities: map[string]believed{},
		files: map[certs.Local]fileRead{}, clients: prev.Clients.Edit(),
	}
	if prev.Settings != nil {
		b.egress = prev.Settings.Egress
	}
	b.rt.Directory = prev.Directory
	b.rt.Held, b.rt.Certificates, b.rt.Challenges = prev.Held, prev.Certificates, prev.Challenges
	b.rt.Bound, b.rt.Tickets, b.rt.Asked = prev.Bound, prev.Tickets, prev.Asked
	b.changedReferences()
	refs := b.changedTrust()
	b.changedShared(refs)
	b.forgetUses()
	b.changedUses(refs)
	b.settings()
	b.changedPlaces(refs)
	if len(b.changes[kindConsumers])+len(b.changes[kindCredentials])+len(b.changes[kindPepper])+
		len(b.changes[kindStored])+len(b.changes[kindStates]) > 0 {
		b.directory = prev.Directory.Edit()
	}
	b.changedCertificates()
	b.changedChallenges()
	b.changedAuthorities()
	b.changedServices(refs)
	b.changedGroups()
	b.changedConsumers()
	b.changedCredentials()
	b.changedStored()
	b.changedPeppers()
	b.changedTickets()
	b.changedRoutes()
	b.resolveClients()
	b.unknownKinds()
	b.finish()
	return b.rt, Faults(b.rt)
}

// Faults lists the faults of a runtime in a fixed order.
func Faults(rt *runtime.Runtime) []runtime.Fault {
	var all []runtime.Fault
	for _, fs := range rt.Faults {
		all = append(all, fs...)
	}
	slices.SortFunc(all, func(a, b runtime.Fault) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

func empty() *runtime.Runtime {
	return &runtime.Runtime{
		Table: router.New(), Directory: directory.New(), Routes: shardmap.New[*runtime.Route](),
		Services: shardmap.New[*runtime.Service](), Consumers: shardmap.New[*runtime.Consumer](),
		Groups: shardmap.New[*runtime.Owner](), LostGroups: map[string]struct{}{}, Users: shardmap.New[[]string](),
		Versions: shardmap.New[[]string](), Dependents: shardmap.New[[]string](), References: shardmap.New[[]string](), Uses: shardmap.New[[]string](), UsesOf: shardmap.New[[]string](),
		Held: shardmap.New[*sni.Certificate](), Authorities: shardmap.New[*runtime.Authority](), Clients: shardmap.New[*runtime.Clients](),
		Bound: map[string]int{}, Profiles: shardmap.New[*runtime.Profile](), Granted: &runtime.Granted{}, Faults: map[runtime.Key][]runtime.Fault{},
	}
}

// change is a record before and after; either may be nil.
type change struct {
	before, after *state.Record
	again         bool // it is to be compiled even if the record is as it was
}

// name returns the name before and after, which may be empty.
func (c change) names() (before, after string) {
	if c.before != nil {
		before = c.before.Name
	}
	if c.after != nil {
		after = c.after.Name
	}
	return before, after
}

func (c change) uid() string {
	if c.after != nil {
		return c.after.UID
	}
	return c.before.UID
}

// after are the records that there are after the changes.
func after(changes []change) []*state.Record {
	out := make([]*state.Record, 0, len(changes))
	for _, ch := range changes {
		if ch.after != nil {
			out = append(out, ch.after)
		}
	}
	return out
}

func changesOf(before, after *state.Set) map[string][]change {
	out := map[string][]change{}
	for o, n := range after.Changed(before) {
		kind := cmp.Or(n, o).Kind
		if out[kind] == nil && (before == nil || before.Len(kind) == 0) {
			out[kind] = make([]change, 0, after.Len(kind))
		}
		out[kind] = append(out[kind], change{before: o, after: n})
	}
	return out
}

// build is one compilation.
type build struct {
	*Compiler
	prev    *runtime.Runtime
	rt      *runtime.Runtime
	changes map[string][]change

	table     *router.Editor
	directory *directory.Editor // nil if nothing in it changes
	routes    *shardmap.Editor[*runtime.Route]
	services  *shardmap.Editor[*runtime.Service]
	consumers *shardmap.Editor[*runtime.Consumer]
	groups    *shardmap.Editor[*runtime.Owner]
	users     *users
	// versions are the certificates by the ids of their versions, dependents the services by what their TLS is made from.
	versions, dependents *users
	// references are the certificates by the names of the records with what they refer to.
	references *users
	// uses are what is made from something besides its own record, by that; usesOf is the other way round.
	uses        *users
	usesOf      *shardmap.Editor[[]string]
	noted       []string              // what the policies that are being built have asked for
	egress      *hostsvc.EgressRules  // of the settings
	same        map[string]sameGroups // by the names of the groups
	identities  map[string]identified // by reference; opened already
	authorities map[string]believed   // by name; opened already
	files       map[certs.Local]fileRead
	clients     *shardmap.Editor[*runtime.Clients]

	unresolved     []string        // keys of demands that are new
	everyRoute     bool            // the settings changed, or which credentials are bound to certificates
	newAuthorities bool            // CA certificates changed, or what is revoked of theirs
	staleServices  map[string]bool // names of services that changed
	staleGroups    bool
}

func (b *build) finish() {
	b.rt.Table = b.table.Table()
	if b.directory != nil {
		b.rt.Directory = b.directory.Directory()
	}
	b.rt.Routes = b.routes.Map()
	if b.rt.Services = b.prev.Services; len(b.staleServices) > 0 {
		b.rt.Services = b.services.Map() // else who asks whether they changed need not look at each
	}
	b.rt.Consumers = b.consumers.Map()
	b.rt.Groups = b.groups.Map()
	b.rt.Users, b.rt.Versions, b.rt.Dependents = b.users.edit.Map(), b.versions.edit.Map(), b.dependents.edit.Map()
	b.rt.References = b.references.edit.Map()
	b.rt.Uses, b.rt.UsesOf = b.uses.edit.Map(), b.usesOf.Map()
	b.unusedFiles()
}

// fault records that something of a record does not work.
func (b *build) fault(r *state.Record, reason string) {
	k := runtime.Key{Kind: r.Kind, UID: r.UID}
	f := runtime.Fault{Kind: r.Kind, UID: r.UID, Name: r.Name, Reason: reason}
	if !slices.Contains(b.rt.Faults[k], f) {
		b.rt.Faults[k] = append(slices.Clip(b.rt.Faults[k]), f)
	}
}

// forget drops the faults of a record that is about to be compiled again.
func (b *build) forget(kind, uid string) {
	delete(b.rt.Faults, runtime.Key{Kind: kind, UID: uid})
}

// unknownKinds reports records of kinds that this gateway does not know. What refers to them does not compile either.
func (b *build) unknownKinds() {
	for kind, changes := range b.changes {
		switch kind {
		case kindSettings, kindServices, kindRoutes, kindConsumers, kindCredentials, kindGroups, kindPepper, kindCerts, kindAuthorities,
			kindResolved, kindTickets, kindProviders, kindLists, kindStaples, kindIssuers, kindIssued, kindChallenges,
			kindStores, kindStored, kindStates, kindRedis:
			continue
		}
		for _, ch := range changes {
			b.forget(kind, ch.uid())
			if ch.after != nil {
				b.fault(ch.after, "this gateway does not know resources of this kind")
			}
		}
	}
}
