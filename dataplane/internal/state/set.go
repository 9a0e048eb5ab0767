// Package state keeps what a gateway was told: it folds the frames of the Config stream into sets of records, each set
// immutable and true to one revision, verified by digest over the bytes as they were received. It does no I/O, compiles
// nothing and decides nothing about requests. Called by syncclient; its sets are read by compile.
package state

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"time"

	"keyward.dev/shared/digest"
)

// Set is all records of the gateway's group at one revision. It is immutable; sets of successive revisions share what did
// not change.
type Set struct {
	// Epoch changes when the history of revisions was rewound.
	Epoch uint64
	// Revision is the change this set includes; 0 before any.
	Revision int64
	// Digest is the digest of the set.
	Digest [digest.Size]byte
	// CommittedAt is when the revision was committed; zero if the control plane did not say so, as with a whole set.
	CommittedAt time.Time
	// AcknowledgeWithin is the time over which gateways are to spread their acknowledgements of it; 0: at once.
	AcknowledgeWithin time.Duration

	kinds map[string]kindSet
	sum   digest.Set
	bytes int64
	len   int
}

type kindSet struct {
	byUID  trie
	byName trie
}

// Empty returns the set before anything was received.
func Empty() *Set {
	s := &Set{kinds: map[string]kindSet{}}
	s.Digest = s.sum.Sum()
	return s
}

// Get returns the record of the kind with the name, or nil.
func (s *Set) Get(kind, name string) *Record { return s.kinds[kind].name(name) }

// ByUID returns the record of the kind with the uid, or nil.
func (s *Set) ByUID(kind, uid string) *Record { return s.kinds[kind].uid(uid) }

// All yields the records of the kind in an order that depends only on the set.
func (s *Set) All(kind string) iter.Seq[*Record] { return s.kinds[kind].byUID.all() }

// Len returns the number of records of the kind.
func (s *Set) Len(kind string) int { return s.kinds[kind].byUID.len }

// Size returns the number of records and of their bytes.
func (s *Set) Size() (records int, bytes int64) { return s.len, s.bytes }

// Kinds returns the kinds of which there are records, sorted.
func (s *Set) Kinds() []string {
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(s.kinds)) {
		if s.Len(k) > 0 {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Changed yields the records that differ between prev and s, as (before, after): nil before for a new one, nil after for
// a removed one. It costs as much as there are changes if s was folded from prev. A nil prev means nothing.
func (s *Set) Changed(prev *Set) iter.Seq2[*Record, *Record] {
	if prev == nil {
		prev = Empty()
	}
	return func(yield func(*Record, *Record) bool) {
		all := maps.Clone(prev.kinds)
		maps.Copy(all, s.kinds)
		for _, kind := range slices.Sorted(maps.Keys(all)) {
			if !diff(prev.kinds[kind].byUID.root, s.kinds[kind].byUID.root, 0, yield) {
				return
			}
		}
	}
}

func (k kindSet) uid(uid string) *Record {
	if k.byUID.root == nil {
		return nil
	}
	return k.byUID.get(uid)
}

func (k kindSet) name(name string) *Record {
	if k.byName.root == nil {
		return nil
	}
	return k.byName.get(name)
}

// newKind makes an empty kind. uids are chosen by the control plane at random, so a fixed hash gives one order
// everywhere; names are chosen by tenants, so theirs is seeded.
func newKind() kindSet {
	seed := maphash.MakeSeed()
	names := func(s string) uint64 { return maphash.String(seed, s) }
	return kindSet{
		byUID:  newTrie(func(r *Record) string { return r.UID }, fnv),
		byName: newTrie(func(r *Record) string { return r.Name }, names),
	}
}

// fnv is FNV-1a with a final mix, because the trie takes low bits first.
func fnv(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
