package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyward.dev/controlplane/internal/rotation"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit"
)

func states(k rotation.Keyring) string {
	var s []string
	for _, t := range k.Terms {
		s = append(s, fmt.Sprintf("%d %s", t.Number, t.State))
	}
	return strings.Join(s, ", ")
}

// TestEverythingIsRewrappedAndOpens goes through every table of the registry, in the group and in the system.
func TestEverythingIsRewrappedAndOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everywhere(t)
	before, err := w.Store.Head(t.Context(), "a")
	must(t, err)
	w.run(t)
	for _, group := range []string{"a", store.SystemGroup} {
		k, err := w.keeper.Rotate(t.Context(), group, "alice")
		must(t, err)
		if got := states(k); got != "1 enabled, 2 newest" || k.Version != 2 || k.Next != nil {
			t.Errorf("after rotating %s: %s, version %d, next %v", group, got, k.Version, k.Next)
		}
		w.drained(t, group)
	}
	visited := map[string]int64{}
	for _, group := range []string{w.group(t, "a").UID(), store.SystemUID} {
		rows, err := w.Store.TermRows(t.Context(), group)
		must(t, err)
		for _, r := range rows {
			if r.Term != 2 {
				t.Errorf("%d rows of %s are under term %d", r.Rows, r.Table, r.Term)
			}
			visited[r.Table] += r.Rows
		}
	}
	for _, c := range store.Ciphertexts() {
		if c.Term && visited[c.Table] == 0 {
			t.Errorf("the test has nothing in %s", c.Table)
		}
	}
	w.verify(t)
	for _, group := range []string{"a", store.SystemGroup} {
		k, err := w.keeper.Remove(t.Context(), group, 1, "alice")
		must(t, err)
		if got := states(k); got != "1 verify-only, 2 newest" {
			t.Errorf("after removing: %s", got)
		}
	}
	w.verify(t)
	after, err := w.Store.Head(t.Context(), "a")
	must(t, err)
	ignored := cmpopts.IgnoreFields(store.Head{}, "KeyringVersion", "AuditSeq", "AuditHead", "MAC", "UpdatedAt")
	if diff := cmp.Diff(before, after, ignored); diff != "" || after.KeyringVersion != 3 {
		t.Errorf("the head changed (-before +after):\n%s\nkeyring version %d", diff, after.KeyringVersion)
	}
}

func TestATermWithCiphertextIsNotRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everywhere(t)
	stop := w.run(t)
	_, err := w.keeper.Rotate(t.Context(), "a", "alice")
	must(t, err)
	w.drained(t, "a")
	stop()
	g := w.group(t, "a")
	conn := w.Conn(t)
	for _, table := range []string{"resources", "changes", "baselines", "baseline_records", "bundle_keys", "acme_accounts"} {
		// An older ciphertext comes back, as if a writer had been very slow.
		var was []byte
		where := fmt.Sprintf(` where ctid = (select ctid from %s where group_uid = '%s' limit 1)`, table, g.UID())
		must(t, conn.QueryRow(t.Context(), `select sealed from `+table+where).Scan(&was))
		w.Exec(t, `update `+table+` set sealed = set_byte(sealed, 4, 1)`+where)
		_, err := w.keeper.Remove(t.Context(), "a", 1, "alice")
		if p := problem.Of(err); p.Code != problem.Conflict || !strings.Contains(p.Detail, "1 in "+table) {
			t.Errorf("%s: Remove = %v, want a conflict that names it", table, err)
		}
		_, err = conn.Exec(t.Context(), `update `+table+` set sealed = $1`+where, was)
		must(t, err)
	}
	for term, code := range map[uint32]problem.Code{2: problem.Conflict, 3: problem.NotFound} {
		if _, err := w.keeper.Remove(t.Context(), "a", term, "alice"); problem.Of(err).Code != code {
			t.Errorf("Remove(%d) = %v, want %s", term, err, code)
		}
	}
	_, err = w.keeper.Remove(t.Context(), "a", 1, "alice")
	must(t, err)
	if _, err := w.keeper.Remove(t.Context(), "a", 1, "alice"); problem.Of(err).Code != problem.NotFound {
		t.Errorf("removing again: %v", err)
	}
	w.verify(t)
}

// TestNothingIsSealedWithATermThatAReplicaHasNotRead has a replica that runs and whose key-encryption key is away.
func TestNothingIsSealedWithATermThatAReplicaHasNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, w.group(t, "a"), 1, 1)
	quick := w.replicaNamed("one", rotation.Config{Patience: 300 * time.Millisecond})
	quick.run(t)
	slow := w.replicaNamed("slow", rotation.Config{})
	slow.group(t, "a")
	slow.kek.away.Store(true)
	slow.run(t)
	k, err := quick.keeper.Rotate(t.Context(), "a", "alice")
	must(t, err)
	if k.Version != 1 || k.Next == nil || k.Next.Actor != "alice" || cmp.Diff([]string{"slow"}, k.Waiting) != "" {
		t.Fatalf("keyring %+v, want it to wait for slow", k)
	}
	if _, err := quick.keeper.Rotate(t.Context(), "a", "bob"); problem.Of(err).Code != problem.Conflict {
		t.Errorf("a second rotation: %v, want a conflict", err)
	}
	w.write(t, slow.group(t, "a"), 2, 1) // it works meanwhile
	slow.kek.away.Store(false)
	testkit.Await(t, patience, func() error {
		if k := quick.get(t, "a"); k.Version != 2 {
			return fmt.Errorf("version %d, waiting for %v", k.Version, k.Waiting)
		}
		return nil
	})
	slow.kek.away.Store(true)
	w.write(t, slow.group(t, "a"), 3, 1) // what it has read it need not ask for again
	w.verify(t)
}

func TestAReplicaThatIsGoneIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `insert into replicas values ('dead', now() - interval '11 seconds')`)
	must(t, w.Store.ReplicaRuns(t.Context(), "ended"))
	w.replicaNamed("ended", rotation.Config{}).keeper.End(t.Context())
	k, err := w.keeper.Rotate(t.Context(), "a", "alice")
	must(t, err)
	if k.Version != 2 {
		t.Errorf("version %d, waiting for %v", k.Version, k.Waiting)
	}
}

// TestARemovalThatCiphertextOvertakesIsDiscarded: it was prepared while nothing was under the term, and had to wait.
func TestARemovalThatCiphertextOvertakesIsDiscarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, w.group(t, "a"), 1, 1)
	quick := w.replicaNamed("one", rotation.Config{Patience: 100 * time.Millisecond})
	stop := quick.run(t)
	_, err := quick.keeper.Rotate(t.Context(), "a", "alice")
	must(t, err)
	quick.drained(t, "a")
	w.Exec(t, `insert into replicas values ('mute', now() + interval '1 hour')`)
	k, err := quick.keeper.Remove(t.Context(), "a", 1, "alice")
	must(t, err)
	if k.Next == nil || k.Next.Action != sealer.Remove || states(k) != "1 enabled, 2 newest" {
		t.Fatalf("keyring %+v, want it to wait", k)
	}
	stop()
	w.Exec(t, `update changes set sealed = set_byte(sealed, 4, 1)`, `delete from replicas where name = 'mute'`)
	quick.run(t)
	testkit.Await(t, patience, func() error {
		if k := quick.get(t, "a"); k.Next != nil || k.Version != 2 || states(k) != "1 enabled, 2 newest" {
			return fmt.Errorf("keyring %+v", k)
		}
		return nil
	})
	var detail string
	must(t, w.Conn(t).QueryRow(t.Context(), `select detail from audit where action = 'keyring.discard'`).Scan(&detail))
	if detail != "remove term 1: ciphertext came under it" {
		t.Errorf("audit says %q", detail)
	}
}

func TestReplicasThatRotateAtOnceAddOneTermEachOrAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, w.group(t, "a"), 1, 20)
	replicas := []*replica{w.replicaNamed("r0", rotation.Config{}), w.replicaNamed("r1", rotation.Config{}), w.replicaNamed("r2", rotation.Config{})}
	for _, r := range replicas {
		r.group(t, "a")
		r.run(t)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for _, r := range replicas {
		wg.Go(func() {
			for range 3 {
				_, err := r.keeper.Rotate(t.Context(), "a", "alice")
				switch {
				case err == nil:
					mu.Lock()
					done++
					mu.Unlock()
				case problem.Of(err).Code == problem.Conflict, errors.Is(err, sealer.ErrUnavailable):
				default:
					t.Errorf("Rotate: %v", err)
				}
			}
		})
	}
	wg.Wait()
	testkit.Await(t, patience, func() error {
		if k := replicas[0].get(t, "a"); k.Next != nil || len(k.Terms) != done+1 {
			return fmt.Errorf("%d terms after %d rotations, next %v", len(k.Terms), done, k.Next)
		}
		return nil
	})
	if done == 0 {
		t.Error("nobody rotated")
	}
	replicas[1].drained(t, "a")
	w.verify(t)
}

// TestWritersAndRewrappingDoNotDisturbEachOther has two replicas that write and rewrap the same rows while keyrings rotate.
func TestWritersAndRewrappingDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, w.group(t, "a"), 1, 600)
	other := w.replicaNamed("two", rotation.Config{})
	w.run(t)
	other.run(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	writes := 0
	for i, r := range []*replica{w.replica, other} {
		g := r.group(t, "a")
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := w.tryWrite(t.Context(), g, 1+(n*50+i*300)%600, 50); err != nil {
					t.Errorf("write of replica %d: %v", i, err)
					return
				}
				if i == 0 {
					writes++
				}
			}
		})
	}
	for range 4 {
		_, err := w.keeper.Rotate(t.Context(), "a", "alice")
		must(t, err)
	}
	cancel()
	wg.Wait()
	other.drained(t, "a")
	for term := range uint32(4) {
		_, err := other.keeper.Remove(t.Context(), "a", term+1, "alice")
		must(t, err)
	}
	w.verify(t)
	if writes == 0 {
		t.Error("nothing was written")
	}
}

// TestARowThatDoesNotOpenStaysAndHoldsItsTerm: it is named, never sealed anew.
func TestARowThatDoesNotOpenStaysAndHoldsItsTerm(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ tamper, want string }{
		"altered": {`update resources set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where uid = '` + uid(2) + `'`, uid(2)},
		"rows exchanged": {`update resources r set sealed = o.sealed from resources o where o.revision = r.revision and
((r.uid = '` + uid(1) + `' and o.uid = '` + uid(2) + `') or (r.uid = '` + uid(2) + `' and o.uid = '` + uid(1) + `'))`, uid(1)},
		"old format":      {`update resources set sealed = set_byte(sealed, 0, 0) where uid = '` + uid(2) + `'`, "malformed"},
		"truncated":       {`update changes set sealed = substring(sealed for 40)`, "malformed"},
		"another group's": {`update bundle_keys k set sealed = o.sealed from bundle_keys o where o.group_uid = '` + store.SystemUID + `' and k.group_uid <> o.group_uid`, "bundle_keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.everywhere(t)
			w.Exec(t, tc.tamper)
			before := w.Tables(t)
			var log buffer
			r := w.replicaNamed("one", rotation.Config{Log: logger(&log)})
			stop := r.run(t)
			_, err := r.keeper.Rotate(t.Context(), "a", "alice")
			must(t, err)
			testkit.Await(t, patience, func() error {
				if text := log.String(); !strings.Contains(text, "stay under older terms") || !strings.Contains(text, tc.want) {
					return errors.New(text)
				}
				return nil
			})
			stop()
			if _, err := r.keeper.Remove(t.Context(), "a", 1, "alice"); problem.Of(err).Code != problem.Conflict {
				t.Errorf("Remove = %v, want a conflict", err)
			}
			if strings.Contains(log.String(), "change") && strings.Contains(log.String(), "bundle key") {
				t.Error("the log has content")
			}
			if bytes.Equal(before["baselines"], w.Tables(t)["baselines"]) {
				t.Error("the rows that open were not rewrapped")
			}
		})
	}
}

func TestAKeyEncryptionKeyThatIsAwayAtARotationChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everywhere(t)
	w.group(t, "a")
	w.kek.away.Store(true)
	before := w.Tables(t)
	if _, err := w.keeper.Rotate(t.Context(), "a", "alice"); !errors.Is(err, sealer.ErrUnavailable) {
		t.Errorf("Rotate = %v, want ErrUnavailable", err)
	}
	for table, was := range before {
		if !bytes.Equal(was, w.Tables(t)[table]) {
			t.Errorf("%s changed", table)
		}
	}
	w.write(t, w.group(t, "a"), 1, 1)
	w.kek.away.Store(false)
	w.verify(t)
}

func TestAPreparedKeyringThatDoesNotFollowIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ tamper, want string }{
		"altered":            {`update next_keyrings set id = 'x', wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)`, "does not unwrap"},
		"of another version": {`update next_keyrings set id = 'x', version = 3`, "does not unwrap"},
		"replayed":           {`insert into next_keyrings select * from earlier`, "does not follow"},
		"of another group":   {`update next_keyrings set id = 'x', group_uid = '` + store.SystemUID + `'`, "does not unwrap"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.group(t, store.SystemGroup)
			_, err := w.sealer.Prepare(t.Context(), sealer.Plan{Group: "a", Action: sealer.Rotate, Actor: "alice", At: now()})
			must(t, err)
			w.Exec(t, `create table earlier as table next_keyrings`)
			if name == "replayed" {
				list, err := w.Store.NextKeyrings(t.Context())
				must(t, err)
				must(t, w.sealer.Commit(t.Context(), "a", list[0].ID, now(), func(context.Context, *store.GroupTx) error { return nil }))
			}
			w.Exec(t, tc.tamper)
			r := w.replicaNamed("two", rotation.Config{})
			if _, err := r.sealer.ReadNext(t.Context()); !errors.Is(err, sealer.ErrUnreadable) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ReadNext = %v, want %q", err, tc.want)
			}
			w.verify(t)
			w.Exec(t, `delete from next_keyrings`)
			_, err = w.keeper.Rotate(t.Context(), "a", "alice")
			must(t, err)
			w.verify(t)
		})
	}
}

func TestAKeyringThatCannotBeUsedIsListedWithItsFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.sealer.CreateGroup(t.Context(), sealer.NewGroup{Name: "b", Actor: "test", At: now()})
	must(t, err)
	w.Exec(t, `update keyrings set wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1) where group_uid = (select uid from groups where name = 'a')`)
	r := w.replicaNamed("two", rotation.Config{})
	list, err := r.keeper.List(t.Context(), func(group string) bool { return group != store.SystemGroup })
	must(t, err)
	if len(list) != 2 || list[0].Group != "a" || !strings.Contains(list[0].Fault, "does not unwrap") || list[1].Fault != "" || states(list[1]) != "1 newest" {
		t.Errorf("list: %+v", list)
	}
	if _, err := r.keeper.Get(t.Context(), "a"); !errors.Is(err, sealer.ErrUnreadable) {
		t.Errorf("Get = %v, want ErrUnreadable", err)
	}
}

func TestTermsAreRotatedByAgeAndBySeals(t *testing.T) {
	t.Parallel()
	later := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	for name, tc := range map[string]struct {
		cfg     rotation.Config
		tamper  string
		version int32
	}{
		"young":                  {rotation.Config{MaxAge: time.Hour, MaxSeals: 1000}, "", 2},
		"old":                    {rotation.Config{MaxAge: time.Hour, Now: later(2 * time.Hour)}, "", 3},
		"old, for ever":          {rotation.Config{Now: later(2 * time.Hour)}, "", 2},
		"sealed often":           {rotation.Config{MaxSeals: 4}, "", 3},
		"made younger":           {rotation.Config{MaxAge: time.Hour, Now: later(2 * time.Hour)}, `update keyring_terms set created_at = created_at + interval '2 hours'`, 3},
		"what is known is gone":  {rotation.Config{MaxAge: time.Hour, Now: later(2 * time.Hour)}, `delete from keyring_terms`, 3},
		"of another term":        {rotation.Config{MaxAge: time.Hour, Now: later(2 * time.Hour)}, `update keyring_terms set term = term + 10`, 3},
		"replaced by an old one": {rotation.Config{MaxAge: time.Hour}, `update keyring_terms set created_at = '2000-01-01'`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write(t, w.group(t, "a"), 1, 3)
			_, err := w.keeper.Rotate(t.Context(), "a", "alice")
			must(t, err)
			w.write(t, w.group(t, "a"), 1, 3)
			stop := w.run(t)
			testkit.Await(t, patience, func() error { // the seals are counted with the next beat
				if k := w.get(t, "a"); k.Terms[1].Seals < 4 {
					return fmt.Errorf("%d seals", k.Terms[1].Seals)
				}
				return nil
			})
			stop()
			if tc.tamper != "" {
				w.Exec(t, tc.tamper)
			}
			r := w.replicaNamed("one", tc.cfg)
			must(t, r.keeper.Force(t.Context()))
			r.run(t)
			testkit.Await(t, patience, func() error {
				if k := r.get(t, "a"); k.Version != tc.version || k.Next != nil {
					return fmt.Errorf("version %d, want %d; next %v", k.Version, tc.version, k.Next)
				}
				return nil
			})
		})
	}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// BenchmarkRewrap is how fast rows of 1 KiB come under a new term, without the pauses that leave room for others.
func BenchmarkRewrap(b *testing.B) {
	const rows = 2000
	w := newWorld(b)
	g := w.group(b, "a")
	w.record = strings.Repeat("x", 1<<10)
	w.write(b, g, 1, rows)
	done := int64(0)
	for b.Loop() {
		b.StopTimer()
		_, err := w.keeper.Rotate(b.Context(), "a", "alice")
		must(b, err)
		walk := w.Store.NewWalk(g.UID(), g.Terms().Newest)
		b.StartTimer()
		for over := false; !over; {
			var n int64
			n, over, err = w.Store.Rewrap(b.Context(), walk, 250, func(row store.SealedRow) []byte {
				sealed, err := g.Rewrap(row)
				must(b, err)
				return sealed
			})
			must(b, err)
			done += n
		}
	}
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "rows/s")
}
