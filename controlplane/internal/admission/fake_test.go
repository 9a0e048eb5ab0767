package admission_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/passwords"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// group is a gateway group in memory: what admission admits becomes its next revision.
type group struct {
	t        testing.TB
	cat      *catalog.Catalog
	adm      *admission.Admitter
	revision int64
	uids     int
	terms    []uint32 // live terms of the pepper, the newest first
	members  map[string]*snapshot.Resource
	// uses are references that no schema of today has: what is used, by whom.
	uses map[catalog.Reference]snapshot.Ref
}

func newGroup(t testing.TB) *group { return newGroupWith(t, admission.DefaultLimits()) }

func newGroupWith(t testing.TB, limits admission.Limits) *group {
	t.Helper()
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	a, err := admission.New(c, limits)
	if err != nil {
		t.Fatal(err)
	}
	return &group{t: t, cat: c, adm: a, terms: []uint32{1}, members: map[string]*snapshot.Resource{}}
}

func (g *group) Get(kind, name string) (*snapshot.Resource, bool) {
	r, ok := g.members[kind+" "+name]
	return r, ok
}

func (g *group) All(kind string) iter.Seq[*snapshot.Resource] {
	return func(yield func(*snapshot.Resource) bool) {
		for _, key := range slices.Sorted(maps.Keys(g.members)) {
			if r := g.members[key]; r.Kind == kind && !yield(r) {
				return
			}
		}
	}
}

func (g *group) References(kind, name string) iter.Seq[snapshot.Ref] {
	return func(yield func(snapshot.Ref) bool) {
		for _, key := range slices.Sorted(maps.Keys(g.members)) {
			r := g.members[key]
			if r.Message == nil {
				continue
			}
			for ref := range catalog.References(r.Message) {
				if ref.Kind == kind && ref.Name == name && !yield(snapshot.Ref{Kind: r.Kind, UID: r.UID, Name: r.Name}) {
					return
				}
			}
			for k, n := range claims.Marks(r.Message) {
				if k == kind && n == name && !yield(r.Ref()) {
					return
				}
			}
		}
		if user, ok := g.uses[catalog.Reference{Kind: kind, Name: name}]; ok {
			yield(user)
		}
	}
}

func (g *group) Len() int { return len(g.members) }

func (g *group) Claimant(claim string) (snapshot.Ref, bool) {
	for _, r := range g.members {
		if r.Message == nil {
			continue
		}
		for c := range claims.Of(r.Message) {
			if c == claim {
				return r.Ref(), true
			}
		}
	}
	return snapshot.Ref{}, false
}

// hash is HMAC under every live term, as the write path does it.
func (g *group) hash(plaintext []byte) []*configv1.KeyedHash {
	var out []*configv1.KeyedHash
	for _, term := range g.terms {
		mac := hmac.New(sha256.New, []byte{byte(term)})
		mac.Write(plaintext)
		out = append(out, &configv1.KeyedHash{Term: term, Hash: mac.Sum(nil)})
	}
	return out
}

func (g *group) admit(req admission.Request) (admission.Admitted, []problem.Violation) {
	g.t.Helper()
	req.Hash = g.hash
	err := passwords.New(1).Replace(g.t.Context(), passwords.Find(req.Changes), func(name string) proto.Message {
		if r, ok := g.Get("credentials", name); ok {
			return r.Message
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	admitted, err := g.adm.Admit(g, req)
	if err == nil {
		return admitted, nil
	}
	e, ok := errors.AsType[*problem.Error](err)
	if !ok {
		g.t.Fatalf("Admit: %v", err)
	}
	return admitted, e.Problem.Violations
}

// commit makes what was admitted the group's state.
func (g *group) commit(a admission.Admitted) {
	if len(a.Upserts)+len(a.Deletes) == 0 {
		return
	}
	g.revision++
	at := time.Unix(1_700_000_000+g.revision, 0).UTC()
	for _, d := range a.Deletes {
		delete(g.members, d.Kind+" "+d.Name)
	}
	for _, u := range a.Upserts {
		created := at
		if old := g.members[u.Kind+" "+u.Name]; old != nil {
			created = old.CreatedAt
		}
		if u.UID == "" {
			g.uids++
			u.UID = fmt.Sprintf("uid-%d", g.uids)
		}
		g.members[u.Kind+" "+u.Name] = &snapshot.Resource{
			Kind: u.Kind, UID: u.UID, Name: u.Name, Revision: g.revision, CreatedAt: created, UpdatedAt: at, Message: u.Message,
		}
	}
}

// changes decodes a file as the API does: what is wrong with it goes along as faults.
func (g *group) changes(doc string) (*catalog.Document, admission.Request) {
	g.t.Helper()
	d, faults := g.cat.Decode([]byte(doc), catalog.YAML)
	if d == nil {
		g.t.Fatalf("decode: %v", faults)
	}
	req := admission.Request{Faults: faults}
	for _, it := range d.Items {
		req.Changes = append(req.Changes, admission.Change{Kind: it.Kind, Message: it.Message, Path: it.Path, Clears: it.Clears})
	}
	return d, req
}

// apply admits a file and commits it.
func (g *group) apply(doc string, prune bool) (admission.Admitted, []problem.Violation) {
	g.t.Helper()
	d, req := g.changes(doc)
	req.Prune = prune
	ready := admission.Prepare(req.Changes, time.Now())
	req.Changes, req.Faults = ready.Changes, append(req.Faults, ready.Faults...)
	admitted, vs := g.admit(req)
	if len(vs) > 0 {
		return admitted, problem.Sort(d.Locate(vs))
	}
	g.commit(admitted)
	admitted.Warnings = append(admitted.Warnings, d.Locate(ready.Warnings)...)
	return admitted, nil
}

// must applies a file that has to be admitted.
func (g *group) must(doc string) admission.Admitted {
	g.t.Helper()
	a, vs := g.apply(doc, false)
	if len(vs) > 0 {
		g.t.Fatalf("refused: %v\n%s", vs, doc)
	}
	return a
}

// put admits one resource, as PUT does.
func (g *group) put(kind, doc string, edit func(*admission.Change)) (admission.Admitted, []problem.Violation) {
	g.t.Helper()
	item, faults := g.cat.DecodeResource(kind, []byte(doc), catalog.YAML, catalog.Place{})
	if item == nil {
		g.t.Fatal(faults)
	}
	c := admission.Change{Kind: kind, Message: item.Message, Clears: item.Clears}
	if edit != nil {
		edit(&c)
	}
	return g.admit(admission.Request{Changes: []admission.Change{c}, Faults: faults})
}

func (g *group) remove(kind, name string) (admission.Admitted, []problem.Violation) {
	g.t.Helper()
	return g.admit(admission.Request{Changes: []admission.Change{{Op: admission.OpDelete, Kind: kind, Name: name}}})
}

func pathsOf(vs []problem.Violation) []string {
	paths := []string{}
	for _, v := range vs {
		paths = append(paths, v.Path)
	}
	return paths
}

// summary writes what was admitted, a line each.
func summary(a admission.Admitted) []string {
	var out []string
	for _, u := range a.Upserts {
		verb := "update"
		if u.Created {
			verb = "create"
		}
		out = append(out, verb+" "+catalog.Ref(u.Kind, u.Name))
	}
	for _, d := range a.Deletes {
		out = append(out, "delete "+catalog.Ref(d.Kind, d.Name))
	}
	if a.Unchanged > 0 {
		out = append(out, fmt.Sprintf("unchanged %d", a.Unchanged))
	}
	for _, w := range a.Warnings {
		out = append(out, "warning "+w.String())
	}
	return out
}
