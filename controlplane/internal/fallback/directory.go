package fallback

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"keyward.dev/shared/bundle"
)

// unfinished is how files are called while they are written.
const unfinished = ".bundle-*"

// Directory is a place in the file system, such as one that a web server or a volume offers to gateways.
type Directory string

// Read implements Place.
func (d Directory) Read(_ context.Context, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bundle.MaxSize))
}

// Replace implements Place. The file can be read by all: what is in it is sealed.
func (d Directory) Replace(_ context.Context, name string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(string(d), unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	err = write(tmp)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(string(d), name)); err != nil {
		return err
	}
	return d.sync()
}

// sync makes a rename last.
func (d Directory) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
