package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// replaceFile makes the file hold what fill writes, for its owner only, or leaves it as it was: it is exchanged when the new
// one is whole and on the disk.
func replaceFile(path string, fill func(out io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keyward-backup-*") // of mode 0600
	if err != nil {
		return err
	}
	err = fill(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the name last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
