// Package vaultlease holds what HashiCorp Vault makes for one reader and for a time: a login to a database. It is made once for
// all fields that are asked for, renewed, exchanged for another one before Vault ends it, and given back in the end. It is for
// the control plane's own settings; what tenants refer to is not its business.
package vaultlease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/run"
	"keyward.dev/shared/settings"
)

var (
	// ErrDown says that Vault did not answer, or cannot now: waiting may help.
	ErrDown = errors.New("vault cannot be asked now")
	// ErrForm says that a text names nothing that Vault makes.
	ErrForm = errors.New("is not of the form {vault://HOST:PORT/MOUNT/creds/ROLE?engine=database&…#FIELD}")
	errNone = errors.New("there is nothing, or nothing that is text")
)

// Held is something that Vault makes, or has made. It is safe for concurrent use.
type Held struct {
	client     *vaultclient.Client
	path, name string

	// asking is held while Vault is asked: what it makes for one is for all who wait.
	asking sync.Mutex
	now    atomic.Pointer[lease] // nil: nothing is held
	// woken has something when there is a lease of which Run does not know.
	woken chan struct{}
}

// lease is never changed.
type lease struct {
	vaultclient.Lease
	first time.Duration // the life that it began with
}

const engine = "database"

var fieldForm = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)

// Split tells a reference to what Vault makes from others: it has the parameter `engine`. What is answered as place is the same for
// all fields of one thing.
func Split(text string) (place, field string, ok bool) {
	place, field, _ = strings.Cut(text, "#")
	_, query, _ := strings.Cut(place, "?")
	parameters, err := vaulturi.ParseValues(query)
	return place, field, err == nil && parameters.Take("engine") != ""
}

// Open reads https://HOST:PORT/MOUNT/creds/ROLE?engine=database&PARAMETERS#FIELD; the field is not kept. Files and variables for
// the login are read now, Vault is not asked yet. Errors do not quote the text.
func Open(text string, lookup settings.Lookup) (*Held, error) {
	place, field, _ := Split(text)
	l, err := vaulturi.Parse(place)
	switch {
	case errors.Is(err, vaulturi.ErrForm) || !fieldForm.MatchString(field):
		return nil, ErrForm
	case err != nil:
		return nil, err
	}
	parts := strings.Split(l.Path, "/")
	if len(parts) < 3 || parts[len(parts)-2] != "creds" {
		return nil, ErrForm
	}
	if l.Rest.Take("engine") != engine {
		return nil, errors.New("engine must be database; without it, the reference is to a KV engine")
	}
	if err := l.Rest.Check(); err != nil {
		return nil, err
	}
	client, err := l.Open(lookup)
	if err != nil {
		return nil, err
	}
	return New(client, l.Path), nil
}

// New holds what is made at a path.
func New(client *vaultclient.Client, path string) *Held {
	return &Held{client: client, path: path, name: "vault:" + path, woken: make(chan struct{}, 1)}
}

// Read answers fields of one lease, the one that is held if there is one. Errors name the path, and never tell a value.
func (h *Held) Read(ctx context.Context, fields ...string) ([]string, error) {
	l, err := h.get(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(fields))
	for i, field := range fields {
		if out[i], _ = l.Data[field].(string); out[i] == "" {
			return nil, fmt.Errorf("%s#%s: %w", h.name, field, errNone)
		}
	}
	return out, nil
}

func (h *Held) valid() *lease {
	if l := h.now.Load(); l != nil && time.Now().Before(l.Ends) {
		return l
	}
	return nil
}

func (h *Held) get(ctx context.Context) (*lease, error) {
	if l := h.valid(); l != nil {
		return l, nil
	}
	h.asking.Lock()
	defer h.asking.Unlock()
	if l := h.valid(); l != nil {
		return l, nil
	}
	if err := h.exchange(ctx); err != nil {
		return nil, err
	}
	select {
	case h.woken <- struct{}{}:
	default:
	}
	return h.now.Load(), nil
}

// Replaced reports whether what is held has another value in a field. It does not wait.
func (h *Held) Replaced(field, value string) bool {
	l := h.now.Load()
	if l == nil {
		return false
	}
	text, ok := l.Data[field].(string)
	return ok && text != value
}

// exchange has something made. What is replaced is left to its end, for those who still use it. With asking held.
func (h *Held) exchange(ctx context.Context) error {
	l, err := h.client.Lease(ctx, h.path)
	if err != nil {
		return h.failure(err)
	}
	h.now.Store(&lease{l, l.Life})
	return nil
}

func (h *Held) failure(err error) error {
	if vaultclient.Down(err) {
		return fmt.Errorf("%s: %w: %w", h.name, ErrDown, err)
	}
	return fmt.Errorf("%s: %w", h.name, err)
}

// Run keeps what is held from ending, and the login that it depends on, until ctx ends.
func (h *Held) Run(ctx context.Context, log *slog.Logger) error {
	return run.Group(ctx,
		func(ctx context.Context) error { return h.client.Run(ctx, log) },
		func(ctx context.Context) error { h.keep(ctx, log); return nil },
	)
}

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

func (h *Held) keep(ctx context.Context, log *slog.Logger) {
	pause, failing := firstPause, false
	due := h.due()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.woken:
			due = h.due()
			continue
		case <-after(due):
		}
		err := h.renew(ctx)
		switch {
		case err == nil:
			due, pause, failing = h.due(), firstPause, false
			continue
		case ctx.Err() != nil:
			return
		case !failing:
			log.WarnContext(ctx, "lease could not be renewed; trying again", "lease", h.name, "err", err)
		}
		failing = true
		due = time.Now().Add(pause)
		pause = min(2*pause, maxPause)
	}
}

// after waits for a moment, and without one for ever.
func after(at time.Time) <-chan time.Time {
	if at.IsZero() {
		return nil
	}
	return time.After(time.Until(at))
}

func (h *Held) due() time.Time {
	l := h.now.Load()
	if l == nil {
		return time.Time{}
	}
	return l.Due()
}

// renew prolongs the lease. Near its longest life, where that adds little, and where Vault does not do it, it is exchanged.
func (h *Held) renew(ctx context.Context) error {
	h.asking.Lock()
	defer h.asking.Unlock()
	had := h.now.Load()
	if had == nil { // it was given back
		return nil
	}
	l, err := h.client.Renew(ctx, had.Lease)
	switch {
	case err == nil && l.Life >= had.first/2:
		h.now.Store(&lease{l, had.first})
		return nil
	case errors.Is(err, vaultclient.ErrUnreachable) || errors.Is(err, vaultclient.ErrSealed):
		return h.failure(err)
	}
	return h.exchange(ctx)
}

// Return gives back what is held, if anything is.
func (h *Held) Return(ctx context.Context) error {
	h.asking.Lock()
	defer h.asking.Unlock()
	had := h.now.Swap(nil)
	if had == nil {
		return nil
	}
	if err := h.client.Revoke(ctx, had.ID); err != nil {
		return h.failure(err)
	}
	return nil
}
