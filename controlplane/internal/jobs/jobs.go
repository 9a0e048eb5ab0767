// Package jobs runs the control plane's background work: what has to be done now and then, once for all replicas, however
// many there are and whenever they come and go. It is a thin layer over river, whose tables lie beside the store's: the
// replica that leads puts a job into the queue once a period, any replica takes it. A job carries nothing but its name, and
// what it answers is logged here and never stored. It must not be needed by the write path or by streams: without jobs
// everything else goes on. Package app says which jobs there are.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"keyward.dev/shared/run"
)

// Job is something to be done once every period. It may be done again after a failure, or beside itself on two replicas if
// the one that began it is slow to die, and has to stand both. A replica that is still at it when the next period begins
// lets that one pass.
type Job struct {
	// Name is part of what is stored: a job that is renamed is another one.
	Name string
	// Every is the period, between a second and a day. Periods begin at the same moments on all replicas.
	Every time.Duration
	// Timeout bounds one run.
	Timeout time.Duration
	Run     run.Task
}

// Config holds what a Runner needs.
type Config struct {
	// Pool is connected as the runtime role.
	Pool *pgxpool.Pool
	Jobs []Job
	Log  *slog.Logger
}

// Runner takes part in running the jobs. Collect gives its metrics.
type Runner struct {
	cfg  Config
	jobs map[string]Job
	// turns keep a job from running beside itself here.
	turns map[string]*sync.Mutex
	metrics
}

const (
	// attempts is how often a job that fails is tried again within its period, with growing pauses; the next period begins
	// anew.
	attempts = 5
	maxPoll  = 2 * time.Second
	// drain is how long a job under way may go on when the replica ends.
	drain      = 3 * time.Second
	firstPause = 200 * time.Millisecond
	maxPause   = 10 * time.Second
)

// New returns a Runner. Its Run has to run.
func New(cfg Config) (*Runner, error) {
	r := &Runner{cfg: cfg, jobs: map[string]Job{}, turns: map[string]*sync.Mutex{}, metrics: newMetrics()}
	for _, j := range cfg.Jobs {
		switch {
		case r.jobs[j.Name].Run != nil:
			return nil, fmt.Errorf("job %s is there twice", j.Name)
		case j.Every < time.Second || j.Every > 24*time.Hour:
			return nil, fmt.Errorf("job %s: period %s is not between a second and a day", j.Name, j.Every)
		case j.Timeout <= 0:
			return nil, fmt.Errorf("job %s has no timeout", j.Name)
		}
		r.jobs[j.Name], r.turns[j.Name] = j, &sync.Mutex{}
		r.declare(j.Name)
	}
	return r, nil
}

var _ prometheus.Collector = (*Runner)(nil)

// Run takes part until ctx ends. While the database cannot be asked, jobs wait.
func (r *Runner) Run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		client, err := river.NewClient(riverpgxv5.New(r.cfg.Pool), r.config())
		if err != nil {
			return fmt.Errorf("set up background jobs: %w", err)
		}
		err = client.Start(ctx)
		if err == nil {
			<-client.Stopped()
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end was asked for
		}
		r.cfg.Log.WarnContext(ctx, "background jobs cannot start; trying again", "err", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (r *Runner) config() *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{runner: r})
	cfg := &river.Config{
		Logger: slog.New(newQuiet(r.cfg.Log.Handler())).With("part", "job queue"),
		// One for each job: those that are short and often must not wait for others. And one that lets periods pass whose job is
		// still under way.
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: len(r.jobs) + 1}},
		Workers: workers,
		// Polling needs no connection of its own, and a job need not begin at once.
		PollOnly: true, FetchPollInterval: maxPoll, FetchCooldown: time.Second,
		MaxAttempts: attempts, SoftStopTimeout: drain,
		// Indexes belong to the owner of the schema, who is not here.
		ReindexerIndexNames: []string{},
	}
	for _, j := range r.jobs {
		cfg.FetchPollInterval = min(cfg.FetchPollInterval, j.Every)
		cfg.RescueStuckJobsAfter = max(cfg.RescueStuckJobsAfter, j.Timeout+time.Minute)
		cfg.JobTimeout = max(cfg.JobTimeout, j.Timeout)
		cfg.PeriodicJobs = append(cfg.PeriodicJobs, j.periodic())
	}
	return cfg
}

// periodic puts the job into the queue once a period, and at once where a new leader finds that nobody has.
func (j Job) periodic() *river.PeriodicJob {
	insert := func() (river.JobArgs, *river.InsertOpts) {
		return args{Job: j.Name}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: j.Every}}
	}
	return river.NewPeriodicJob(schedule(j.Every), insert, &river.PeriodicJobOpts{ID: j.Name, RunOnStart: true})
}

// schedule gives moments well inside each period, which the queue counts from the epoch, so that a timer that is early or
// late does not fall into the neighbouring one.
type schedule time.Duration

// Next implements river.PeriodicSchedule.
func (s schedule) Next(after time.Time) time.Time {
	every := time.Duration(s)
	return after.Truncate(every).Add(every + min(every/4, time.Second))
}

// args is all that is stored of a job.
type args struct {
	Job string `json:"job"`
}

// Kind implements river.JobArgs.
func (args) Kind() string { return "keyward" }

// worker runs what the queue hands out.
type worker struct {
	river.WorkerDefaults[args]
	runner *Runner
}

// Timeout implements river.Worker.
func (w *worker) Timeout(job *river.Job[args]) time.Duration {
	return w.runner.jobs[job.Args.Job].Timeout
}

// errFailed is what the queue stores of a failure: why is for the log only.
var errFailed = errors.New("failed; the log of the control plane says why")

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[args]) error {
	name, log := job.Args.Job, w.runner.cfg.Log
	j, ok := w.runner.jobs[name]
	if !ok { // of a newer program, which will take it
		return river.JobSnooze(maxPause)
	}
	turn := w.runner.turns[name]
	if !turn.TryLock() {
		log.DebugContext(ctx, "background job still under way; its next period passes", "job", name)
		return nil
	}
	defer turn.Unlock()
	begun := time.Now()
	err := run.Protect(ctx, j.Run)
	if errors.Is(err, context.Canceled) { // this replica ends; another one begins anew
		log.InfoContext(ctx, "background job interrupted", "job", name)
		return errFailed
	}
	w.runner.ran(name, begun, err)
	if err != nil {
		log.ErrorContext(ctx, "background job failed", "job", name, "attempt", job.Attempt, "of", job.MaxAttempts, "err", err)
		return errFailed
	}
	log.DebugContext(ctx, "background job done", "job", name, "took", time.Since(begun))
	return nil
}
