package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/testkit"
)

const patience = 60 * time.Second

func newDB(t *testing.T) *storetest.DB {
	t.Helper()
	db := storetest.Empty(t)
	db.Migrate(t, jobs.Schema())
	db.Open(t)
	return db
}

// replica runs jobs until it is stopped, which waits for its end.
type replica struct {
	*jobs.Runner
	stop func()
}

func start(t *testing.T, db *storetest.DB, log io.Writer, list ...jobs.Job) *replica {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DSN: db.Runtime})
	if err != nil {
		t.Fatal(err)
	}
	r, err := jobs.New(jobs.Config{Pool: s.Pool(), Jobs: list, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		s.Close()
	})
	t.Cleanup(stop)
	return &replica{Runner: r, stop: stop}
}

// counter is a job that counts its runs.
type counter struct{ atomic.Int64 }

func (c *counter) job(name string, every time.Duration) jobs.Job {
	return jobs.Job{Name: name, Every: every, Timeout: 10 * time.Second, Run: func(context.Context) error { c.Add(1); return nil }}
}

func (c *counter) await(t *testing.T, n int64) {
	t.Helper()
	testkit.Await(t, patience, func() error {
		if got := c.Load(); got < n {
			return fmt.Errorf("%d runs, want %d", got, n)
		}
		return nil
	})
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

// TestEachPeriodIsRunOnceByAllReplicasTogether has two replicas, of which the first, who leads, goes while jobs are under
// way. On a machine that is busy two periods may be handed out at once, of which one passes.
func TestEachPeriodIsRunOnceByAllReplicasTogether(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	var runs counter
	var log buffer
	first := start(t, db, &log, runs.job("tick", time.Second))
	second := start(t, db, &log, runs.job("tick", time.Second))
	runs.await(t, 4)
	first.stop()
	runs.await(t, runs.Load()+3)
	second.stop()
	var completed, periods, attempts int64
	var args string
	err := db.Conn(t).QueryRow(t.Context(), `
select count(*) filter (where state = 'completed'), count(distinct date_trunc('second', scheduled_at)),
    sum(attempt), string_agg(distinct args::text, ', ') from river_job where finalized_at is not null`).
		Scan(&completed, &periods, &attempts, &args)
	if err != nil {
		t.Fatal(err)
	}
	passed := int64(strings.Count(log.String(), "its next period passes"))
	if got := runs.Load() + passed; got != completed || got != periods || got != attempts {
		t.Errorf("%d runs or passed (%d), %d completed in %d periods with %d attempts", got, passed, completed, periods, attempts)
	}
	if args != `{"job": "tick"}` {
		t.Errorf("stored: %s", args)
	}
}

// TestAJobIsNeverRunBesideItself: a replica that still does what a period before this one asked for has nothing to add.
func TestAJobIsNeverRunBesideItself(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	var runs, under, most atomic.Int64
	finish := make(chan struct{})
	start(t, db, io.Discard, jobs.Job{
		Name: "long", Every: time.Second, Timeout: time.Minute,
		Run: func(ctx context.Context) error {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			runs.Add(1)
			select {
			case <-finish:
			case <-ctx.Done():
			}
			return ctx.Err()
		},
	})
	conn := db.Conn(t)
	testkit.Await(t, patience, func() error {
		var handedOut int
		err := conn.QueryRow(t.Context(), `select count(*) from river_job where state in ('running', 'completed')`).Scan(&handedOut)
		if err == nil && handedOut < 2 {
			err = fmt.Errorf("%d handed out, want 2", handedOut)
		}
		return err
	})
	close(finish)
	testkit.Await(t, patience, func() error {
		if n := runs.Load(); n < 3 {
			return fmt.Errorf("%d runs, want 3", n)
		}
		return nil
	})
	if n := most.Load(); n != 1 {
		t.Errorf("%d runs beside each other", n)
	}
}

func TestAFailureIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("the secret reason") },
		"panic": func() error { panic("the secret reason") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			var runs atomic.Int64
			var log buffer
			r := start(t, db, &log, jobs.Job{
				Name: "fails", Every: time.Hour, Timeout: 10 * time.Second,
				Run: func(context.Context) error {
					if runs.Add(1) == 1 {
						return fail()
					}
					return nil
				},
			})
			testkit.Await(t, patience, func() error {
				return testutil.CollectAndCompare(r, strings.NewReader(`
# HELP keyward_controlplane_job_failures_total Those of them that failed.
# TYPE keyward_controlplane_job_failures_total counter
keyward_controlplane_job_failures_total{job="fails"} 1
# HELP keyward_controlplane_job_runs_total Runs of background jobs on this replica.
# TYPE keyward_controlplane_job_runs_total counter
keyward_controlplane_job_runs_total{job="fails"} 2
`), "keyward_controlplane_job_runs_total", "keyward_controlplane_job_failures_total")
			})
			r.stop()
			if text := log.String(); !strings.Contains(text, "background job failed") || !strings.Contains(text, "the secret reason") {
				t.Errorf("log: %s", text)
			}
			if stored := db.Tables(t)["river_job"]; bytes.Contains(stored, []byte("secret reason")) || !bytes.Contains(stored, []byte("the log of the control plane")) {
				t.Errorf("stored: %q", stored)
			}
		})
	}
}

func TestARunThatTakesTooLongIsEnded(t *testing.T) {
	t.Parallel()
	var log buffer
	start(t, newDB(t), &log, jobs.Job{
		Name: "slow", Every: time.Hour, Timeout: 50 * time.Millisecond,
		Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	})
	testkit.Await(t, patience, func() error {
		if text := log.String(); !strings.Contains(text, "background job failed") || !strings.Contains(text, context.DeadlineExceeded.Error()) {
			return fmt.Errorf("log: %s", text)
		}
		return nil
	})
}

// TestAReplicaThatEndsDoesNotWaitForJobs: a job under way gets a moment, then its context ends.
func TestAReplicaThatEndsDoesNotWaitForJobs(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	var once sync.Once
	r := start(t, newDB(t), io.Discard, jobs.Job{
		Name: "long", Every: time.Hour, Timeout: time.Hour,
		Run: func(ctx context.Context) error { once.Do(func() { close(begun) }); <-ctx.Done(); return ctx.Err() },
	})
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the job did not begin")
	}
	at := time.Now()
	r.stop()
	if took := time.Since(at); took > 10*time.Second {
		t.Errorf("took %s to end", took)
	}
}

// TestAnOutageOnlyDelays takes the database away before the start, and again while jobs run.
func TestAnOutageOnlyDelays(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	outage := func() {
		db.Exec(t, `alter role `+db.RuntimeRole+` nologin`,
			`select pg_terminate_backend(pid) from pg_stat_activity where usename = '`+db.RuntimeRole+`'`)
	}
	over := func() { db.Exec(t, `alter role `+db.RuntimeRole+` login`) }
	var runs counter
	var log buffer
	db.Exec(t, `alter table river_queue rename to away`)
	start(t, db, &log, runs.job("tick", time.Second))
	testkit.Await(t, patience, func() error {
		if !strings.Contains(log.String(), "background jobs cannot start") {
			return errors.New("it did not notice")
		}
		return nil
	})
	db.Exec(t, `alter table away rename to river_queue`)
	runs.await(t, 1)
	outage()
	const noticed = "Error fetching queue settings" // every two seconds
	testkit.Await(t, patience, func() error {
		if !strings.Contains(log.String(), noticed) {
			return errors.New("it did not notice")
		}
		return nil
	})
	over()
	runs.await(t, runs.Load()+2)
	if n := strings.Count(log.String(), "Error fetching jobs"); n > 1 {
		t.Errorf("the same was logged %d times", n)
	}
}

func TestTheRuntimeRoleGetsOnlyWhatTheQueueNeeds(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Migrate(t, jobs.Schema()) // can be repeated
	for _, statement := range []string{
		`select * from river_migration`,
		`truncate river_job`,
		`drop table river_job`,
		`alter table river_job add column x int`,
		`create trigger x before insert on river_job execute function suppress_redundant_updates_trigger()`,
		`select setval('river_job_id_seq', 1)`,
	} {
		var pg *pgconn.PgError
		if err := db.ExecRuntime(t, statement); !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: err = %v, want insufficient privilege", statement, err)
		}
	}
	var without int
	err := db.Conn(t).QueryRow(t.Context(), `
select count(*) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and obj_description(oid) is null`).Scan(&without)
	if err != nil || without > 0 {
		t.Errorf("%d tables have no comment, %v", without, err)
	}
}

func TestJobsThatCannotBeRunAreRefused(t *testing.T) {
	t.Parallel()
	var c counter
	for name, list := range map[string][]jobs.Job{
		"twice":      {c.job("a", time.Hour), c.job("a", time.Hour)},
		"too often":  {c.job("a", time.Second-1)},
		"too seldom": {c.job("a", 25*time.Hour)},
		"no timeout": {{Name: "a", Every: time.Hour, Run: func(context.Context) error { return nil }}},
	} {
		if _, err := jobs.New(jobs.Config{Jobs: list}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestShortJobsDoNotWaitForLongOnes: as many are under way at once as there are.
func TestShortJobsDoNotWaitForLongOnes(t *testing.T) {
	t.Parallel()
	var runs counter
	list := []jobs.Job{runs.job("often", time.Second)}
	for _, name := range []string{"long", "longer", "longest"} {
		list = append(list, jobs.Job{
			Name: name, Every: time.Hour, Timeout: time.Hour,
			Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		})
	}
	start(t, newDB(t), io.Discard, list...)
	runs.await(t, 3)
}
