// Package fleet simulates many gateways in one process: each has an identity and streams of its own, through the very
// client that gateways use, and verifies every change that it receives; but none compiles or serves anything, and the
// records are held once for all of them. It is for testing control planes at scale. Called by the command keyward-fleet;
// no gateway uses it.
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/syncclient"
	"keyward.dev/shared/contract"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/run"
	"keyward.dev/shared/run/rest"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Config is what a Fleet needs.
type Config struct {
	Gateways int
	// Ramp is the time over which the gateways start.
	Ramp time.Duration
	// IdentityDir keeps the identities over restarts, a directory for each; empty keeps them in memory only.
	IdentityDir string
	// ReportEvery is how often the state of the fleet is written.
	ReportEvery time.Duration
	// Client is what the gateways have in common; the rest of it is set for each.
	Client syncclient.Config
	// Out gets JSON lines.
	Out      io.Writer
	Registry *prometheus.Registry
	Log      *slog.Logger
}

// Fleet is a number of simulated gateways.
type Fleet struct {
	cfg      Config
	members  []*syncclient.Client
	progress *progress
	received atomic.Int64 // bytes, TLS included
	events   *events
}

// New makes the gateways. Nothing moves before Run.
func New(cfg Config) (*Fleet, error) {
	f := &Fleet{cfg: cfg, progress: newProgress(cfg.Gateways), events: newEvents(cfg.Out)}
	share, dial := state.NewShare(), cfg.Client.Dial
	if dial == nil {
		d := &net.Dialer{Timeout: 5 * time.Second}
		dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	for i := range cfg.Gateways {
		c := cfg.Client
		c.Share, c.Log = share, cfg.Log.With("member", i)
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return &counted{Conn: conn, received: &f.received}, nil
		}
		c.Apply = func(_ context.Context, set *state.Set) []syncclient.Fault {
			f.applied(i, set, time.Now())
			return nil
		}
		if cfg.IdentityDir != "" {
			c.IdentityDir = filepath.Join(cfg.IdentityDir, fmt.Sprintf("%06d", i))
		}
		member, err := syncclient.New(c)
		if err != nil {
			return nil, fmt.Errorf("prepare gateway %d: %w", i, err)
		}
		f.members = append(f.members, member)
	}
	cfg.Registry.MustRegister(newCollector(f))
	return f, nil
}

// applied notes that a gateway has a set, and tells of the revision if it was the last one to get there.
func (f *Fleet) applied(member int, set *state.Set, at time.Time) {
	if s, all := f.progress.applied(member, position{set.Epoch, set.Revision}, set.CommittedAt, at); all {
		f.events.add(s)
	}
}

// Run keeps the gateways going until the context ends.
func (f *Fleet) Run(ctx context.Context) error {
	tasks := []run.Task{f.events.run, f.report}
	for i, member := range f.members {
		delay := f.cfg.Ramp * time.Duration(i) / time.Duration(len(f.members))
		tasks = append(tasks, func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delay):
				return member.Run(ctx)
			}
		})
	}
	err := run.Group(ctx, tasks...)
	f.events.add(f.Summary())
	f.events.flush()
	return err
}

// report writes the state of the fleet again and again.
func (f *Fleet) report(ctx context.Context) error {
	ticker := time.NewTicker(f.cfg.ReportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f.events.add(f.Summary())
		}
	}
}

// Ready is nil when every gateway has a verified configuration.
func (f *Fleet) Ready() error {
	if s := f.Summary(); s.Configured < s.Gateways {
		return fmt.Errorf("%d of %d gateways have a configuration", s.Configured, s.Gateways)
	}
	return nil
}

// counted counts what is received.
type counted struct {
	net.Conn
	received *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

// Run reads nothing but settings: it makes a fleet, serves its status port and runs until the context ends.
func Run(ctx context.Context, s Settings, out io.Writer, log *slog.Logger) error {
	labels, err := settings.Pairs(s.Labels)
	if err != nil {
		return fmt.Errorf("read labels: %w", err)
	}
	var pin *mtls.SPKI
	if s.RootSPKI != "" {
		p, err := mtls.ParseSPKI(s.RootSPKI)
		if err != nil {
			return fmt.Errorf("read root's hash: %w", err)
		}
		pin = &p
	}
	registry := telemetry.NewRegistry("fleet")
	f, err := New(Config{
		Gateways: s.Gateways, Ramp: s.Ramp, IdentityDir: s.IdentityDir, ReportEvery: s.ReportEvery, Out: out, Registry: registry, Log: log,
		Client: syncclient.Config{
			Addresses: s.ControlPlane, TrustDomain: s.TrustDomain, JoinToken: s.JoinToken.Reveal(), RootPin: pin,
			ServiceAccountTokenFile: s.ServiceAccountTokenFile, Group: s.Group,
			Labels: labels, Version: telemetry.Version(), PolicyTypes: policyTypes(), Contract: contract.Current(),
		},
	})
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.StatusListen)
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	return run.Group(ctx, f.Run, rest.Collect, func(ctx context.Context) error {
		return telemetry.ServeStatus(ctx, l, telemetry.StatusHandler(registry, nil, f.Ready))
	})
}

// events writes lines in order without making who tells wait for who reads.
type events struct {
	out    io.Writer
	signal chan struct{}
	queue  queue
}

func newEvents(out io.Writer) *events { return &events{out: out, signal: make(chan struct{}, 1)} }

func (e *events) add(event any) {
	e.queue.put(event)
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

func (e *events) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.signal:
			e.flush()
		}
	}
}

func (e *events) flush() {
	enc := json.NewEncoder(e.out)
	for _, event := range e.queue.take() {
		_ = enc.Encode(event) //nolint:errchkjson // who reads may have gone; the metrics are still there
	}
}
