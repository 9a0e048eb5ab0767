package state

import (
	"bytes"
	"errors"
	"fmt"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

// ErrRewound is a change to a revision older than what was already folded, in the same epoch. The change is refused: the
// newer set stays in force.
var ErrRewound = errors.New("the control plane sent an older revision of the same epoch")

// MisfitError is a change that does not fit what was folded before, or does not add up to its digest. Nothing of it was
// taken over; only a change with reset can follow.
type MisfitError struct{ Reason string }

func (e *MisfitError) Error() string { return "change does not fit: " + e.Reason }

func misfit(format string, args ...any) error {
	return &MisfitError{Reason: fmt.Sprintf(format, args...)}
}

// Limits bound what a control plane can make a gateway keep.
type Limits struct {
	// RecordBytes bounds one record. 0: 17 MiB, a document of 16 MiB and its envelope.
	RecordBytes int
	// SetBytes bounds all records. 0: 4 GiB.
	SetBytes int64
	// SetRecords bounds their number. 0: 4 million.
	SetRecords int
}

func (l Limits) withDefaults() Limits {
	if l.RecordBytes == 0 {
		l.RecordBytes = 17 << 20
	}
	if l.SetBytes == 0 {
		l.SetBytes = 4 << 30
	}
	if l.SetRecords == 0 {
		l.SetRecords = 4 << 20
	}
	return l
}

// Folder folds the messages of a Config stream into sets. It is not safe for concurrent use.
type Folder struct {
	limits  Limits
	share   *Share // nil: with nobody
	set     *Set
	pending *pending
	partial partial
}

// pending is the change that was begun and not committed.
type pending struct {
	begin   *syncv1.Begin
	builder *builder
	// touched is what has come; a whole set needs no list: what comes twice in it shows when it is put together.
	touched map[key]bool
	count   int // of records and removals
	upserts []*Record
	// counted is how many of upserts are in the digest, or will be when counting is closed; nil: they are.
	counted  int
	counting <-chan struct{}
}

type key struct{ kind, uid string }

// partial is a record of which not all frames have come; without a key there is none.
type partial struct {
	key   key
	name  string
	bytes []byte
}

// NewFolder returns a folder that goes on from the set.
func NewFolder(from *Set, limits Limits) *Folder {
	return &Folder{limits: limits.withDefaults(), set: from}
}

// ShareWith makes the folder keep what it folds together with others. It must be called before the first message.
func (f *Folder) ShareWith(s *Share) { f.share = s }

// Set returns the last committed set.
func (f *Folder) Set() *Set { return f.set }

// Start goes on from a set that was kept, unless one was folded before. A whole set that has begun to come goes on coming,
// and is held against the one that was kept like any other.
func (f *Folder) Start(from *Set) bool {
	if f.set.Epoch != 0 {
		return false
	}
	f.set = from
	return true
}

// Abandon forgets a change that was not committed, because its stream has ended.
func (f *Folder) Abandon() { f.pending, f.partial = nil, partial{} }

// Fold takes one message and returns the new set if the message completed it, else nil. After an error it ignores the
// rest of the change.
func (f *Folder) Fold(m *syncv1.ConfigResponse) (*Set, error) {
	s, err := f.fold(m)
	if err != nil {
		f.Abandon()
	}
	return s, err
}

func (f *Folder) fold(m *syncv1.ConfigResponse) (*Set, error) {
	switch m := m.GetMessage().(type) {
	case *syncv1.ConfigResponse_Begin:
		return nil, f.begin(m.Begin)
	case *syncv1.ConfigResponse_Frame:
		if f.pending == nil {
			return nil, nil // of a change that was refused
		}
		return nil, f.frame(m.Frame)
	case *syncv1.ConfigResponse_Commit:
		if f.pending == nil {
			return nil, nil
		}
		return f.commit(m.Commit)
	}
	return nil, nil
}

func (f *Folder) begin(b *syncv1.Begin) error {
	if f.pending != nil {
		return misfit("a change begins inside another")
	}
	if b.GetEpoch() == 0 {
		return misfit("a change has no epoch")
	}
	base := f.set
	switch {
	case b.GetReset_():
		base = Empty()
	case b.GetEpoch() != f.set.Epoch:
		return misfit("a change of another epoch without reset")
	case b.GetFromRevision() < f.set.Revision:
		return ErrRewound
	case b.GetFromRevision() != f.set.Revision:
		return misfit("a change from revision %d onto %d", b.GetFromRevision(), f.set.Revision)
	}
	f.pending = &pending{begin: b, builder: newBuilder(base)}
	if !b.GetReset_() {
		f.pending.touched = map[key]bool{}
	}
	return nil
}

func (f *Folder) frame(m *syncv1.Frame) error {
	k := key{m.GetKind(), m.GetUid()}
	if k.kind == "" || k.uid == "" {
		return misfit("a frame without kind or uid")
	}
	if m.GetRemoved() || m.GetUnreadable() {
		return f.whole(k, m)
	}
	p := &f.partial
	if !p.begun() {
		*p = partial{key: k, name: m.GetName()}
	}
	if p.key != k || m.GetOffset() != int64(len(p.bytes)) {
		return misfit("a frame of %s %s at %d where %s %s at %d was due", k.kind, k.uid, m.GetOffset(), p.key.kind, p.key.uid, len(p.bytes))
	}
	if len(p.bytes)+len(m.GetBytes()) > f.limits.RecordBytes {
		return misfit("%s %s is larger than %d bytes", k.kind, k.uid, f.limits.RecordBytes)
	}
	if len(m.GetBytes()) == 0 {
		return misfit("an empty frame of %s %s", k.kind, k.uid)
	}
	if p.bytes == nil {
		p.bytes = m.GetBytes() // most records are one frame, and nobody else keeps the message
	} else {
		p.bytes = append(p.bytes, m.GetBytes()...)
	}
	if !m.GetLast() {
		return nil
	}
	r, err := p.open()
	f.partial = partial{}
	if err != nil {
		return misfit("%v", err)
	}
	return f.upsert(r)
}

func (p *partial) begun() bool { return p.key.uid != "" }

// open reads the record, of which everything has come.
func (p *partial) open() (*Record, error) {
	r, err := open(p.key.kind, p.key.uid, p.bytes)
	if err == nil && p.name != "" && p.name != r.Name {
		err = fmt.Errorf("%s %s has another name inside", p.key.kind, p.key.uid)
	}
	return r, err
}

// whole takes a frame that is a removal or says that the record cannot be had.
func (f *Folder) whole(k key, m *syncv1.Frame) error {
	if f.partial.begun() {
		return misfit("%s %s is not complete", f.partial.key.kind, f.partial.key.uid)
	}
	if len(m.GetBytes()) > 0 || m.GetRemoved() == m.GetUnreadable() {
		return misfit("a frame of %s %s says two things", k.kind, k.uid)
	}
	if m.GetUnreadable() {
		return f.upsert(&Record{Kind: k.kind, UID: k.uid, Name: m.GetName(), Unreadable: "the control plane could not open it"})
	}
	if err := f.touch(k); err != nil {
		return err
	}
	if !f.pending.builder.remove(k.kind, k.uid) {
		return misfit("%s %s is removed but was not there", k.kind, k.uid)
	}
	return nil
}

// upsert takes the old record out at once and puts the new one in with the commit, when names that were given up in the
// same change are free whatever the order of the frames.
func (f *Folder) upsert(r *Record) error {
	if err := f.touch(key{r.Kind, r.UID}); err != nil {
		return err
	}
	if f.share != nil {
		r = f.share.record(r)
	}
	b := f.pending.builder
	b.remove(r.Kind, r.UID)
	b.bytes += int64(len(r.Bytes))
	b.len++
	f.pending.upsert(r)
	if b.bytes > f.limits.SetBytes || b.len > f.limits.SetRecords {
		return misfit("the set has %d records of %d bytes, more than allowed", b.len, b.bytes)
	}
	return nil
}

// countBatch is how many records of a whole set are added to the digest at a time, beside who takes more of them.
const countBatch = 256

// upsert notes a record. Of a whole set nothing is removed meanwhile, which would go into the digest too.
func (p *pending) upsert(r *Record) {
	p.upserts = append(p.upserts, r)
	switch {
	case p.touched != nil:
		p.countRest()
	case len(p.upserts)-p.counted == countBatch:
		p.await()
		records, done := p.upserts[p.counted:], make(chan struct{})
		p.counted, p.counting = len(p.upserts), done
		go func() {
			defer close(done)
			p.builder.count(records)
		}()
	}
}

// countRest adds to the digest what is not in it.
func (p *pending) countRest() {
	p.await()
	p.builder.count(p.upserts[p.counted:])
	p.counted = len(p.upserts)
}

func (p *pending) await() {
	if p.counting != nil {
		<-p.counting
	}
}

func (f *Folder) touch(k key) error {
	p := f.pending
	if p.touched[k] {
		return misfit("%s %s comes twice in one change", k.kind, k.uid)
	}
	if p.touched != nil {
		p.touched[k] = true
	}
	p.count++
	if p.count > f.limits.SetRecords {
		return misfit("a change of more than %d records", f.limits.SetRecords)
	}
	return nil
}

func (f *Folder) commit(c *syncv1.Commit) (*Set, error) {
	p := f.pending
	f.pending = nil
	switch {
	case f.partial.begun():
		return nil, misfit("%s %s is not complete", f.partial.key.kind, f.partial.key.uid)
	case c.GetEpoch() != p.begin.GetEpoch():
		return nil, misfit("a change begins and ends in different epochs")
	case c.GetRevision() < 0:
		return nil, misfit("a negative revision")
	case c.GetEpoch() == f.set.Epoch && c.GetRevision() < f.set.Revision:
		return nil, ErrRewound
	case !p.begin.GetReset_() && c.GetRevision() == f.set.Revision:
		return nil, misfit("a change that does not move the revision")
	}
	p.countRest()
	at := position{epoch: c.GetEpoch(), revision: c.GetRevision(), digest: p.builder.sum.Sum(), len: p.builder.len}
	var s *Set
	var err error
	if f.share != nil && bytes.Equal(at.digest[:], c.GetDigest()) {
		s, err = f.share.set(at, func() (*Set, error) { return p.finish(at, c) })
	} else {
		s, err = p.finish(at, c)
	}
	if err != nil {
		return nil, err
	}
	f.set = s
	return s, nil
}

// finish makes the set, and verifies it.
func (p *pending) finish(at position, c *syncv1.Commit) (*Set, error) {
	if err := p.builder.add(p.upserts); err != nil {
		return nil, misfit("%v", err)
	}
	if !bytes.Equal(at.digest[:], c.GetDigest()) {
		return nil, misfit("the digest of revision %d is another", at.revision)
	}
	s := p.builder.set(at)
	if c.GetCommittedAt() != nil {
		s.CommittedAt = c.GetCommittedAt().AsTime()
	}
	s.AcknowledgeWithin = c.GetAcknowledgeWithin().AsDuration()
	return s, nil
}
