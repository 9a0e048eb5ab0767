package sealedcache

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

const (
	configFile = "config.sealed"
	seenFile   = "config.seen"
	// unfinished is how files are called while they are written.
	unfinished = ".sealed-cache-*"
)

// files are the cache's files. They are only ever replaced as a whole.
type files struct {
	dir string
	// step is told before each step of a write; for tests, which look at what a crash would leave. May be nil.
	step func(name string)
}

func (f files) at(step string) {
	if f.step != nil {
		f.step(step)
	}
}

// tidy removes what a crash has left.
func (f files) tidy() {
	left, _ := filepath.Glob(filepath.Join(f.dir, unfinished))
	for _, name := range left {
		_ = os.Remove(name)
	}
}

// replace makes the file hold what write writes, durably, or leaves it as it was.
func (f files) replace(name string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	f.at("create " + name)
	tmp, err := os.CreateTemp(f.dir, unfinished) // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	f.at("write " + name)
	err = write(tmp)
	f.at("sync " + name)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	f.at("rename " + name)
	if err = os.Rename(tmp.Name(), filepath.Join(f.dir, name)); err != nil {
		return err
	}
	f.at("sync directory of " + name)
	return f.syncDir()
}

// syncDir makes a rename last.
func (f files) syncDir() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// open opens a file for reading.
func (f files) open(name string) (*os.File, error) {
	return os.Open(filepath.Join(f.dir, name))
}
