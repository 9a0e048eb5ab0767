package ticketkeys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/controlplane/internal/ticketkeys"
	"keyward.dev/shared/catalog"
)

// world is a database with the group g, whose keys are looked after, and a clock.
type world struct {
	t      *testing.T
	db     *storetest.DB
	groups *snapshot.Manager
	config *configsvc.Service
	seal   *sealer.Sealer
	now    time.Time
	period time.Duration
	older  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: storetest.New(t), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), period: ticketkeys.DefaultPeriod}
	log := slog.New(slog.DiscardHandler)
	w.seal = sealer.New(w.db.Store, key)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return w.seal.Group(ctx, group) }
	w.groups = snapshot.NewManager(w.db.Store, unlock, log)
	w.config = configsvc.New(configsvc.Config{
		Store: w.db.Store, Sealer: w.seal, Groups: w.groups, History: history.New(w.db.Store, unlock, cat.Kinds()), Admission: admit,
		Log: log, First: ticketkeys.First, Now: func() time.Time { return w.now },
	})
	if _, err := w.seal.Init(t.Context(), "test", w.now); err != nil {
		t.Fatal(err)
	}
	if err := w.config.CreateGroup(t.Context(), "test", "g", ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// Older implements ticketkeys.Gateways.
func (w *world) Older(_ context.Context, _ string, contract uint32) ([]string, error) {
	if contract != 1 {
		w.t.Errorf("asked is for contract %d", contract)
	}
	return w.older, nil
}

// run does what the job does.
func (w *world) run() {
	w.t.Helper()
	k := ticketkeys.New(ticketkeys.Config{
		Database: w.db.Store, Gateways: w, Groups: w.groups, Writer: w.config, Period: w.period, Now: func() time.Time { return w.now },
	})
	if err := k.Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// keys are what is stored, the first to be used in front; nil: nothing is.
func (w *world) keys() []*systemv1.TicketKey {
	w.t.Helper()
	view, err := w.groups.Fresh(w.t.Context(), "g")
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := view.Get(ticketkeys.Kind, "keys")
	if !ok {
		return nil
	}
	m, ok := r.Message.(*systemv1.TicketKeys)
	if !ok {
		w.t.Fatalf("stored is a %T", r.Message)
	}
	keys := slices.Clone(m.GetKeys())
	slices.SortFunc(keys, func(a, b *systemv1.TicketKey) int { return a.GetFrom().AsTime().Compare(b.GetFrom().AsTime()) })
	return keys
}

// times are those of the keys in periods from a time: used from, open until.
func (w *world) times(since time.Time) (out []string) {
	for _, k := range w.keys() {
		out = append(out, fmt.Sprintf("%g-%g", float64(k.GetFrom().AsTime().Sub(since))/float64(w.period), float64(k.GetUntil().AsTime().Sub(since))/float64(w.period)))
	}
	return out
}

func (w *world) revision() int64 {
	w.t.Helper()
	view, err := w.groups.Fresh(w.t.Context(), "g")
	if err != nil {
		w.t.Fatal(err)
	}
	return view.Revision
}

// common counts the keys that are in two generations.
func (w *world) common(a, b []*systemv1.TicketKey) int {
	n := 0
	for _, one := range a {
		if slices.ContainsFunc(b, func(o *systemv1.TicketKey) bool { return bytes.Equal(o.GetKey(), one.GetKey()) }) {
			n++
		}
	}
	return n
}

// TestKeysAreThereBeforeTheyAreUsedAndAfter follows the keys of a new group for days, with the job running all the time.
func TestKeysAreThereBeforeTheyAreUsedAndAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := w.now
	if diff := cmp.Diff([]string{"0-3", "1-4"}, w.times(begun)); diff != "" || w.revision() != 1 {
		t.Fatalf("a new group at revision %d has (-want +got):\n%s", w.revision(), diff)
	}
	used := map[string]bool{}
	for step := range 8 * 4 {
		before := w.keys()
		w.now = begun.Add(time.Duration(step) * w.period / 4)
		w.run()
		keys := w.keys()
		if next := keys[len(keys)-1]; !next.GetFrom().AsTime().After(w.now) || next.GetFrom().AsTime().After(w.now.Add(w.period)) {
			t.Errorf("at step %d the next key is for %v, now is %v", step, next.GetFrom().AsTime(), w.now)
		}
		for _, k := range keys {
			if !k.GetFrom().AsTime().After(w.now) && !used[string(k.GetKey())] {
				used[string(k.GetKey())] = true
				if w.common(before, []*systemv1.TicketKey{k}) != 1 {
					t.Errorf("at step %d a key is used that was not there before", step)
				}
			}
		}
		for _, k := range before { // whatever sealed a ticket opens it for two periods
			if k.GetUntil().AsTime().After(w.now) && w.common(keys, []*systemv1.TicketKey{k}) != 1 {
				t.Errorf("at step %d a key is gone that is good until %v, now is %v", step, k.GetUntil().AsTime(), w.now)
			}
		}
		if len(keys) > 4 {
			t.Errorf("at step %d there are %d keys", step, len(keys))
		}
	}
	if len(used) != 8 || w.revision() != 1+7 {
		t.Errorf("%d keys were used, at revision %d", len(used), w.revision())
	}
}

func TestKeysAreMadeWhereThereAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(w *world)
		want   []string // times of the keys after the job has run
		kept   int      // how many of them were there before
	}{
		{"a group that is up to date", func(*world) {}, []string{"0-3", "1-4"}, 2},
		{"a group of before", func(w *world) { w.older = []string{"x"}; w.run(); w.older = nil }, []string{"0-3", "1-4"}, 0},
		{"a little late", func(w *world) { w.now = w.now.Add(w.period + w.period/4) }, []string{"-1.25-1.75", "-0.25-2.75", "0.75-3.75"}, 2},
		{"very late", func(w *world) { w.now = w.now.Add(2*w.period + w.period*3/4) }, []string{"-2.75-0.25", "-1.75-1.25", "0.5-3.5"}, 2},
		{"too late", func(w *world) { w.now = w.now.Add(5 * w.period) }, []string{"0-3", "1-4"}, 0},
		{"a gateway was revoked", func(w *world) { w.revoke("gw") }, []string{"0-3", "1-4"}, 0},
		{"a shorter period", func(w *world) { w.period /= 4; w.now = w.now.Add(w.period * 2) }, []string{"-2-3", "0.5-3.5"}, 1},
		{"a longer period", func(w *world) { w.period *= 4 }, []string{"0-0.75", "0.25-1"}, 2},
		{"a gateway that does not know them", func(w *world) { w.older = []string{"gw"} }, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := w.keys()
			tt.before(w)
			w.run()
			if diff := cmp.Diff(tt.want, w.times(w.now)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if got := w.common(before, w.keys()); got != tt.kept {
				t.Errorf("%d of the keys were there before, want %d", got, tt.kept)
			}
			revision := w.revision()
			if w.run(); w.revision() != revision {
				t.Errorf("the job writes again when nothing is to be done")
			}
		})
	}
}

// A gateway that does not know keys is connected to no replica while it goes from one to another: none are made for that.
func TestNothingIsMadeForAMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keeper := func() *ticketkeys.Keeper {
		return ticketkeys.New(ticketkeys.Config{
			Database: w.db.Store, Gateways: w, Groups: w.groups, Writer: w.config, Period: w.period, Settle: time.Minute,
			Now: func() time.Time { return w.now },
		})
	}
	k := keeper()
	step := func(name string, pass time.Duration, older []string, want int) {
		t.Helper()
		w.now, w.older = w.now.Add(pass), older
		if err := k.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(w.keys()); got != want {
			t.Errorf("%s: %d keys, want %d", name, got, want)
		}
	}
	step("the group's first", 0, nil, 2)
	step("an older gateway", 0, []string{"gw"}, 0)
	step("it goes", time.Second, nil, 0)
	step("it comes back", 30*time.Second, []string{"gw"}, 0)
	step("it has gone for less than a minute", 59*time.Second, nil, 0)
	k = keeper()
	step("another replica", 30*time.Second, nil, 0)
	step("it has gone", time.Minute, nil, 2)
}

func (w *world) revoke(id string) {
	w.t.Helper()
	err := w.db.Store.InGroup(w.t.Context(), "g", func(ctx context.Context, tx *store.GroupTx) error {
		if err := tx.CreateGateway(ctx, store.Gateway{ID: id, Group: "g", Attestor: "join-token", SPKIHash: []byte(id), EnrolledAt: w.now}); err != nil {
			return err
		}
		return tx.RevokeGateway(ctx, id, "test", "stolen", w.now)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestKeysAreKeptSealed looks for them in everything that is stored, in bytes and in hex.
func TestKeysAreKeptSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := w.keys()
	w.revoke("gw")
	w.run()
	keys = append(keys, w.keys()...)
	for table, content := range w.db.Tables(t) {
		for _, k := range keys {
			if bytes.Contains(content, k.GetKey()) || bytes.Contains(content, []byte(hex.EncodeToString(k.GetKey()))) {
				t.Errorf("table %s has a key in the clear", table)
			}
		}
	}
}
