package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/shared/bundle"
)

// writePause is the least time between two writes of what was seen: a burst of changes costs one.
const writePause = 5 * time.Second

// seen is the newest configuration this gateway has had, from wherever. It is no secret and not authenticated: whoever can
// write here can take it away as well, and has this gateway anyway.
type seen struct {
	Epoch    uint64 `json:"epoch,string"`
	Revision int64  `json:"revision"`
	// At is when it was known to be the newest.
	At time.Time `json:"at"`
}

// newer says whether a bundle is older than what was seen. Epochs have no order: one that was left behind shows by its time.
func (s seen) newer(h bundle.Header) bool {
	if s.Epoch == h.Epoch {
		return h.Revision < s.Revision
	}
	return s.Epoch != 0 && h.Issued.Before(s.At)
}

func (s *seen) note(set *state.Set, at time.Time) {
	*s = seen{Epoch: set.Epoch, Revision: set.Revision, At: at.UTC()}
}

func loadSeen(path string) (seen, error) {
	var s seen
	if path == "" {
		return s, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read what was seen of fallback bundles (%s): %w", path, err)
	}
	return s, nil
}

// Seen notes a set that the control plane stands behind. It never waits.
func (b *Bundle) Seen(set *state.Set) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen.Epoch == set.Epoch && b.seen.Revision == set.Revision {
		return
	}
	b.seen.note(set, b.cfg.Now())
	b.unseen = nil
	b.save()
}

// save has what was seen written by Run. The caller holds mu.
func (b *Bundle) save() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run writes what was seen until ctx ends, and what is left then.
func (b *Bundle) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			select {
			case <-b.wake:
				b.write()
			default:
			}
			return nil
		case <-b.wake:
		}
		b.write()
		select {
		case <-ctx.Done():
		case <-time.After(writePause):
		}
	}
}

func (b *Bundle) write() {
	if b.cfg.SeenFile == "" {
		return
	}
	b.mu.Lock()
	s := b.seen
	b.mu.Unlock()
	if err := replace(b.cfg.SeenFile, s); err != nil {
		b.cfg.Log.Error("what was seen could not be written; after a restart an older fallback bundle could be taken", "err", err)
	}
}

// replace makes the file hold what was seen, or leaves it as it was.
func replace(path string, s seen) (err error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".bundle-seen-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
