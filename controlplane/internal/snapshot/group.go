package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/digest"
)

var (
	errMalformed   = errors.New("the record is malformed")
	errMisplaced   = errors.New("the record belongs to another place")
	errUnknownType = errors.New("the record holds a type this program does not know")

	// ErrDamaged says that the stored set is not the one the group's authenticated head speaks of, and that the
	// difference cannot be named. Nothing of the group is served.
	ErrDamaged = errors.New("the stored set does not match its head")
	// ErrRewound says that the database has an older revision of the same epoch than was seen before, or another one of
	// the same number: it was restored, or a fail-over lost what had been committed.
	ErrRewound = errors.New("the database was rewound")
)

// Reader reads the state of one group at one moment.
type Reader interface {
	Head(ctx context.Context) (store.Head, error)
	// ChangesSince answers up to limit changes after the revision, ascending.
	ChangesSince(ctx context.Context, revision int64, limit int) ([]store.Change, error)
	Rows(ctx context.Context, yield func(store.Row) error) error
	// Baseline answers where the kept changes begin, and BaselineRows what the group held there.
	Baseline(ctx context.Context) (store.Baseline, error)
	BaselineRows(ctx context.Context, yield func(store.Row) error) error
}

// Vault opens what was sealed for one group.
type Vault interface {
	Open(row store.Row) ([]byte, error)
	OpenChange(change store.Change) ([]byte, error)
	OpenBaseline(baseline store.Baseline) ([]byte, error)
	OpenPastRecord(row store.Row) ([]byte, error)
	VerifyHead(head store.Head) error
}

// windowSize is how many changes a follower may be behind before it has to take a view.
const windowSize = 1024

// Group is the set of one gateway group on this replica.
type Group struct {
	name  string
	vault Vault
	log   *slog.Logger
	// rewound says that the database was last seen at an older revision than this set.
	rewound atomic.Bool

	mu     sync.Mutex // guards what follows
	loaded bool
	trees  trees
	full   digest.Set // of all committed records: what the head's digest is of
	open   digest.Set // of the readable ones: what gateways compute
	hash   digest.Hasher
	view   *View
	window []Change      // the last changes, ascending and dense
	wake   chan struct{} // closed and replaced when something was published
}

// NewGroup returns the empty, not yet loaded set of a group.
func NewGroup(name string, vault Vault, log *slog.Logger) *Group {
	return &Group{name: name, vault: vault, log: log, wake: make(chan struct{})}
}

// CatchUp brings the set to the head that the reader sees and returns the view of it. It is the only way in for changes
// that were made elsewhere. If it fails, the set stays as it was.
func (g *Group) CatchUp(ctx context.Context, r Reader) (*View, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	head, err := r.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.vault.VerifyHead(head); err != nil {
		return nil, err
	}
	switch {
	case !g.loaded || head.Epoch != g.view.Epoch:
		err = g.load(ctx, r, head)
	case head.Revision == g.view.Revision && head.Digest != g.full.Sum():
		err = fmt.Errorf("group %s has another revision %d than its head: %w", g.name, head.Revision, ErrRewound)
	case head.Revision < g.view.Revision:
		err = fmt.Errorf("group %s is at revision %d, its head at %d: %w", g.name, g.view.Revision, head.Revision, ErrRewound)
	case head.Revision > g.view.Revision:
		err = g.follow(ctx, r, head)
	}
	if err != nil {
		return nil, err
	}
	return g.view, nil
}

// View returns the current view, nil before the first CatchUp.
func (g *Group) View() *View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.view
}

// Committed takes in a change that this replica has just committed on top of the view's revision. If the set has moved
// on in the meantime there is nothing left to do.
func (g *Group) Committed(c Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.loaded || c.Epoch != g.view.Epoch || c.Revision != g.view.Revision+1 {
		return
	}
	g.take(c)
}

// load replaces the set by what the rows say.
func (g *Group) load(ctx context.Context, r Reader, head store.Head) error {
	l := loader{group: g, trees: newTrees()}
	if err := r.Rows(ctx, l.row); err != nil {
		return fmt.Errorf("load group %s: %w", g.name, err)
	}
	if err := l.verify(ctx, r, head); err != nil {
		return fmt.Errorf("load group %s: %w", g.name, err)
	}
	g.trees, g.full, g.open, g.loaded = l.trees, l.full, l.open, true
	g.publish(Change{Epoch: head.Epoch, Revision: head.Revision, Reset: true, CommittedAt: head.UpdatedAt}, head.GroupUID)
	return nil
}

// follow applies the changes between the view and the head, in bounded batches.
func (g *Group) follow(ctx context.Context, r Reader, head store.Head) error {
	const batch = 256
	for g.view.Revision < head.Revision {
		changes, err := r.ChangesSince(ctx, g.view.Revision, batch)
		if err != nil {
			return err
		}
		if len(changes) == 0 || changes[0].Revision != g.view.Revision+1 {
			return g.load(ctx, r, head) // the history does not reach back that far
		}
		for _, stored := range changes {
			if stored.Revision > head.Revision {
				return nil
			}
			c, err := g.decrypt(stored)
			if err != nil {
				g.log.ErrorContext(ctx, "stored change does not open; loading the rows instead", "group", g.name, "revision", stored.Revision, "err", err)
				return g.load(ctx, r, head)
			}
			g.take(c)
		}
	}
	if g.full.Sum() != head.Digest {
		g.log.ErrorContext(ctx, "stored changes do not lead to the head; loading the rows instead", "group", g.name, "revision", head.Revision)
		return g.load(ctx, r, head)
	}
	return nil
}

// decrypt opens a stored change and checks that it is the next one.
func (g *Group) decrypt(stored store.Change) (Change, error) {
	c, err := g.openChange(stored)
	if err == nil && (c.Epoch != g.view.Epoch || c.Revision != g.view.Revision+1) {
		err = errMisplaced
	}
	return c, err
}

// openChange opens a stored change. Its digest is that of all committed records.
func (g *Group) openChange(stored store.Change) (Change, error) {
	raw, err := g.vault.OpenChange(stored)
	if err != nil {
		return Change{}, err
	}
	var body syncv1.ChangeBody
	if err := proto.Unmarshal(raw, &body); err != nil || len(body.GetDigest()) != digest.Size {
		return Change{}, errMalformed
	}
	c := Change{
		Epoch: body.GetEpoch(), Revision: body.GetRevision(), Digest: [digest.Size]byte(body.GetDigest()), CommittedAt: stored.At,
	}
	for _, u := range body.GetUpserts() {
		res, err := g.resource(u.GetRecord(), stored.Revision, stored.At)
		if err != nil {
			return Change{}, err
		}
		c.Upserts = append(c.Upserts, res)
	}
	for _, rm := range body.GetRemovals() {
		c.Removals = append(c.Removals, Ref{Kind: rm.GetKind(), UID: rm.GetUid(), Name: rm.GetName()})
	}
	return c, nil
}

// History returns the last changes up to a revision, at most limit, ascending and dense, so that followers who were there
// before this process find their place. It returns none while a record is unreadable: the digests of the past then are
// not those that followers have computed.
func (g *Group) History(ctx context.Context, r Reader, epoch uint64, upTo int64, limit int) ([]Change, error) {
	stored, err := r.ChangesSince(ctx, max(0, upTo-int64(limit)), limit)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.loaded || g.view.Epoch != epoch || g.full.Sum() != g.open.Sum() {
		return nil, nil
	}
	changes := make([]Change, 0, len(stored))
	for _, s := range stored {
		c, err := g.openChange(s)
		if err != nil {
			return nil, err
		}
		if c.Epoch != epoch { // before a restore
			changes = changes[:0]
			continue
		}
		if c.Revision > upTo {
			break
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// resource builds the resource of a record that changed at the given revision and time.
func (g *Group) resource(packed []byte, revision int64, at time.Time) (*Resource, error) {
	var rec syncv1.Record
	if err := proto.Unmarshal(packed, &rec); err != nil {
		return nil, errMalformed
	}
	msg, err := record.Message(&rec)
	if err != nil {
		return nil, errUnknownType
	}
	created := at
	if old, ok := g.trees.byUID.Get(rec.GetKind() + sep + rec.GetUid()); ok {
		created = old.CreatedAt
	}
	return &Resource{
		Kind: rec.GetKind(), UID: rec.GetUid(), Name: rec.GetName(), Revision: revision,
		CreatedAt: created, UpdatedAt: at, Labels: labelsOf(msg), Record: packed, Message: msg, committed: packed,
	}, nil
}

// take applies a change to the set and publishes it.
func (g *Group) take(c Change) {
	for _, ref := range c.Removals {
		g.forget(g.trees.remove(ref.Kind, ref.UID))
	}
	for _, res := range c.Upserts {
		g.forget(g.trees.put(res))
		g.hash.Add(&g.full, res.Kind, res.UID, record.Streamed(res.Record))
		g.hash.Add(&g.open, res.Kind, res.UID, record.Streamed(res.Record))
	}
	g.publish(c, g.view.GroupUID)
}

func (g *Group) forget(old *Resource) {
	if old == nil {
		return
	}
	if old.committed != nil {
		g.hash.Remove(&g.full, old.Kind, old.UID, record.Streamed(old.committed))
	}
	if old.Unreadable == "" {
		g.hash.Remove(&g.open, old.Kind, old.UID, record.Streamed(old.Record))
	}
}

// publish makes the new view and wakes the followers.
func (g *Group) publish(c Change, groupUID string) {
	c.Digest = g.open.Sum()
	g.view = &View{
		Group: g.name, GroupUID: groupUID, Epoch: c.Epoch, Revision: c.Revision, Digest: c.Digest,
		full: g.full, trees: g.trees.copy(),
	}
	if c.Reset {
		g.window = nil
	}
	g.window = append(g.window, c)
	if len(g.window) > windowSize {
		g.window = append([]Change(nil), g.window[len(g.window)-windowSize/2:]...)
	}
	close(g.wake)
	g.wake = make(chan struct{})
}

func labelsOf(msg proto.Message) map[string]string {
	if m, ok := msg.(interface{ GetLabels() map[string]string }); ok {
		return m.GetLabels()
	}
	return nil
}
