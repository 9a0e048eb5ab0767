package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Book keeps the states; *Ledger does.
type Book interface {
	// Phases answers the phase of every group that has a state.
	Phases(ctx context.Context) (map[string]Phase, error)
	// State answers the state of a group; nil if it has none.
	State(ctx context.Context, group string) (*State, error)
	// Move stores what step answers for the state that holds now, whoever else tries to; nil leaves it.
	Move(ctx context.Context, group, actor string, step func(*State) (*State, error)) (*State, error)
}

// Witness knows what the connected gateways of a group do, on all replicas.
type Witness interface {
	Evidence(ctx context.Context, group string) ([]Gateway, error)
}

// DriverConfig is what a Driver needs.
type DriverConfig struct {
	Book    Book
	Witness Witness
	// Follow is called with every round: targets that another replica has moved are read again, should its word be lost.
	Follow func(ctx context.Context)
	Now    func() time.Time
	Log    *slog.Logger
}

// Driver takes roll-outs from stage to stage. Every replica has one; a step is taken by who holds the group's head, and is
// judged again there, so that it is taken once.
type Driver struct {
	cfg DriverConfig

	mu      sync.Mutex // guards what follows
	aborted map[string]bool
}

// NewDriver returns a driver.
func NewDriver(cfg DriverConfig) *Driver { return &Driver{cfg: cfg} }

// every is how often roll-outs are looked at; a soak is over at most that much late.
const every = time.Second

// Run drives until the context ends. While the database is down roll-outs stand still.
func (d *Driver) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := d.round(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "roll-outs stand still", "err", err)
		}
		failing = err != nil
	}
}

func (d *Driver) round(ctx context.Context) error {
	phases, err := d.cfg.Book.Phases(ctx)
	if err != nil {
		return err
	}
	if len(phases) > 0 {
		d.cfg.Follow(ctx)
	}
	for group, phase := range phases {
		if phase != Rolling {
			continue
		}
		next, stepErr := d.step(ctx, group)
		if stepErr != nil {
			err = fmt.Errorf("group %s: %w", group, stepErr)
		}
		if next != nil {
			phases[group] = next.Phase
		}
	}
	d.note(phases)
	return err
}

// step judges one group, and takes the step if there is one.
func (d *Driver) step(ctx context.Context, group string) (*State, error) {
	s, err := d.cfg.Book.State(ctx, group)
	if err != nil || s == nil {
		return nil, err
	}
	gateways, err := d.cfg.Witness.Evidence(ctx, group)
	if err != nil {
		return nil, err
	}
	if next, _ := s.Judge(d.cfg.Now(), gateways); next == nil {
		return nil, nil //nolint:nilnil // nothing to do
	}
	next, err := d.cfg.Book.Move(ctx, group, controlPlane, func(now *State) (*State, error) {
		if now == nil {
			return nil, nil //nolint:nilnil // it was taken away meanwhile
		}
		next, _ := now.Judge(d.cfg.Now(), gateways)
		return next, nil
	})
	if err != nil || next == nil {
		return nil, err
	}
	if next.Phase == Aborted {
		d.cfg.Log.ErrorContext(ctx, "roll-out aborted", "group", group, "revision", next.Revision, "stage", next.Stage()+1, "reason", next.Reason)
	} else {
		d.cfg.Log.InfoContext(ctx, "roll-out advances", "group", group, "revision", next.Revision, "stage", next.Stage()+1, "stages", len(next.Targets))
	}
	return next, nil
}

func (d *Driver) note(phases map[string]Phase) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = map[string]bool{}
	for group, phase := range phases {
		d.aborted[group] = phase == Aborted
	}
}

// Aborted answers for each staged group whether its roll-out was aborted.
func (d *Driver) Aborted() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.aborted)
}
