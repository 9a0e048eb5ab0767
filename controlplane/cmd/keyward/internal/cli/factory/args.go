package factory

import (
	"strings"

	"github.com/spf13/cobra"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// Args demands the arguments that the usage line names: `KIND [NAME]` takes one or two. Optional ones stand in brackets;
// a last one with "..." repeats.
func Args(usage string) cobra.PositionalArgs {
	words := strings.Fields(usage)
	least := 0
	for _, w := range words {
		if !strings.HasPrefix(w, "[") {
			least++
		}
	}
	repeats := strings.HasSuffix(strings.TrimSuffix(usage, "]"), "...")
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return failure.Usagef("missing %s", words[len(args)])
		case len(args) > len(words) && !repeats:
			return failure.Usagef("%q is one argument too many", args[len(words)])
		}
		return nil
	}
}

// Parent makes a command that only holds others: without one of them it shows its help and fails.
func Parent(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return failure.Usagef("%s has no command %q", cmd.CommandPath(), args[0])
			}
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return failure.Exit(failure.Usage)
		},
	}
	cmd.AddCommand(children...)
	return cmd
}
