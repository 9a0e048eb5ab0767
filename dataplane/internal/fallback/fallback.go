// Package fallback lets a gateway start from the fallback bundle of its group, when there is neither a control plane nor a
// cache of its own: a file that the control plane wrote, wherever it lies. A gateway that never had an identity can do so.
// What bundles look like and what makes one good is shared/bundle; here is where it comes from, and that none is taken that
// is older than what this gateway has had. When a bundle is used decides syncclient.
package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/bundle"
	"keyward.dev/shared/sealedset"
)

// Config is what a Bundle needs.
type Config struct {
	// Source is a path, or an https URL.
	Source string
	// KeyFile has the group's bundle key, SignerFile the installation's public key. They are read at each use.
	KeyFile, SignerFile string
	Group               string
	// SeenFile remembers what this gateway has had; empty: only as long as the process lives.
	SeenFile string
	// Fetch gets what is behind a URL; nil: by HTTPS.
	Fetch    func(ctx context.Context, url string) ([]byte, error)
	Limits   state.Limits
	Now      func() time.Time
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// State is how the bundle does.
type State struct {
	// Serving: the configuration in force is the bundle's, and no control plane has confirmed it since.
	Serving bool
	// Issued is when the bundle was issued that was opened; zero if none was.
	Issued time.Time
	// Refused says why the bundle was not used; empty if it was, or was not asked for.
	Refused sealedset.Reason
}

// Bundle is the fallback bundle of a gateway's group.
type Bundle struct {
	cfg     Config
	metrics *metrics
	// wake holds one signal that what was seen has to be written.
	wake chan struct{}

	mu    sync.Mutex // guards what follows
	state State
	seen  seen
	// unseen is why it is not known what was seen; nil once it is.
	unseen error
}

// New returns a bundle, with what was seen of it before. Nothing else is read before Open.
func New(cfg Config) *Bundle {
	if cfg.Fetch == nil {
		cfg.Fetch = fetch
	}
	b := &Bundle{cfg: cfg, wake: make(chan struct{}, 1)}
	b.seen, b.unseen = loadSeen(cfg.SeenFile)
	b.metrics = newMetrics(cfg.Registry, b.State)
	return b
}

// State returns how the bundle does.
func (b *Bundle) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Serve notes whether the configuration in force is the bundle's, unconfirmed by a control plane.
func (b *Bundle) Serve(fromBundle bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Serving = fromBundle
}

// Open gets the bundle and returns the set in it. A *sealedset.RefusedError says why it is not to be used.
func (b *Bundle) Open(ctx context.Context) (*state.Set, error) {
	set, issued, err := b.open(ctx)
	refused, isRefused := errors.AsType[*sealedset.RefusedError](err)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case isRefused:
		b.metrics.refused.WithLabelValues(string(refused.Reason)).Inc()
		b.state.Refused = refused.Reason
	case err == nil:
		b.state.Refused, b.state.Issued = "", issued
		b.seen.note(set, issued)
		b.save()
	}
	return set, err
}

func (b *Bundle) open(ctx context.Context) (*state.Set, time.Time, error) {
	keys, signer, err := b.keys()
	if err != nil {
		return nil, time.Time{}, refuse(sealedset.Unreadable, "%w", err)
	}
	file, err := b.get(ctx)
	if err != nil {
		return nil, time.Time{}, refuse(sealedset.Unreadable, "%w", err)
	}
	opened, err := bundle.Verify(file, signer)
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := opened.Admit(b.cfg.Group, b.cfg.Now()); err != nil {
		return nil, time.Time{}, err
	}
	if err := b.newEnough(opened.Header); err != nil {
		return nil, time.Time{}, err
	}
	set, err := b.fold(opened, keys)
	return set, opened.Issued, err
}

// keys reads the keys; they may have been exchanged since the last time.
func (b *Bundle) keys() ([]bundle.Key, []byte, error) {
	raw, err := os.ReadFile(b.cfg.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read bundle key: %w", err)
	}
	keys, err := bundle.ParseKeys(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", b.cfg.KeyFile, err)
	}
	if raw, err = os.ReadFile(b.cfg.SignerFile); err != nil {
		return nil, nil, fmt.Errorf("read key of the bundle signer: %w", err)
	}
	signer, err := bundle.ParseSigner(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", b.cfg.SignerFile, err)
	}
	return keys, signer, nil
}

// newEnough holds the bundle against what this gateway has had.
func (b *Bundle) newEnough(h bundle.Header) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unseen != nil {
		return refuse(sealedset.SeenDamaged, "%w", b.unseen)
	}
	if b.seen.newer(h) {
		return refuse(sealedset.OlderThanSeen, "it holds revision %d of %s, this gateway has had a later one", h.Revision, h.Issued.UTC().Format(time.RFC3339))
	}
	return nil
}

func (b *Bundle) fold(opened *bundle.Bundle, keys []bundle.Key) (*state.Set, error) {
	at := state.Kept{Epoch: opened.Epoch, Revision: opened.Revision, Digest: opened.Digest}
	set, err := state.FromFrames(at, b.cfg.Limits, func(fold func(*syncv1.Frame) error) error { return opened.Records(keys, fold) })
	if _, refused := errors.AsType[*sealedset.RefusedError](err); refused || err == nil {
		return set, err
	}
	if errors.Is(err, state.ErrSum) {
		return nil, refuse(sealedset.Digest, "%w", err)
	}
	return nil, refuse(sealedset.Damaged, "%w", err)
}

func refuse(r sealedset.Reason, format string, args ...any) error {
	return sealedset.Refuse("fallback bundle", r, format, args...)
}
