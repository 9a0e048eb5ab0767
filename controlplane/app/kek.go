package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/kek/uri"
	"keyward.dev/shared/run"
	"keyward.dev/shared/settings"
)

// KEK says where the keys are that wrap keyrings. The current one is a file, which may hold raw bytes, the variable
// KEYWARD_KEK, or what a URI names.
type KEK struct {
	File string
	URI  string
	// KeysFile lists the current key and retired ones instead, the newest first.
	KeysFile string
	// Retired and Next are URIs of keys that only unwrap.
	Retired []string
	Next    []string
	// Lookup finds environment variables; nil: os.LookupEnv.
	Lookup settings.Lookup
}

// Flags declares the settings.
func (k *KEK) Flags(fs *flag.FlagSet) {
	fs.StringVar(&k.File, "kek-file", "", "`file` with the key-encryption key: 32 bytes, raw, hexadecimal or base64; or its text in KEYWARD_KEK. Losing it loses the configuration")
	fs.StringVar(&k.URI, "kek-uri", "", "where the key-encryption key is instead, as a `URI`: file:PATH, env:VARIABLE, vault:https://HOST:PORT/MOUNT/KEY?auth=…, awskms:ARN")
	fs.StringVar(&k.KeysFile, "kek-keys-file", "", "`file` with several key-encryption keys instead, one a line, the newest first: the first is the current one, the others are retired. 32 characters, or 32 bytes in hexadecimal or base64")
	settings.ListVar(fs, &k.Retired, "kek-retired", nil, "`URIs` of keys that were the key-encryption key before: what they wrap is opened, and wrapped with the current one")
	settings.ListVar(fs, &k.Next, "kek-next", nil, "`URIs` of keys of which one will be the key-encryption key: what they wrap is opened, and left as it is")
}

// Check names what is missing.
func (k *KEK) Check(faults *settings.Faults) {
	if _, err := k.open(); err != nil {
		faults.Add("kek-file", err)
	}
}

// given says whether a current key is named at all.
func (k *KEK) given() bool {
	text, _ := k.lookup()(settings.Env("kek"))
	return k.File != "" || k.URI != "" || text != ""
}

func (k *KEK) lookup() settings.Lookup {
	if k.Lookup != nil {
		return k.Lookup
	}
	return os.LookupEnv
}

// openKeys are the keys, and what has to run while they are used.
type openKeys struct {
	kek.Keys
	tasks []func(ctx context.Context, log *slog.Logger) error
}

func (o *openKeys) run(ctx context.Context, log *slog.Logger) error {
	var tasks []run.Task
	for _, task := range o.tasks {
		tasks = append(tasks, func(ctx context.Context) error { return task(ctx, log) })
	}
	return run.Group(ctx, tasks...)
}

// open reads the keys that are here; Vault and KMS are not asked yet.
func (k *KEK) open() (*openKeys, error) {
	o, lookup := &openKeys{}, k.lookup()
	var err error
	if o.Current, err = k.current(lookup, o); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		flag string
		uris []string
		keys *[]kek.Wrapper
	}{{"kek-retired", k.Retired, &o.Retired}, {"kek-next", k.Next, &o.Next}} {
		for i, text := range list.uris {
			w, err := o.openURI(text, lookup)
			if err != nil {
				return nil, fmt.Errorf("--%s, number %d: %w", list.flag, i+1, err)
			}
			*list.keys = append(*list.keys, w)
		}
	}
	return o, o.Check()
}

func (k *KEK) current(lookup settings.Lookup, o *openKeys) (kek.Wrapper, error) {
	text, _ := lookup(settings.Env("kek"))
	switch {
	case k.File != "" && text != "":
		return nil, errors.New("given in a file and in KEYWARD_KEK, which of the two is meant?")
	case k.KeysFile != "" && (k.File != "" || k.URI != "" || text != ""):
		return nil, errors.New("given in --kek-keys-file, too; which of the two is meant?")
	case k.KeysFile != "":
		return o.listed(k.KeysFile)
	case k.URI != "" && (k.File != "" || text != ""):
		return nil, errors.New("given as a URI, too; which of the two is meant?")
	case k.URI != "":
		w, err := o.openURI(k.URI, lookup)
		if err != nil {
			return nil, fmt.Errorf("--kek-uri: %w", err)
		}
		return w, nil
	case k.File != "":
		return file.Open(k.File)
	case text != "":
		return referred(text, lookup)
	default:
		return nil, errors.New("is needed, or --kek-uri, or KEYWARD_KEK; make one with: head -c 32 /dev/urandom | base64")
	}
}

// listed takes the keys of a list: the first is the current one, the others come before those that are retired by URI.
func (o *openKeys) listed(path string) (kek.Wrapper, error) {
	keys, err := file.OpenList(path)
	if err != nil {
		return nil, err
	}
	for _, k := range keys[1:] {
		o.Retired = append(o.Retired, k)
	}
	return keys[0], nil
}

// referred is the key in KEYWARD_KEK, or that to which it refers.
func referred(text string, lookup settings.Lookup) (kek.Wrapper, error) {
	s, err := settings.Refer(text, lookup)
	if err == nil && s.Vault() != "" {
		err = errors.New("refers to a secret of Vault; a key that Vault does not give away is better: --kek-uri vault:…, with its Transit engine")
	}
	if err != nil {
		return nil, fmt.Errorf("KEYWARD_KEK: %w", err)
	}
	k, err := file.Parse([]byte(s.Reveal()))
	if err != nil { // a nil *file.Key must not become a key
		return nil, err
	}
	return k, nil
}

func (o *openKeys) openURI(text string, lookup settings.Lookup) (kek.Wrapper, error) {
	location, err := uri.Parse(text)
	if err != nil {
		return nil, err
	}
	source, err := location.Open(lookup)
	if err != nil {
		return nil, err
	}
	if source.Run != nil {
		o.tasks = append(o.tasks, source.Run)
	}
	return source.Wrapper, nil
}
