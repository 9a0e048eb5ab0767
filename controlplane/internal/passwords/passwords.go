// Package passwords turns passwords that come in the clear into the hashes that are kept. That takes some tenths of a second
// each, so the write path calls it before any lock, and no more than half of the processors do it at a time, whoever asks:
// ten thousand passwords in one file take minutes, and nobody else waits for them. It decides nothing: what cannot be a
// password it leaves as it is, for admission to refuse.
package passwords

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/shared/password"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// Hasher hashes passwords, a few at a time. It is safe for concurrent use.
type Hasher struct {
	slots chan struct{}
}

// New returns a Hasher that keeps that many processors busy at most; 0: half of those there are.
func New(processors int) *Hasher {
	if processors <= 0 {
		processors = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &Hasher{slots: make(chan struct{}, processors)}
}

// Stored returns the message of a stored credential by its name, nil if there is none.
type Stored func(name string) proto.Message

// job is a password to be hashed, and where that goes.
type job struct {
	change int
	id     string // of the field
	plain  string
	hash   string
}

// Find returns what is to be hashed in the changes; Replace does it.
func Find(changes []admission.Change) *Work {
	w := &Work{changes: changes}
	for i, c := range changes {
		if c.Op == admission.OpDelete || c.Restored {
			continue
		}
		if _, ok := c.Message.(*configv1.Credential); !ok {
			continue
		}
		// A configuration that cannot be read is refused by admission, with its place.
		_ = secret.Walk(c.Message, func(f secret.Field) {
			plain := f.Get().GetPlaintext()
			if f.Storage == optionsv1.Storage_STORAGE_PASSWORD_HASH && password.Check(plain) == "" {
				w.jobs = append(w.jobs, &job{change: i, id: f.ID, plain: plain})
			}
		})
	}
	return w
}

// Work are the passwords in a list of changes.
type Work struct {
	changes []admission.Change
	jobs    []*job
}

// Empty says that there are none.
func (w *Work) Empty() bool { return len(w.jobs) == 0 }

// Replace hashes the passwords and puts changes with the hashes in the places of those that have them; messages that were given
// are not changed. A password that is stored already keeps its hash, so that writing a file again changes nothing.
func (h *Hasher) Replace(ctx context.Context, w *Work, stored Stored) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	next := make(chan *job)
	for range min(cap(h.slots), len(w.jobs)) {
		running.Go(func() {
			for j := range next {
				if err := h.hash(ctx, j, storedHash(stored(nameOf(w.changes[j.change])), j.id)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, j := range w.jobs {
		select {
		case next <- j:
		case <-ctx.Done():
		}
	}
	close(next)
	running.Wait()
	if ctx.Err() != nil {
		return problem.Wrap(problem.Unavailable, "the passwords could not be hashed in time; nothing was stored", context.Cause(ctx))
	}
	return w.put()
}

// hash waits for its turn among all that are hashed in this process.
func (h *Hasher) hash(ctx context.Context, j *job, old string) error {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil
	}
	if was, err := password.Parse(old); err == nil && was.Verify([]byte(j.plain), nil) {
		j.hash = old
		return nil
	}
	made, err := password.New(j.plain)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	j.hash = made.String()
	return nil
}

func nameOf(c admission.Change) string {
	m, _ := c.Message.(*configv1.Credential)
	return m.GetConsumer() + "/" + m.GetName()
}

// storedHash returns the hash that is stored in a field, empty if there is none.
func storedHash(m proto.Message, id string) (text string) {
	if m == nil {
		return ""
	}
	_ = secret.Walk(m, func(f secret.Field) { // what cannot be read has no hash
		if f.ID == id {
			text = f.Get().GetPasswordHash().GetText()
		}
	})
	return text
}

// put exchanges the passwords for their hashes.
func (w *Work) put() error {
	byField := map[int]map[string]string{}
	for _, j := range w.jobs {
		if byField[j.change] == nil {
			byField[j.change] = map[string]string{}
		}
		byField[j.change][j.id] = j.hash
	}
	for i, hashes := range byField {
		m := proto.Clone(w.changes[i].Message)
		err := secret.Walk(m, func(f secret.Field) {
			if text := hashes[f.ID]; text != "" {
				f.Set(&configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: text}}})
			}
		})
		if err != nil {
			return fmt.Errorf("put hashes of passwords: %w", err)
		}
		w.changes[i].Message = m
	}
	return nil
}
