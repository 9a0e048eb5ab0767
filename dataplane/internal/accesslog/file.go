package accesslog

import (
	"fmt"
	"os"
	"sync"
)

// File is a sink that appends to a file and can be told that the file was moved away. What it is given in one Write is in
// one file, whole.
type File struct {
	path string
	mu   sync.Mutex
	f    *os.File // guarded by mu
}

// OpenFile opens the file, making it if needed.
func OpenFile(path string) (*File, error) {
	f, err := openToAppend(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

func openToAppend(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	return f, nil
}

// Write appends to the file.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Write(p)
}

// Reopen opens the path anew and writes there from now on. If that does not work the file stays as it is.
func (f *File) Reopen() error {
	next, err := openToAppend(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	last := f.f
	f.f = next
	f.mu.Unlock()
	if err := last.Close(); err != nil {
		return fmt.Errorf("close the former access log: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}
