package secretsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/settings"
)

// maxValue bounds what is read for one reference.
const maxValue = 256 << 10

// files are those below a folder.
type files struct{ root string }

func newFiles(root string) (*files, error) {
	if !filepath.IsAbs(root) || filepath.Clean(root) != root || root == "/" {
		return nil, errors.New("needs a folder, absolute and not /: file:/ROOT")
	}
	return &files{root}, nil
}

func (f *files) check(r secret.Reference) string {
	switch {
	case r.Field != "":
		return "has a #field; a file is taken whole"
	case !fs.ValidPath(r.Path) || r.Path == "." || strings.ContainsRune(r.Path, '\\'):
		return secretplace.Outside
	}
	return ""
}

// read follows links only as long as they stay below the folder. The folder is opened each time: it may be mounted anew.
func (f *files) read(_ context.Context, q question) (string, error) {
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errDown, err)
	}
	defer func() { _ = root.Close() }() // nothing was written
	// Without blocking: a pipe would wait for somebody who writes.
	file, err := root.OpenFile(q.reference.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errNothing
	case err != nil:
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(file, maxValue+1))
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// variables are those of the environment whose names have a prefix.
type variables struct {
	prefix string
	lookup settings.Lookup
}

var (
	prefixForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*_$`)
	variableForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
)

// own is how the variables of our own settings begin, the key-encryption key among them.
const own = settings.Prefix

func newVariables(prefix string, lookup settings.Lookup) (*variables, error) {
	if !prefixForm.MatchString(prefix) {
		return nil, errors.New("needs how the names of its variables begin, with an underscore at the end: env:PREFIX_")
	}
	if strings.HasPrefix(strings.ToUpper(prefix), own) {
		return nil, errors.New("would give away the settings of the control plane: its variables begin with " + own)
	}
	return &variables{prefix, lookup}, nil
}

func (v *variables) check(r secret.Reference) string {
	switch {
	case r.Field != "":
		return "has a #field; a variable is taken whole"
	case !variableForm.MatchString(r.Path) || !strings.HasPrefix(r.Path, v.prefix) || len(r.Path) == len(v.prefix):
		return "is not a variable that the provider gives: their names begin with " + v.prefix
	}
	return ""
}

func (v *variables) read(_ context.Context, q question) (string, error) {
	text, ok := v.lookup(q.reference.Path)
	if !ok || text == "" {
		return "", errNothing
	}
	return text, nil
}
