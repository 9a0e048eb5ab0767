// Package admission decides whether a set of wanted changes may become the next revision of a gateway group, and what
// exactly would be stored: normalised messages whose secrets are in the form in which they are kept. It judges against
// one view of the group and changes nothing: no I/O, no clock, no randomness; equal inputs give equal answers. All
// violations are told at once. The write path calls it, with the group's head locked.
package admission

import (
	"fmt"
	"iter"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// View is the group as it is now.
type View interface {
	Get(kind, name string) (*snapshot.Resource, bool)
	All(kind string) iter.Seq[*snapshot.Resource]
	// References yields the resources that refer to the one of that kind and name, or have that mark of package claims.
	References(kind, name string) iter.Seq[snapshot.Ref]
	// Claimant returns the resource that holds a claim of package claims.
	Claimant(claim string) (snapshot.Ref, bool)
	// Len is the number of all resources.
	Len() int
}

// Op is what is wanted of a resource.
type Op uint8

// The operations.
const (
	OpUpsert Op = iota
	OpDelete
)

// Change is what is wanted of one resource.
type Change struct {
	Op   Op
	Kind string
	// Name is the stored name ("consumer/name" of a credential) of what is deleted; what is put names itself. If both
	// are given they must agree.
	Name string
	// Message is what is put, as decoded from a document or taken from a binary request. It is not changed.
	Message proto.Message
	// Path is the place in the document, put before the paths of violations.
	Path string
	// Clears are the paths, relative to the resource, of secrets that are to be removed.
	Clears []string
	// Restored says that Message is what a revision of the group held: its secrets are in stored form already and are taken
	// as they are. It must never be set for what came from outside.
	Restored bool
	// IfMatch is the entity tag that the stored resource must have; "*": any.
	IfMatch string
	// IfNoneMatch "*" demands that there is none.
	IfNoneMatch string
}

// Request is a set of changes that shall hold together or not at all.
type Request struct {
	Changes []Change
	// Prune removes every resource of PruneKinds that no change puts; of no kinds: of all but singletons.
	Prune      bool
	PruneKinds []string
	// Hash returns the keyed hashes of a secret under every live term of the pepper, the newest first.
	Hash func(plaintext []byte) []*configv1.KeyedHash
	// Secrets are the providers of secrets that the operator of the control plane gives the group; nil: none.
	Secrets Secrets
	// Faults are violations found when the document was read. The request is refused with them, together with
	// whatever else is wrong apart from their consequences.
	Faults []problem.Violation
}

// Secrets are providers of secrets that are kept elsewhere.
type Secrets interface {
	// Has reports whether there is a provider of that name.
	Has(provider string) bool
	// Check says why a reference must not be stored, empty if it may.
	Check(r secret.Reference) string
}

// Upsert is a resource to be stored.
type Upsert struct {
	Kind, Name string
	// UID of the stored resource, empty for a new one.
	UID string
	// Message is normalised, without output-only fields, its secrets in stored form.
	Message proto.Message
	Created bool
}

// Admitted is what the request comes to.
type Admitted struct {
	// Upserts are the resources that are new or differ from what is stored, as ordered in the request.
	Upserts []Upsert
	// Deletes are ordered by kind and name.
	Deletes []snapshot.Ref
	// Unchanged is how many were put as they are stored already.
	Unchanged int
	// Warnings are not wrong but worth knowing.
	Warnings []problem.Violation
	// Audit are remarks for the audit trail, such as weak keys that were let in.
	Audit []string
}

// Limits bound what a group may hold.
type Limits struct {
	// ResourceBytes bounds one resource.
	ResourceBytes int
	// Resources bounds how many a group has, of all kinds together.
	Resources int
	// HostRegexes bounds the regular expressions among the paths of one host.
	HostRegexes int
}

// DefaultLimits are the limits where nothing else is set.
func DefaultLimits() Limits {
	return Limits{ResourceBytes: 1 << 20, Resources: 2_000_000, HostRegexes: 100}
}

// Admitter admits changes. It is immutable and safe for concurrent use.
type Admitter struct {
	catalog *catalog.Catalog
	rules   protovalidate.Validator
	limits  Limits
}

// New returns an Admitter for the kinds and types of a catalog. It fails if their rules do not compile.
func New(c *catalog.Catalog, limits Limits) (*Admitter, error) {
	rules, err := compileRules(c)
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	return &Admitter{catalog: c, rules: rules, limits: limits}, nil
}

// Normalize brings a message that we made ourselves into its stored form, checking it on the way.
func (a *Admitter) Normalize(m proto.Message) error {
	vs := a.catalog.Normalize(m)
	return problem.Violated(append(vs, a.validate(m, vs)...))
}

// Admit judges a request against a view. Its error is a *problem.Error with every violation, or says that admission
// could not be done at all.
func (a *Admitter) Admit(view View, req Request) (Admitted, error) {
	j := &judge{Admitter: a, req: req, set: newSet(view)}
	j.take()
	if req.Prune && len(req.Faults) == 0 { // a document that was not read whole does not say what is missing
		j.prune()
	}
	for _, e := range j.entries {
		if err := j.prepare(e); err != nil {
			return Admitted{}, err
		}
	}
	j.references()
	j.removals()
	j.keys()
	j.providers()
	j.stores()
	j.sharedStores()
	j.names()
	j.certificateIDs()
	j.issuers()
	j.routes()
	j.shown()
	j.serverNames()
	j.defaults()
	j.bindings()
	j.identities()
	j.vouched()
	j.upgrades()
	j.identityKeys()
	j.loggedCredentials()
	j.signedFields()
	j.keylessSigners()
	j.quota()
	if vs := j.verdict(); len(vs) > 0 {
		return Admitted{}, problem.Violated(vs)
	}
	return j.admitted(), nil
}

// judge is one admission under way.
type judge struct {
	*Admitter
	req        Request
	set        *set
	entries    []*entry // what is put, in order
	violations []problem.Violation
	warnings   []problem.Violation
	audit      []string
}

// entry is a resource that is put.
type entry struct {
	change Change
	kind   *catalog.Kind
	name   string // stored name
	path   string
	msg    proto.Message      // ends up in stored form
	stored *snapshot.Resource // nil if it is new
	// fresh are the hashes of a key that was given in the clear, under every live term; freshPath says where.
	fresh     []*configv1.KeyedHash
	freshPath string
}

func (j *judge) fail(path, format string, args ...any) {
	j.failWith("", path, format, args...)
}

func (j *judge) failWith(code problem.Code, path, format string, args ...any) {
	j.violations = append(j.violations, problem.Violation{Path: path, Reason: fmt.Sprintf(format, args...), Code: code})
}

// admitted sorts out what changed.
func (j *judge) admitted() Admitted {
	out := Admitted{Warnings: problem.Sort(append(j.warnings, j.labelWarnings()...)), Audit: j.audit, Deletes: j.set.deletes()}
	for _, e := range j.entries {
		item := Upsert{Kind: e.kind.Name, Name: e.name, Message: e.msg, Created: e.stored == nil}
		if e.stored != nil {
			item.UID = e.stored.UID
			if e.stored.Message != nil && proto.Equal(e.stored.Message, e.msg) {
				out.Unchanged++
				continue
			}
		}
		out.Upserts = append(out.Upserts, item)
	}
	return out
}
