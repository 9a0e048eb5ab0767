package retention_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/retention"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// world is an installation with the group g.
type world struct {
	db  *storetest.DB
	kek kek.Wrapper
	*replica
}

// replica is what one process holds of it.
type replica struct {
	config *configsvc.Service
	sealer *sealer.Sealer
	past   *history.Log
	groups *snapshot.Manager
}

func newWorld(t *testing.T) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: storetest.New(t), kek: key}
	w.replica = w.start(t)
	if _, err := w.sealer.Init(t.Context(), "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.config.CreateGroup(t.Context(), "test", "g", ""); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) start(t *testing.T) *replica {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	seal, log := sealer.New(w.db.Store, w.kek), slog.New(slog.DiscardHandler)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(w.db.Store, unlock, log)
	past := history.New(w.db.Store, unlock, cat.Kinds())
	return &replica{
		config: configsvc.New(configsvc.Config{Store: w.db.Store, Sealer: seal, Groups: groups, History: past, Admission: admit, Log: log}),
		sealer: seal, past: past, groups: groups,
	}
}

// write makes one revision: every third removes the service that the one before made, the others make or change one.
func (w *world) write(t *testing.T, n int) {
	t.Helper()
	name := fmt.Sprintf("s%d", n%7)
	change := admission.Change{Kind: "services", Name: name, Message: &configv1.Service{Name: name, Url: fmt.Sprintf("http://10.0.0.1:%d", 1000+n)}}
	if n%3 == 2 {
		change = admission.Change{Op: admission.OpDelete, Kind: "services", Name: fmt.Sprintf("s%d", (n-1)%7)}
	}
	_, err := w.config.Write(t.Context(), configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{change}})
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes until the group is at the revision.
func (w *world) fill(t *testing.T, revision int64) {
	t.Helper()
	head, err := w.db.Store.Head(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	for n := head.Revision; n < revision; n++ {
		w.write(t, int(n))
	}
}

// later is a clock by which everything is old.
func later() time.Time { return time.Now().Add(1000 * time.Hour) }

func (w *world) prune(t *testing.T, cfg retention.Config) error {
	t.Helper()
	cfg.Database, cfg.Unlock = w.db.Store, w.sealer.Group
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = later
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = time.Hour
	}
	return retention.New(cfg).Run(t.Context())
}

// sets says what the group held at every revision of a range.
func sets(t *testing.T, past *history.Log, from, to int64) map[int64][]string {
	t.Helper()
	var revisions []int64
	for r := from; r <= to; r++ {
		revisions = append(revisions, r)
	}
	all, err := past.At(t.Context(), "g", revisions...)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int64][]string{}
	for i, s := range all {
		resources, err := s.Resources()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resources {
			out[revisions[i]] = append(out[revisions[i]],
				fmt.Sprintf("%s %s %d %s %s %x", r.Name, r.UID, r.Revision, r.CreatedAt.UTC(), r.UpdatedAt.UTC(), r.Record))
		}
	}
	return out
}

func oldest(t *testing.T, w *world) int64 {
	t.Helper()
	changes, err := w.db.Store.ChangesSince(t.Context(), "g", 0, 1)
	if err != nil || len(changes) != 1 {
		t.Fatalf("changes: %v, %v", changes, err)
	}
	return changes[0].Revision
}

func TestWhatIsKeptReadsAsBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 290)
	before := sets(t, w.past, 1, 290)
	for _, cfg := range []retention.Config{
		{Keep: 271, Changes: 3},           // 19 go, in several steps
		{Keep: 271},                       // nothing
		{Keep: 1, Bytes: 1, Changes: 100}, // the floor holds; one change at a time
	} {
		if err := w.prune(t, cfg); err != nil {
			t.Fatal(err)
		}
		keep := max(cfg.Keep, retention.MinKeep)
		if got, want := oldest(t, w), 290-keep+1; got != want {
			t.Errorf("keep %d: the oldest is %d, want %d", cfg.Keep, got, want)
		}
		from := 290 - keep // the baseline itself can be read
		want := map[int64][]string{}
		for r := from; r <= 290; r++ {
			if before[r] != nil {
				want[r] = before[r]
			}
		}
		if diff := cmp.Diff(want, sets(t, w.start(t).past, from, 290)); diff != "" {
			t.Errorf("keep %d: (-want +got):\n%s", cfg.Keep, diff)
		}
		if _, err := w.past.At(t.Context(), "g", from-1); problem.Of(err).Code != problem.NotFound {
			t.Errorf("keep %d: revision %d: %v, want it gone", cfg.Keep, from-1, err)
		}
	}
	if _, err := w.config.Rollback(t.Context(), configsvc.RollbackRequest{Actor: "test", Group: "g", To: 40}); err != nil {
		t.Errorf("rollback inside what is kept: %v", err)
	}
	if _, err := w.config.Rollback(t.Context(), configsvc.RollbackRequest{Actor: "test", Group: "g", To: 20}); problem.Of(err).Code != problem.NotFound {
		t.Errorf("rollback beyond it: %v, want it gone", err)
	}
}

func TestBothBoundsMustBePassed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 270)
	for _, cfg := range []retention.Config{
		{Keep: 1000},                        // old, but among the newest
		{Keep: 1, Now: time.Now},            // beyond the newest, but young
		{Keep: 1, MaxAge: 2000 * time.Hour}, // the same by another clock
		{Keep: 1, MaxAge: -1},               // for ever
	} {
		if err := w.prune(t, cfg); err != nil {
			t.Fatal(err)
		}
		if got := oldest(t, w); got != 1 {
			t.Errorf("%+v: the oldest is %d", cfg, got)
		}
	}
}

// TestWhatDoesNotVerifyIsNotDropped: whoever alters the database cannot have retention destroy the evidence, nor take
// what was altered into the baseline.
func TestWhatDoesNotVerifyIsNotDropped(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tamper string
		want   string
	}{
		"a change was altered":         {`update changes set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where revision = 12`, "revision 12"},
		"a change is missing":          {`delete from changes where revision = 12`, "revision 12 is missing"},
		"the first change is missing":  {`delete from changes where revision = 11`, "revision 11 is missing"},
		"a change was moved":           {`update changes c set sealed = o.sealed from changes o where c.revision = 12 and o.revision = 13`, "revision 12"},
		"the baseline was altered":     {`update baselines set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1)`, "was altered"},
		"the baseline was moved":       {`update baselines set revision = 9`, "was altered or does not belong here"},
		"the baseline was forgotten":   {`delete from baselines`, "revision 1 is missing"},
		"a record was altered":         {`update baseline_records set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1)`, "was altered"},
		"a record is of another":       {`update baseline_records set uid = replace(uid, '-', '-') || '', revision = revision + 1`, "was altered"},
		"the records are missing":      {`delete from baseline_records`, "do not lead to"},
		"the head was altered":         {`update heads set revision = revision + 1000 where group_uid <> '` + store.SystemUID + `'`, "MAC does not verify"},
		"a change is of another epoch": {`update changes set epoch = 1 where revision = 12`, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(t, 266)
			if err := w.prune(t, retention.Config{}); err != nil {
				t.Fatal(err)
			}
			w.fill(t, 276)
			w.db.Exec(t, tc.tamper)
			before := w.db.Tables(t)
			err := w.prune(t, retention.Config{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run = %v, want %q", err, tc.want)
			}
			after := w.db.Tables(t)
			for _, table := range []string{"changes", "baselines", "baseline_records"} {
				if !bytes.Equal(before[table], after[table]) {
					t.Errorf("%s changed", table)
				}
			}
		})
	}
}

// TestPrunersAndWritersDoNotDisturbEachOther runs two of one and one of the other, and a reader.
func TestPrunersAndWritersDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 280)
	other := w.start(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 5 {
				if err := w.prune(t, retention.Config{Changes: 4}); err != nil {
					t.Errorf("prune: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if _, err := other.past.At(t.Context(), "g", history.Newest); err != nil {
				t.Errorf("read: %v", err)
			}
		}
	})
	w.fill(t, 300)
	wg.Wait()
	if err := w.prune(t, retention.Config{}); err != nil {
		t.Fatal(err)
	}
	if got := oldest(t, w); got != 45 {
		t.Errorf("the oldest is %d, want 45", got)
	}
	if _, err := w.start(t).past.At(t.Context(), "g", 45, history.Newest); err != nil {
		t.Error(err)
	}
}

func TestOneGroupDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.config.CreateGroup(t.Context(), "test", "a", ""); err != nil { // comes first
		t.Fatal(err)
	}
	w.fill(t, 260)
	w.db.Exec(t, `update heads set revision = 1000 where group_uid = (select uid from groups where name = 'a')`)
	var log bytes.Buffer
	err := w.prune(t, retention.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), "group a") {
		t.Errorf("Run = %v, want group a named", err)
	}
	if got := oldest(t, w); got != 5 || !strings.Contains(log.String(), "dropped=4 oldest_kept=5") {
		t.Errorf("the oldest is %d, log %s", got, log.String())
	}
}

// TestADamagedRowIsStillNamed: what is wrong with the current set is told by the history, baseline included.
func TestADamagedRowIsStillNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 262)
	if err := w.prune(t, retention.Config{}); err != nil {
		t.Fatal(err)
	}
	w.db.Exec(t, `delete from resources where kind = 'pepper-terms'`)
	view, err := w.start(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	var unreadable []string
	for r := range view.Resources() {
		if r.Unreadable != "" {
			unreadable = append(unreadable, r.Kind+": "+r.Unreadable)
		}
	}
	if diff := cmp.Diff([]string{"pepper-terms: the row is missing"}, unreadable); diff != "" {
		t.Error(diff)
	}
}

// What a held-back gateway that joins has to begin with stays, however old: as the baseline, or above it.
func TestWhatGatewaysMayHaveToBeginWithIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const head, needed = retention.MinKeep + 60, 20
	w.fill(t, head)
	before := sets(t, w.past, needed, needed)
	for name, of := range map[string]func(context.Context, string) (int64, error){
		"unknown": func(context.Context, string) (int64, error) { return 0, errors.New("cannot be read") },
		"known":   func(context.Context, string) (int64, error) { return needed, nil },
	} {
		if err := w.prune(t, retention.Config{Needed: of}); (err != nil) != (name == "unknown") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, sets(t, w.past, needed, needed)); diff != "" {
			t.Errorf("%s: revision %d is not what it was:\n%s", name, needed, diff)
		}
	}
	if _, err := w.past.At(t.Context(), "g", needed-1); err == nil {
		t.Errorf("revision %d is still kept", needed-1)
	}
}
