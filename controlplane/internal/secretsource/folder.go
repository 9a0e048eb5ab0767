package secretsource

import (
	"context"
	"errors"
	"time"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
)

// What can become of reading a folder; errors wrap them.
var (
	// ErrDown says that nobody answers, or nobody who can be asked: it holds for everything in the folder.
	ErrDown = errDown
	// ErrNothing says that there is nothing, or nothing any more.
	ErrNothing = errNothing

	errNoFolder = errors.New("the provider gives no folders")
)

// Folder is a folder of a KV engine of Vault, all of which is read, unlike what single references name.
type Folder struct {
	in   folders
	path string
}

// folders is a source that has them. Paths are below what it gives.
type folders interface {
	list(ctx context.Context, path string) ([]string, error)
	entry(ctx context.Context, path string) (Entry, error)
}

// Entry is a secret as it is in the engine.
type Entry struct {
	Data map[string]any
	// Created is when it was written, and Ends when Vault deletes it; zero where the engine does not say so.
	Created, Ends time.Time
}

// Folder finds a folder of a provider that the group of a view may use. It is not read yet.
func (r *Resolver) Folder(view *snapshot.View, provider, path string) (*Folder, error) {
	p, reason := r.cfg.Providers.find(view.Group, r.tenants.of(view), secretplace.InFolder(provider, path))
	if reason != "" {
		return nil, errors.New(reason)
	}
	in, ok := p.source.(folders)
	if !ok {
		return nil, errNoFolder
	}
	return &Folder{in: in, path: path}, nil
}

// List answers the names in the folder; those of folders end with a slash. What is not there has none.
func (f *Folder) List(ctx context.Context) ([]string, error) {
	names, err := f.in.list(ctx, f.path)
	if errors.Is(err, ErrNothing) {
		return nil, nil
	}
	return names, err
}

// Read reads an entry.
func (f *Folder) Read(ctx context.Context, name string) (Entry, error) {
	return f.in.entry(ctx, below(f.path, name))
}

func below(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "/" + name
}

func (v *kv) list(ctx context.Context, path string) ([]string, error) {
	names, err := v.client.List(ctx, below(v.listed, path))
	if err != nil {
		return nil, vaultFailure(err)
	}
	return names, nil
}

func (v *kv) entry(ctx context.Context, path string) (e Entry, err error) {
	data, err := v.client.Read(ctx, below(v.base, path))
	if err != nil {
		return Entry{}, vaultFailure(err)
	}
	if e.Data = data; v.nested {
		e.Data, _ = data["data"].(map[string]any) // nil for a version that was deleted
		about, _ := data["metadata"].(map[string]any)
		e.Created, e.Ends = moment(about["created_time"]), moment(about["deletion_time"])
	}
	if e.Data == nil {
		return Entry{}, errNothing
	}
	return e, nil
}

// moment is a time as Vault writes it; zero if it is none.
func moment(v any) time.Time {
	text, _ := v.(string)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func (t *tended) list(ctx context.Context, path string) ([]string, error) {
	in, ok := t.source.(folders)
	if !ok {
		return nil, errNoFolder
	}
	t.tend(ctx)
	return in.list(ctx, path)
}

func (t *tended) entry(ctx context.Context, path string) (Entry, error) {
	in, ok := t.source.(folders)
	if !ok {
		return Entry{}, errNoFolder
	}
	t.tend(ctx)
	return in.entry(ctx, path)
}

func (c careful) list(ctx context.Context, path string) ([]string, error) {
	in, err := c.folders()
	if err != nil {
		return nil, err
	}
	names, err := in.list(ctx, path)
	if err != nil {
		return nil, discreet(err)
	}
	return names, nil
}

func (c careful) entry(ctx context.Context, path string) (Entry, error) {
	in, err := c.folders()
	if err != nil {
		return Entry{}, err
	}
	e, err := in.entry(ctx, path)
	if err != nil {
		return Entry{}, discreet(err)
	}
	return e, nil
}

func (c careful) folders() (folders, error) {
	in, ok := c.next.(folders)
	switch {
	case c.err != nil:
		return nil, c.err
	case !ok:
		return nil, errNoFolder
	}
	return in, nil
}
