package snapshot

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/shared/digest"
)

// sep separates the parts of a tree key; no kind, name or uid contains it.
const sep = "\x00"

// View is the set of one group at one revision. It never changes and is safe for concurrent use.
type View struct {
	Group    string
	GroupUID string
	Epoch    uint64
	Revision int64
	// Digest of the readable records.
	Digest [digest.Size]byte

	full  digest.Set
	trees trees
}

// After returns the digest state of all committed records as it will be after a change to this view.
func (v *View) After(upserts []*Resource, removals []Ref) digest.Set {
	next := v.full
	var hash digest.Hasher
	without := func(kind, uid string) {
		if old, ok := v.ByUID(kind, uid); ok && old.committed != nil {
			hash.Remove(&next, kind, uid, record.Streamed(old.committed))
		}
	}
	for _, ref := range removals {
		without(ref.Kind, ref.UID)
	}
	for _, res := range upserts {
		without(res.Kind, res.UID)
		hash.Add(&next, res.Kind, res.UID, record.Streamed(res.Record))
	}
	return next
}

// trees are persistent: copying them is O(1), a change copies the touched path.
type trees struct {
	byName *btree.Map[string, *Resource] // kind, name
	byUID  *btree.Map[string, *Resource] // kind, uid
	refs   *btree.Map[string, Ref]       // used kind, used name, user kind, user name → user
	claims *btree.Map[string, Ref]       // what only one resource may have → who has it
}

func newTrees() trees {
	return trees{
		byName: btree.NewMap[string, *Resource](0),
		byUID:  btree.NewMap[string, *Resource](0),
		refs:   btree.NewMap[string, Ref](0),
		claims: btree.NewMap[string, Ref](0),
	}
}

func (t trees) copy() trees {
	return trees{byName: t.byName.Copy(), byUID: t.byUID.Copy(), refs: t.refs.Copy(), claims: t.claims.Copy()}
}

func (t trees) put(r *Resource) (old *Resource) {
	if prev, ok := t.byUID.Get(r.Kind + sep + r.UID); ok {
		t.unlink(prev)
		old = prev
	}
	t.byName.Set(r.Kind+sep+r.Name, r)
	t.byUID.Set(r.Kind+sep+r.UID, r)
	for kind, name := range r.uses() {
		t.refs.Set(refKey(kind, name)+r.Kind+sep+r.Name, r.Ref())
	}
	for claim := range r.claims() {
		t.claims.Set(claim, r.Ref())
	}
	return old
}

func (t trees) remove(kind, uid string) (old *Resource) {
	prev, ok := t.byUID.Get(kind + sep + uid)
	if !ok {
		return nil
	}
	t.unlink(prev)
	return prev
}

func (t trees) unlink(r *Resource) {
	t.byUID.Delete(r.Kind + sep + r.UID)
	t.byName.Delete(r.Kind + sep + r.Name)
	for kind, name := range r.uses() {
		t.refs.Delete(refKey(kind, name) + r.Kind + sep + r.Name)
	}
	for claim := range r.claims() {
		if holder, ok := t.claims.Get(claim); ok && holder.UID == r.UID {
			t.claims.Delete(claim)
		}
	}
}

func refKey(kind, name string) string { return kind + sep + name + sep }

// Get returns the resource of that kind and name.
func (v *View) Get(kind, name string) (*Resource, bool) {
	return v.trees.byName.Get(kind + sep + name)
}

// ByUID returns the resource of that kind and uid.
func (v *View) ByUID(kind, uid string) (*Resource, bool) {
	return v.trees.byUID.Get(kind + sep + uid)
}

// All yields the resources of a kind, ordered by name.
func (v *View) All(kind string) iter.Seq[*Resource] {
	return v.From(kind, "")
}

// From yields the resources of a kind whose names are not below start, ordered by name.
func (v *View) From(kind, start string) iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		prefix := kind + sep
		v.trees.byName.Ascend(prefix+start, func(key string, r *Resource) bool {
			return strings.HasPrefix(key, prefix) && yield(r)
		})
	}
}

// Resources yields everything, ordered by kind and uid.
func (v *View) Resources() iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		v.trees.byUID.Scan(func(_ string, r *Resource) bool { return yield(r) })
	}
}

// Len returns the number of resources, system records and unreadable ones included.
func (v *View) Len() int { return v.trees.byUID.Len() }

// References yields the resources that use the one of that kind and name, or have the mark of package claims, ordered by
// kind and name.
func (v *View) References(kind, name string) iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		prefix := refKey(kind, name)
		v.trees.refs.Ascend(prefix, func(key string, user Ref) bool {
			return strings.HasPrefix(key, prefix) && yield(user)
		})
	}
}

// Claimant returns the resource that holds a claim, see package claims.
func (v *View) Claimant(claim string) (Ref, bool) { return v.trees.claims.Get(claim) }
