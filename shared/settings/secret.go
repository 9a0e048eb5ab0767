package settings

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// redacted is what a Secret shows wherever it is printed.
const redacted = "[redacted]"

// maxSecretFile bounds what is read from a secret's file.
const maxSecretFile = 64 << 10

// Secret is a setting that never shows itself: whatever prints, logs or marshals it gets a placeholder.
type Secret struct {
	value string
	from  *place // nil: it stands in the setting
}

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the value. Calls to it are the places to look at in a review.
func (s Secret) Reveal() string { return s.value }

// IsSet says whether there is a value at all.
func (s Secret) IsSet() bool { return s.value != "" || s.from != nil }

// String returns a placeholder.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return redacted
}

// GoString returns a placeholder for %#v.
func (s Secret) GoString() string { return s.String() }

// Format covers the verbs that would look past String, such as %d and %x.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.String()) }

// LogValue returns a placeholder for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns a placeholder for JSON, YAML and their like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// SecretVar declares a secret that is given as KEYWARD_<NAME> or in a file named by --<name>-file. The plain flag exists
// only to say so: a command line is open to every user of the machine. The variable may also refer to a file or to another
// variable, as Refer says.
func SecretVar(fs *flag.FlagSet, target *Secret, name, usage string) {
	declareSecret(fs, &secretValue{target: target}, name, usage)
}

// VaultSecretVar is SecretVar for a program that asks Vault for what Secret.Vault says.
func VaultSecretVar(fs *flag.FlagSet, target *Secret, name, usage string) {
	declareSecret(fs, &secretValue{target: target, vault: true}, name, usage)
}

func declareSecret(fs *flag.FlagSet, v *secretValue, name, usage string) {
	fs.Var(v, name, usage)
	fs.StringVar(&v.file, name+"-file", "", "`path` of a file that holds it: "+usage)
}

type secretValue struct {
	target  *Secret
	file    string
	exposed bool
	vault   bool // the program can ask Vault
}

func (v *secretValue) String() string { return "" }

// Set only takes note: the flag package would put the value into the message of an error returned here.
func (v *secretValue) Set(string) error {
	v.exposed = true
	return nil
}

// load takes the value from the one place that names it. The file flag's own variable has to be asked for here, because
// the flags are visited in alphabetical order.
func (v *secretValue) load(name string, lookup Lookup, faults *Faults) {
	value, ok := lookup(Env(name))
	file := v.file
	if file == "" {
		file, _ = lookup(Env(name + "-file"))
	}
	switch {
	case v.exposed:
		faults.Addf(name, "a secret cannot be given on the command line, where other users can read it: use %s or --%s-file", Env(name), name)
	case ok && value != "" && file != "":
		faults.Addf(name, "given in %s and in a file, which of the two is meant?", Env(name))
	case ok && value != "":
		s, err := Refer(value, lookup)
		if err == nil && s.Vault() != "" && !v.vault {
			err = errNoVault
		}
		faults.Add(name, err)
		*v.target = s
	case file != "":
		s, err := (&place{kind: inFile, at: file}).read()
		faults.Add(name+"-file", err)
		*v.target = s
	}
}

// ReadSecret reads a secret from a file and takes one line end off it, which editors and echo leave there.
func ReadSecret(path string) (Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecretFile {
		return Secret{}, fmt.Errorf("read secret: %s is larger than %d bytes", path, maxSecretFile)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return Secret{}, fmt.Errorf("read secret: %s is empty", path)
	}
	return NewSecret(value), nil
}
