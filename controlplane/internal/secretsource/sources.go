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

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/settings"
)

// maxValue bounds what is read for one reference.
const maxValue = 256 << 10

const outside = "leads out of what the provider gives: a path has neither .. nor empty parts, nor does it begin or end with a slash"

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
		return outside
	}
	return ""
}

// read follows links only as long as they stay below the folder. The folder is opened each time: it may be mounted anew.
func (f *files) read(_ context.Context, r secret.Reference) (string, error) {
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errDown, err)
	}
	defer func() { _ = root.Close() }() // nothing was written
	// Without blocking: a pipe would wait for somebody who writes.
	file, err := root.OpenFile(r.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
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

func (v *variables) read(_ context.Context, r secret.Reference) (string, error) {
	text, ok := v.lookup(r.Path)
	if !ok || text == "" {
		return "", errNothing
	}
	return text, nil
}

// vault is a KV engine, or what is below a path in it.
type vault struct {
	client *vaultclient.Client
	// base is the mount, with what version 2 puts behind it, and the path that a reference cannot leave.
	base   string
	nested bool
}

var (
	vaultPath  = regexp.MustCompile(`^[A-Za-z0-9._@:+=,/-]+$`)
	vaultField = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)
)

func (p *Provider) openVault(place string, lookup settings.Lookup) (vaulturi.Values, error) {
	location, err := vaulturi.Parse(place)
	switch {
	case errors.Is(err, vaulturi.ErrForm):
		return nil, errForm
	case err != nil:
		return nil, err
	}
	v := &vault{base: location.Path}
	switch location.Rest.Take("kv") {
	case "", "2":
		v.base, v.nested = v.base+"/data", true
	case "1":
	default:
		return nil, errors.New("kv must be 1 or 2, the version of the KV engine")
	}
	if prefix := location.Rest.Take("prefix"); prefix != "" {
		if !fs.ValidPath(prefix) || prefix == "." || !vaultPath.MatchString(prefix) {
			return nil, errors.New("prefix must be a path without slashes at its ends")
		}
		v.base += "/" + prefix
	}
	if v.client, err = location.Open(lookup); err != nil {
		return nil, err
	}
	p.source, p.run = v, v.client.Run
	return location.Rest, nil
}

func (v *vault) check(r secret.Reference) string {
	switch {
	case !fs.ValidPath(r.Path) || r.Path == ".":
		return outside
	case !vaultPath.MatchString(r.Path):
		return "has characters in its path other than letters, digits and . _ @ : + = , - /"
	case !vaultField.MatchString(r.Field):
		return "needs a #field of letters, digits and . _ @ -: a secret of Vault has several"
	}
	return ""
}

func (v *vault) read(ctx context.Context, r secret.Reference) (string, error) {
	data, err := v.client.Read(ctx, v.base+"/"+r.Path)
	for _, down := range []error{vaultclient.ErrUnreachable, vaultclient.ErrSealed, vaultclient.ErrNoLogin, vaultclient.ErrFailed} {
		if errors.Is(err, down) {
			return "", fmt.Errorf("%w: %w", errDown, err)
		}
	}
	switch {
	case errors.Is(err, vaultclient.ErrNotFound):
		return "", errNothing
	case err != nil:
		return "", err
	}
	if v.nested {
		data, _ = data["data"].(map[string]any) // nil for a version that was deleted
	}
	value, ok := data[r.Field]
	if !ok || value == nil {
		return "", errNothing
	}
	text, ok := value.(string)
	if !ok {
		return "", errors.New("it is not a string")
	}
	return text, nil
}
