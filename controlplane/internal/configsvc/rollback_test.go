package configsvc_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// contents is what a group says, secrets in stored form included, without who wrote it when.
type contents map[string]string

func contentsOf(rs []*snapshot.Resource) contents {
	out := contents{}
	for _, r := range rs {
		raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
		out[r.Kind+"/"+r.Name] = hex.EncodeToString(raw)
	}
	return out
}

// now is what the group holds, read by a process that has seen nothing before.
func (w *world) now(t *testing.T) contents {
	t.Helper()
	r := w.replica(t)
	view := r.fresh(t)
	var all []*snapshot.Resource
	for _, k := range r.catalog.Kinds() {
		for res := range view.All(k.Name) {
			all = append(all, res)
		}
	}
	return contentsOf(all)
}

func (c contents) only(keep func(ref string) bool) contents {
	out := contents{}
	for ref, text := range c {
		if keep(ref) {
			out[ref] = text
		}
	}
	return out
}

func isCredential(ref string) bool { return strings.HasPrefix(ref, "credentials/") }

func (r *replica) back(ctx context.Context, to int64, mod ...func(*configsvc.RollbackRequest)) (configsvc.RollbackResult, error) {
	req := configsvc.RollbackRequest{Actor: "test", Group: "g", To: to}
	for _, m := range mod {
		m(&req)
	}
	return r.Rollback(ctx, req)
}

func withCredentials(r *configsvc.RollbackRequest) { r.Credentials = true }

// writeAtRandom makes a few changes that mostly are valid and returns whether they were.
func writeAtRandom(t *testing.T, r *replica, rnd *rand.Rand) bool {
	t.Helper()
	var changes []admission.Change
	for range 1 + rnd.IntN(3) {
		n := rnd.IntN(4)
		changes = append(changes, []func() admission.Change{
			func() admission.Change {
				return admission.Change{Kind: "services", Name: fmt.Sprint("s", n), Message: &configv1.Service{
					Name: fmt.Sprint("s", n), Url: fmt.Sprintf("http://10.0.0.%d:80", 1+rnd.IntN(3)),
				}}
			},
			func() admission.Change { return route(fmt.Sprint("r", n), fmt.Sprint("s", rnd.IntN(4))) },
			func() admission.Change { return consumer(fmt.Sprint("c", n)) },
			func() admission.Change {
				return key(t, fmt.Sprint("c", n), fmt.Sprint("k", rnd.IntN(2)), strongKey(rnd.IntN(1000)))
			},
			func() admission.Change { return remove("routes", fmt.Sprint("r", n)) },
			func() admission.Change { return remove("services", fmt.Sprint("s", n)) },
			func() admission.Change { return remove("consumers", fmt.Sprint("c", n)) },
			func() admission.Change { return remove("credentials", fmt.Sprintf("c%d/k%d", n, rnd.IntN(2))) },
		}[rnd.IntN(8)]())
	}
	_, err := r.write(t.Context(), changes...)
	return err == nil
}

// TestAnyRevisionComesBack writes at random, and then: the history says of every revision what was read at it, a rollback
// with credentials gives exactly that, one without gives that but for the credentials, and refused or repeated ones
// change nothing.
func TestAnyRevisionComesBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			r := w.replica(t)
			r.mustWrite(t, service("s0"), service("s1"), consumer("c0"), key(t, "c0", "k0", strongKey(5000)))
			at := map[int64]contents{r.fresh(t).Revision: w.now(t)}
			for range 60 {
				if writeAtRandom(t, r, rnd) {
					at[r.fresh(t).Revision] = w.now(t)
				}
			}
			for range 8 {
				to := 2 + rnd.Int64N(int64(len(at)))
				checkPast(t, r, to, at[to])
				checkRollback(t, w, to, at[to], rnd.IntN(2) == 0)
				at[r.fresh(t).Revision] = w.now(t)
			}
		})
	}
}

func checkPast(t *testing.T, r *replica, revision int64, want contents) {
	t.Helper()
	sets, err := r.past.At(t.Context(), "g", revision)
	if err != nil {
		t.Fatal(err)
	}
	then, err := sets[0].Resources()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contentsOf(then)); diff != "" {
		t.Fatalf("revision %d in the history (-was +says):\n%s", revision, diff)
	}
}

func checkRollback(t *testing.T, w *world, to int64, want contents, credentials bool) {
	t.Helper()
	r := w.replica(t)
	before := w.now(t)
	res, err := r.back(t.Context(), to, func(req *configsvc.RollbackRequest) { req.Credentials = credentials })
	if err != nil {
		t.Fatal(err)
	}
	got := w.now(t)
	if credentials {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("back at %d with credentials (-was +is):\n%s", to, diff)
		}
	} else {
		checkWithoutCredentials(t, before, want, got, res.CredentialsLeft)
	}
	again, err := r.back(t.Context(), to, func(req *configsvc.RollbackRequest) { req.Credentials = credentials })
	if err != nil || again.Changed || again.Revision != res.Revision {
		t.Fatalf("the same again: %v, revision %d after %d", err, again.Revision, res.Revision)
	}
}

func checkWithoutCredentials(t *testing.T, before, want, got contents, left int) {
	t.Helper()
	others := func(ref string) bool { return !isCredential(ref) }
	if diff := cmp.Diff(want.only(others), got.only(others)); diff != "" {
		t.Fatalf("back without credentials (-was +is):\n%s", diff)
	}
	kept := before.only(func(ref string) bool {
		consumer, _, _ := strings.Cut(strings.TrimPrefix(ref, "credentials/"), "/")
		return isCredential(ref) && want["consumers/"+consumer] != ""
	})
	if diff := cmp.Diff(kept, got.only(isCredential)); diff != "" {
		t.Fatalf("credentials after a rollback without them (-before +after):\n%s", diff)
	}
	differ := 0
	then := want.only(isCredential)
	for ref, text := range kept {
		if then[ref] != text {
			differ++
		}
		delete(then, ref)
	}
	if differ += len(then); left != differ {
		t.Fatalf("%d credentials are said to differ, want %d", left, differ)
	}
}

func TestARevokedKeyStaysRevokedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	then := r.mustWrite(t, service("s"), consumer("a"), key(t, "a", "k", strongKey(1))).Revision
	want := w.now(t)
	r.mustWrite(t, remove("credentials", "a/k"), service("t"))
	res, err := r.back(t.Context(), then)
	if err != nil || !res.Changed || res.CredentialsLeft != 1 {
		t.Fatalf("rollback: %+v, %v", res, err)
	}
	if _, ok := r.fresh(t).Get("credentials", "a/k"); ok {
		t.Error("a deleted credential is back without having been asked for")
	}
	if res, err = r.back(t.Context(), then, withCredentials); err != nil || len(res.Warnings) != 1 {
		t.Fatalf("rollback with credentials: %+v, %v", res.Warnings, err)
	}
	if diff := cmp.Diff(want, w.now(t)); diff != "" {
		t.Errorf("back with credentials (-was +is):\n%s", diff)
	}
	// The key that came back is the key that was: giving it again changes nothing.
	if again := r.mustWrite(t, key(t, "a", "k", strongKey(1))); again.Changed {
		t.Error("the key that came back is another one")
	}
}

func TestARollbackIsRefusedWithEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	then := r.mustWrite(t, service("s")).Revision
	head := r.mustWrite(t, service("t")).Revision
	for _, tt := range []struct {
		name string
		to   int64
		mod  func(*configsvc.RollbackRequest)
		want problem.Code
	}{
		{"no revision", 0, func(*configsvc.RollbackRequest) {}, problem.Invalid},
		{"a revision to come", head + 1, func(*configsvc.RollbackRequest) {}, problem.NotFound},
		{"another head than expected", then, func(q *configsvc.RollbackRequest) { q.IfRevision = then }, problem.PreconditionFailed},
		{"an unknown group", then, func(q *configsvc.RollbackRequest) { q.Group = "other" }, problem.NotFound},
		{"the system", then, func(q *configsvc.RollbackRequest) { q.Group = store.SystemGroup }, problem.NotFound},
	} {
		if _, err := r.back(t.Context(), tt.to, tt.mod); err == nil || problem.Of(err).Code != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	dry, err := r.back(t.Context(), then, func(q *configsvc.RollbackRequest) { q.DryRun, q.IfRevision = true, head })
	if err != nil || !dry.Changed || dry.Revision != head {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	if v := w.replica(t).fresh(t); v.Revision != head {
		t.Errorf("after refusals and a dry run the group is at %d, want %d", v.Revision, head)
	}
}

// TestAHistoryThatWasTouchedIsRefused removes and alters stored changes: reading and rolling back are refused, whichever
// revision is asked for, and the group goes on.
func TestAHistoryThatWasTouchedIsRefused(t *testing.T) {
	t.Parallel()
	for name, touch := range map[string]string{
		"a revision is missing":      "delete from changes where revision = 3",
		"a body does not open":       "update changes set sealed = set_byte(sealed, 70, get_byte(sealed, 70) # 1) where revision = 3",
		"the newest is missing":      "delete from changes where revision = 4",
		"the first is missing":       "delete from changes where revision = 1",
		"a body stands in for other": "update changes set sealed = (select sealed from changes where revision = 2 and group_uid <> '" + store.SystemUID + "') where revision = 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.replica(t)
			r.mustWrite(t, service("a"))
			r.mustWrite(t, service("b"))
			r.mustWrite(t, service("c"))
			w.db.Exec(t, touch)
			if _, err := r.back(t.Context(), 2); err == nil || problem.Of(err).Code != problem.Unavailable {
				t.Errorf("rollback: %v, want it refused", err)
			}
			if res := r.mustWrite(t, service("d")); !res.Changed {
				t.Error("the group does not go on")
			}
		})
	}
}

// TestARollbackAmongWritersIsWholeOrNotAtAll races rollbacks with writers on another replica: every revision that comes of
// it is one that a writer made on top of what was there, or exactly the one rolled back to.
func TestARollbackAmongWritersIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica(t), w.replica(t)
	setup := []admission.Change{service("s")}
	for n := range 10 {
		setup = append(setup, route(fmt.Sprint("r", n), "s"))
	}
	then := one.mustWrite(t, setup...).Revision
	want := w.now(t)
	var wg sync.WaitGroup
	back := make(chan int64, 10)
	wg.Go(func() {
		defer close(back)
		for range 10 {
			res, err := one.back(t.Context(), then)
			if err != nil {
				t.Error(err)
			}
			back <- res.Revision
		}
	})
	wg.Go(func() {
		for n := range 20 {
			if _, err := two.write(t.Context(), service(fmt.Sprint("x", n)), remove("routes", fmt.Sprint("r", n%10)), route(fmt.Sprint("y", n), "s")); err != nil {
				if problem.Of(err).Code == problem.Internal {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	for revision := range back {
		checkPast(t, one, revision, want)
	}
}

func TestARollbackIsAuditedAndNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	then := r.mustWrite(t, service("s"), consumer("a"), key(t, "a", "k", strongKey(1))).Revision
	r.mustWrite(t, service("t"), remove("credentials", "a/k"))
	if _, err := r.back(t.Context(), then, withCredentials); err != nil {
		t.Fatal(err)
	}
	changes, err := w.db.Store.History(t.Context(), "g", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := "rollback to 2 with credentials: 1 created, 1 deleted"; changes[0].Summary != want {
		t.Errorf("history says %q, want %q", changes[0].Summary, want)
	}
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 1)
	if err != nil || len(page) != 1 {
		t.Fatalf("audit page: %v, %v", page, err)
	}
	row := fmt.Sprintln(page[0].Action, page[0].Detail, page[0].Subjects)
	for _, want := range []string{"resources.rollback", "rollback to 2 with credentials", "credentials/a/k", "services/t"} {
		if !strings.Contains(row, want) {
			t.Errorf("audit says %q, without %q", row, want)
		}
	}
}
