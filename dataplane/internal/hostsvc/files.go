package hostsvc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxFile bounds what is read of a file that configuration names.
const maxFile = 1 << 20

// ErrOutside is wrapped by the error about a file that configuration may not name.
var ErrOutside = errors.New("not below a directory that configuration may read")

// Files are the files of this machine that configuration may name: those below certain directories. Symbolic links count
// as what they lead to and so cannot lead out of their directory. The directories themselves may be replaced while the
// process runs. Without any no file can be read.
type Files struct {
	roots []string
}

// NewFiles returns the files below the given directories.
func NewFiles(roots []string) (*Files, error) {
	f := &Files{}
	for _, r := range roots {
		if !filepath.IsAbs(r) {
			return nil, fmt.Errorf("directory %q is not an absolute path", r)
		}
		f.roots = append(f.roots, filepath.Clean(r))
	}
	return f, nil
}

// Read returns the content of a file, given by its absolute path.
func (f *Files) Read(path string) ([]byte, error) {
	file, _, err := f.open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read file: %s has more than %d bytes", path, maxFile)
	}
	return b, nil
}

// Stamp returns something that changes when the file does; a file that cannot be read has one too.
func (f *Files) Stamp(path string) string {
	file, info, err := f.open(path)
	if err != nil {
		return "none"
	}
	file.Close()
	return fmt.Sprintf("%d.%d", info.ModTime().UnixNano(), info.Size())
}

// open opens a regular file. Not to wait is for what turns out to be none: opening a pipe would wait for its other end.
func (f *Files) open(path string) (*os.File, os.FileInfo, error) {
	dir, name, ok := f.find(path)
	if !ok {
		return nil, nil, fmt.Errorf("open %q: %w", path, ErrOutside)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open file below %s: %w", dir, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// find splits a path into the directory that allows it, the narrowest, and the name below it.
func (f *Files) find(path string) (dir, name string, ok bool) {
	if !filepath.IsAbs(path) {
		return "", "", false
	}
	path = filepath.Clean(path)
	for _, r := range f.roots {
		rel, below := strings.CutPrefix(path, strings.TrimSuffix(r, string(filepath.Separator))+string(filepath.Separator))
		if below && rel != "" && (!ok || len(r) > len(dir)) {
			dir, name, ok = r, rel, true
		}
	}
	return dir, name, ok
}
