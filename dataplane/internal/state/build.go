package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

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

// count adds records to the digest. It is done as records arrive, so that a commit is short.
func (b *builder) count(records []*Record) {
	for _, r := range records {
		if r.Bytes != nil { // what the control plane could not open is not in the digest
			b.hash.Add(&b.sum, r.Kind, r.UID, r.Bytes)
		}
	}
}

// add puts records in, of which those of a kind should follow each other.
func (b *builder) add(records []*Record) error {
	for len(records) > 0 {
		kind := records[0].Kind
		n := slices.IndexFunc(records, func(r *Record) bool { return r.Kind != kind })
		if n < 0 {
			n = len(records)
		}
		k, ok := b.kinds[kind]
		if !ok {
			k = newKind()
		}
		if err := k.add(b.edit, records[:n]); err != nil {
			return err
		}
		b.kinds[kind] = k
		records = records[n:]
	}
	return nil
}

// besideFrom is how many records it takes for which another goroutine is worth while.
const besideFrom = 256

// add puts records in, by uid and by name; if there are many, at the same time.
func (k *kindSet) add(e *edit, records []*Record) error {
	if len(records) < besideFrom {
		return cmp.Or(k.addUIDs(e, records), k.addNames(e, records))
	}
	named := make(chan error, 1)
	go func() { named <- k.addNames(e, records) }()
	err := k.addUIDs(e, records)
	return cmp.Or(err, <-named)
}

func (k *kindSet) addUIDs(e *edit, records []*Record) error {
	for _, r := range records {
		if k.byUID.add(e, r) != nil {
			return fmt.Errorf("%s %s comes twice in one change", r.Kind, r.UID)
		}
	}
	return nil
}

func (k *kindSet) addNames(e *edit, records []*Record) error {
	for _, r := range records {
		if r.Name == "" {
			continue
		}
		if other := k.byName.add(e, r); other != nil {
			return fmt.Errorf("%s %s and %s have one name", r.Kind, r.UID, other.UID)
		}
	}
	return nil
}

// set ends the making; the builder must not be used again.
func (b *builder) set(at position) *Set {
	return &Set{Epoch: at.epoch, Revision: at.revision, Digest: at.digest, kinds: b.kinds, sum: b.sum, bytes: b.bytes, len: b.len}
}
