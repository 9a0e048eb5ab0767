// Package settings reads a process' settings: every flag of a flag.FlagSet may also be given as KEYWARD_<NAME> in the
// environment, secrets by environment or file only, and all faults are reported at once. The main packages of both planes
// and the CLI call it. It must not log: what it handles may be secret.
package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Prefix starts the name of every environment variable Keyward reads.
const Prefix = "KEYWARD_"

// Lookup finds an environment variable; os.LookupEnv is one.
type Lookup func(name string) (string, bool)

// Env returns the environment variable that stands for a flag: admin-listen is KEYWARD_ADMIN_LISTEN.
func Env(flagName string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// Parse reads the command line and then the environment into fs, whose error handling must be flag.ContinueOnError. A
// flag on the command line wins over the environment, which wins over the default. An empty variable counts as not set.
//
// It returns flag.ErrHelp, after printing the usage, if help was asked for; else an error that lists every fault.
func Parse(fs *flag.FlagSet, args []string, lookup Lookup) error {
	var faults Faults
	if err := parseArgs(fs, args, &faults); err != nil {
		return err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	complete(fs, func(name string) bool { return given[name] }, lookup, &faults)
	return faults.Err()
}

// Complete does the environment half of Parse for flags that something else has parsed already, such as a cobra command
// that took fs in with AddGoFlagSet. changed says whether a flag was given on the command line.
func Complete(fs *flag.FlagSet, changed func(name string) bool, lookup Lookup) error {
	var faults Faults
	complete(fs, changed, lookup, &faults)
	return faults.Err()
}

// parseArgs goes on behind a bad flag, so that one run shows all of them.
func parseArgs(fs *flag.FlagSet, args []string, faults *Faults) error {
	output := fs.Output()
	fs.SetOutput(io.Discard)
	defer fs.SetOutput(output)
	for {
		err := fs.Parse(args)
		switch {
		case err == nil:
			if rest := fs.Args(); len(rest) > 0 {
				faults.Add("", fmt.Errorf("unexpected argument %q", rest[0]))
			}
			return nil
		case errors.Is(err, flag.ErrHelp):
			fs.SetOutput(output)
			PrintUsage(output, fs)
			return flag.ErrHelp
		}
		faults.Add("", err)
		rest := fs.Args()
		// The value of an unknown flag looks like an argument; what follows it is still worth reading.
		for len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			rest = rest[1:]
		}
		if len(rest) == 0 || len(rest) >= len(args) {
			return nil
		}
		args = rest
	}
}

func complete(fs *flag.FlagSet, changed func(string) bool, lookup Lookup, faults *Faults) {
	fs.VisitAll(func(f *flag.Flag) {
		if s, ok := f.Value.(*secretValue); ok {
			s.load(f.Name, lookup, faults)
			return
		}
		value, ok := lookup(Env(f.Name))
		if !ok || value == "" || changed(f.Name) {
			return
		}
		set := f.Value.Set
		if l, ok := f.Value.(*listValue); ok {
			set = l.replace
		}
		if err := set(value); err != nil {
			faults.Add("", fmt.Errorf("invalid value for %s: %w", Env(f.Name), err))
		}
	})
}

// PrintUsage lists the flags with two dashes, their variables and their defaults.
func PrintUsage(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "Usage of %s; every flag may also be given in the environment:\n", fs.Name())
	fs.VisitAll(func(f *flag.Flag) {
		word, usage := flag.UnquoteUsage(f)
		if _, secret := f.Value.(*secretValue); secret {
			fmt.Fprintf(w, "  %s\n    \t%s; in the environment only, or by --%s-file\n", Env(f.Name), usage, f.Name)
			return
		}
		if word != "" {
			word = " " + word
		}
		fmt.Fprintf(w, "  --%s%s  (%s)\n    \t%s", f.Name, word, Env(f.Name), usage)
		if f.DefValue != "" && f.DefValue != "false" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// Faults collects what is wrong with the settings, so that a process names everything before it refuses to start.
type Faults struct {
	list []error
}

// Add notes a fault of the named flag; nil is no fault. The name may be empty if the error says it all.
func (f *Faults) Add(flagName string, err error) {
	if err == nil {
		return
	}
	if flagName != "" {
		err = fmt.Errorf("--%s (%s): %w", flagName, Env(flagName), err)
	}
	f.list = append(f.list, err)
}

// Addf notes a fault in the given words.
func (f *Faults) Addf(flagName, format string, args ...any) {
	f.Add(flagName, fmt.Errorf(format, args...))
}

// Err returns all faults as one error, one a line, or nil.
func (f *Faults) Err() error { return errors.Join(f.list...) }
