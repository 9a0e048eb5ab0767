package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/kek/uri"
	"keyward.dev/controlplane/internal/vaultkv"
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
	fs.StringVar(&k.URI, "kek-uri", "", "where the key-encryption key is instead, as a `URI`: file:PATH, env:VARIABLE, vault:https://HOST:PORT/MOUNT/KEY?auth=…, vaultkv:https://HOST:PORT/MOUNT/PATH?auth=…#FIELD, awskms:ARN")
	fs.StringVar(&k.KeysFile, "kek-keys-file", "", "`file` with several key-encryption keys instead, one a line, the newest first: the first is the current one, the others are retired; or its text in KEYWARD_KEK_KEYS. 32 characters, or 32 bytes in hexadecimal or base64")
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
	return k.File != "" || k.URI != "" || k.KeysFile != "" || k.variable("kek") != "" || k.variable("kek-keys") != ""
}

// variable is what stands in the variable of a setting.
func (k *KEK) variable(name string) string {
	if text, ok := k.lookup()(settings.Env(name)); ok {
		return text
	}
	return ""
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
	// pending ask for keys that are kept elsewhere, the last one first. Until they did, Keys has gaps.
	pending []func(ctx context.Context) error
}

func (o *openKeys) run(ctx context.Context, log *slog.Logger) error {
	var tasks []run.Task
	for _, task := range o.tasks {
		tasks = append(tasks, func(ctx context.Context) error { return task(ctx, log) })
	}
	return run.Group(ctx, tasks...)
}

// opened are the keys, also those for which Vault has to be asked.
func (k *KEK) opened(ctx context.Context) (*openKeys, error) {
	o, err := k.open()
	if err != nil {
		return nil, err
	}
	return o, o.ask(ctx)
}

// open reads the keys that are here; Vault and KMS are not asked yet. Before ask did, the keys cannot be used.
func (k *KEK) open() (*openKeys, error) {
	o, lookup := &openKeys{}, k.lookup()
	if err := k.current(lookup, o); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		flag string
		uris []string
		keys *[]kek.Wrapper
	}{{"kek-retired", k.Retired, &o.Retired}, {"kek-next", k.Next, &o.Next}} {
		for i, text := range list.uris {
			at := len(*list.keys)
			*list.keys = append(*list.keys, nil)
			if err := o.openURI(text, lookup, func(w kek.Wrapper) { (*list.keys)[at] = w }); err != nil {
				return nil, fmt.Errorf("--%s, number %d: %w", list.flag, i+1, err)
			}
		}
	}
	if len(o.pending) > 0 { // whether one is there twice is to be seen
		return o, nil
	}
	return o, o.Check()
}

func (k *KEK) current(lookup settings.Lookup, o *openKeys) error {
	text, list := k.variable("kek"), k.variable("kek-keys")
	switch {
	case k.File != "" && text != "":
		return errors.New("given in a file and in KEYWARD_KEK, which of the two is meant?")
	case k.KeysFile != "" && list != "":
		return errors.New("given in --kek-keys-file and in KEYWARD_KEK_KEYS, which of the two is meant?")
	case (k.KeysFile != "" || list != "") && (k.File != "" || k.URI != "" || text != ""):
		return errors.New("given in a list of keys, too; which of the two is meant?")
	case k.URI != "" && (k.File != "" || text != ""):
		return errors.New("given as a URI, too; which of the two is meant?")
	case k.KeysFile != "":
		keys, err := file.OpenList(k.KeysFile)
		return o.listed(keys, err)
	case list != "":
		return o.referred("KEYWARD_KEK_KEYS", list, lookup, func(text string) error { return o.listed(file.ParseList([]byte(text))) })
	case k.URI != "":
		if err := o.openURI(k.URI, lookup, o.is); err != nil {
			return fmt.Errorf("--kek-uri: %w", err)
		}
		return nil
	case k.File != "":
		return o.one(file.Open(k.File))
	case text != "":
		return o.referred("KEYWARD_KEK", text, lookup, func(text string) error { return o.one(file.Parse([]byte(text))) })
	default:
		return errors.New("is needed, or --kek-uri, or KEYWARD_KEK; make one with: head -c 32 /dev/urandom | base64")
	}
}

// is takes the current key.
func (o *openKeys) is(w kek.Wrapper) { o.Current = w }

func (o *openKeys) one(k *file.Key, err error) error {
	if err != nil { // a nil *file.Key must not become a key
		return err
	}
	o.Current = k
	return nil
}

// listed takes the keys of a list: the first is the current one, the others come before those that are retired by URI.
func (o *openKeys) listed(keys []*file.Key, err error) error {
	if err != nil {
		return err
	}
	var retired []kek.Wrapper
	for _, k := range keys[1:] {
		retired = append(retired, k)
	}
	o.Current, o.Retired = keys[0], append(retired, o.Retired...)
	return nil
}

// referred takes what is in a variable, or that to which it refers.
func (o *openKeys) referred(name, text string, lookup settings.Lookup, take func(text string) error) error {
	s, err := settings.Refer(text, lookup)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s.Vault() == "" {
		return take(s.Reveal())
	}
	kept, err := vaultkv.Open(s.Vault(), lookup)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	o.later(name, kept, take)
	return nil
}

// later asks Vault for a key, or for several, when it is time.
func (o *openKeys) later(name string, kept *vaultkv.Secret, take func(text string) error) {
	o.pending = append(o.pending, func(ctx context.Context) error {
		text, err := kept.Read(ctx)
		if errors.Is(err, vaultkv.ErrDown) {
			err = fmt.Errorf("%w: %w", kek.ErrUnavailable, err)
		}
		if err == nil {
			err = take(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// ask asks for the keys that are kept elsewhere. After an error it can be called again.
func (o *openKeys) ask(ctx context.Context) error {
	for i, pending := range slices.Backward(o.pending) {
		if err := pending(ctx); err != nil {
			return err
		}
		o.pending = o.pending[:i]
	}
	return o.Check()
}

func (o *openKeys) openURI(text string, lookup settings.Lookup, take func(w kek.Wrapper)) error {
	location, err := uri.Parse(text)
	if err != nil {
		return err
	}
	source, err := location.Open(lookup)
	if err != nil {
		return err
	}
	if source.Run != nil {
		o.tasks = append(o.tasks, source.Run)
	}
	if source.Kept != nil {
		o.later("the key-encryption key", source.Kept, func(text string) error {
			k, err := file.Parse([]byte(text))
			if err == nil {
				take(k)
			}
			return err
		})
		return nil
	}
	take(source.Wrapper)
	return nil
}
