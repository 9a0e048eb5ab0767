package state

import (
	"fmt"
	"maps"

	"keyward.dev/shared/digest"
)

// builder is a set in the making. It shares with its base what it does not change.
type builder struct {
	edit  *edit
	kinds map[string]kindSet
	sum   digest.Set
	hash  digest.Hasher
	bytes int64
	len   int
}

func newBuilder(base *Set) *builder {
	return &builder{edit: &edit{}, kinds: maps.Clone(base.kinds), sum: base.sum, bytes: base.bytes, len: base.len}
}

// remove takes a record out and says whether it was there.
func (b *builder) remove(kind, uid string) bool {
	k := b.kinds[kind]
	old := k.uid(uid)
	if old == nil {
		return false
	}
	k.byUID = k.byUID.without(b.edit, uid)
	if old.Name != "" && k.name(old.Name) == old {
		k.byName = k.byName.without(b.edit, old.Name)
	}
	b.kinds[kind] = k
	if old.Bytes != nil {
		b.hash.Remove(&b.sum, kind, uid, old.Bytes)
	}
	b.bytes -= int64(len(old.Bytes))
	b.len--
	return true
}

// count adds a record to the digest and the sizes. It is done as records arrive, so that a commit is short.
func (b *builder) count(r *Record) {
	if r.Bytes != nil { // what the control plane could not open is not in the digest
		b.hash.Add(&b.sum, r.Kind, r.UID, r.Bytes)
	}
	b.bytes += int64(len(r.Bytes))
	b.len++
}

// add puts a counted record in.
func (b *builder) add(r *Record) error {
	k, ok := b.kinds[r.Kind]
	if !ok {
		k = newKind()
	}
	before := k.byUID.len
	k.byUID = k.byUID.with(b.edit, r)
	if k.byUID.len == before {
		return fmt.Errorf("%s %s comes twice in one change", r.Kind, r.UID)
	}
	if r.Name != "" {
		if other := k.name(r.Name); other != nil {
			return fmt.Errorf("%s %s and %s have one name", r.Kind, r.UID, other.UID)
		}
		k.byName = k.byName.with(b.edit, r)
	}
	b.kinds[r.Kind] = k
	return nil
}

// set ends the making; the builder must not be used again.
func (b *builder) set(at position) *Set {
	return &Set{Epoch: at.epoch, Revision: at.revision, Digest: at.digest, kinds: b.kinds, sum: b.sum, bytes: b.bytes, len: b.len}
}
