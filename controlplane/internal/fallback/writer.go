package fallback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"time"

	"keyward.dev/shared/bundle"
	"keyward.dev/shared/sealedset"
)

// Set is what a group's gateways may all run.
type Set struct {
	Epoch    uint64
	Revision int64
	Digest   [32]byte
	Records  iter.Seq[sealedset.Record]
}

// Stamp tells whether a set is another one.
type Stamp struct {
	Group    string
	Epoch    uint64
	Revision int64
}

// Sets gives the groups' sets.
type Sets interface {
	// Stamps says where every group stands, without opening any.
	Stamps(ctx context.Context) ([]Stamp, error)
	// Set opens the group.
	Set(ctx context.Context, group string) (Set, error)
}

// Place keeps the files of bundles.
type Place interface {
	// Read returns a file; fs.ErrNotExist if there is none.
	Read(ctx context.Context, name string) ([]byte, error)
	// Replace makes the file hold what write writes, or leaves it as it was.
	Replace(ctx context.Context, name string, write func(io.Writer) error) error
}

// Config is what a Writer needs.
type Config struct {
	Keys  *Keys
	Sets  Sets
	Place Place
	// TTL is how long a bundle is good.
	TTL time.Duration
	Now func() time.Time
	Log *slog.Logger
}

// Writer writes bundles.
type Writer struct{ cfg Config }

// NewWriter returns a writer.
func NewWriter(cfg Config) *Writer { return &Writer{cfg} }

// Name is the name of a group's file.
func Name(group string) string { return group + ".bundle" }

// Run writes the bundle of every group for which there is something to say: another configuration, another key, or half of
// its time is over. A group that fails keeps no other from its bundle.
func (w *Writer) Run(ctx context.Context) error {
	signer, err := w.cfg.Keys.signer(ctx)
	if err != nil {
		return fmt.Errorf("write fallback bundles: %w", err)
	}
	stamps, err := w.cfg.Sets.Stamps(ctx)
	if err != nil {
		return fmt.Errorf("write fallback bundles: %w", err)
	}
	var errs []error
	for _, s := range stamps {
		if err := w.group(ctx, signer, s); err != nil {
			errs = append(errs, fmt.Errorf("write fallback bundle of group %s: %w", s.Group, err))
		}
	}
	return errors.Join(errs...)
}

func (w *Writer) group(ctx context.Context, signer bundle.Signer, s Stamp) error {
	key, err := w.cfg.Keys.key(ctx, s.Group)
	if err != nil {
		return err
	}
	have, err := w.have(ctx, signer, s.Group)
	if err != nil {
		return err
	}
	if have != nil && have.KeyVersion > key.Version {
		// Sealing to an older key again would open the bundle to gateways that were revoked.
		return fmt.Errorf("the bundle that is there is sealed to version %d of the key, the database has %d: it was rewound; rotate the key", have.KeyVersion, key.Version)
	}
	if have != nil && have.SealedTo(key) && w.fresh(have, s) {
		return nil
	}
	set, err := w.cfg.Sets.Set(ctx, s.Group)
	if err != nil {
		return err
	}
	now := w.cfg.Now()
	h := bundle.Header{
		Epoch: set.Epoch, Revision: set.Revision, Digest: set.Digest, Issued: now, Expires: now.Add(w.cfg.TTL),
	}
	err = w.cfg.Place.Replace(ctx, Name(s.Group), func(out io.Writer) error {
		return bundle.Write(out, h, key, signer, set.Records)
	})
	if err != nil {
		return err
	}
	w.cfg.Log.InfoContext(ctx, "fallback bundle written", "group", s.Group, "revision", set.Revision, "key_version", key.Version)
	return nil
}

// have answers the bundle that is there; nil if there is none that gateways would take.
func (w *Writer) have(ctx context.Context, signer bundle.Signer, group string) (*bundle.Bundle, error) {
	file, err := w.cfg.Place.Read(ctx, Name(group))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no bundle is an answer
	}
	if err != nil {
		return nil, err
	}
	b, err := bundle.Verify(file, signer.Public())
	if err == nil && b.Group != group {
		err = fmt.Errorf("it is of group %q", b.Group)
	}
	if err != nil {
		w.cfg.Log.WarnContext(ctx, "the fallback bundle that is there is not ours; writing it anew", "group", group, "err", err)
		return nil, nil //nolint:nilnil // the same as none
	}
	return b, nil
}

// fresh says whether the bundle still tells what there is to tell.
func (w *Writer) fresh(b *bundle.Bundle, s Stamp) bool {
	now := w.cfg.Now()
	same := b.Epoch == s.Epoch && b.Revision == s.Revision
	return same && b.Expires.Sub(now) > w.cfg.TTL/2 && !b.Expires.After(now.Add(w.cfg.TTL))
}
