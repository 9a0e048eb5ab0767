// Package cli puts the commands together and runs one. Every command is a package below this one; none knows another.
package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/apply"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/audit"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/bundlekey"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/ca"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/certs"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/credential"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/diff"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/explain"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/export"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/gateways"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/get"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/groups"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/jointoken"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/keyring"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/remove"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/revisions"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/rollback"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/rollout"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/route"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/token"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/version"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/whoami"
	"keyward.dev/controlplane/cmd/keyward/internal/dev"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

const (
	groupResources = "resources"
	groupOperation = "operation"
	groupOther     = "other"
)

// Root makes the whole tree of commands.
func Root(f *factory.Factory) *cobra.Command {
	root := factory.Parent("keyward", "Operate Keyward gateways")
	root.Long = `keyward operates Keyward: it pushes configuration to the control plane, shows what gateways make of it, and runs
everything on one machine for trying it out (keyward dev).

It finds the control plane by KEYWARD_ADDR (https://host:port), KEYWARD_CACERT and KEYWARD_TOKEN. Data goes to stdout,
everything else to stderr. It exits with 0 if all went well, 1 if it failed, 2 if the command line is wrong, 3 if
something was not found and 4 on a conflict with what is stored.`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.AddGroup(
		&cobra.Group{ID: groupResources, Title: "Resources:"},
		&cobra.Group{ID: groupOperation, Title: "Operation:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	add := func(id string, children ...*cobra.Command) {
		for _, c := range children {
			c.GroupID = id
		}
		root.AddCommand(children...)
	}
	add(groupResources, apply.New(f, nil), diff.New(f, nil), get.New(f, nil), remove.New(f, nil), export.New(f, nil),
		explain.New(f, nil), route.New(f), credential.New(f), certs.New(f), revisions.New(f, nil), rollback.New(f, nil))
	add(groupOperation, dev.New(f), gateways.New(f), rollout.New(f), jointoken.New(f), bundlekey.New(f), keyring.New(f), ca.New(f), groups.New(f), token.New(f), audit.New(f))
	add(groupOther, whoami.New(f), version.New(f))
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	f.AddFlags(root)
	root.SetIn(f.IO.In)
	root.SetOut(f.IO.Out)
	root.SetErr(f.IO.Err)
	return root
}

// Main runs one command and answers the exit code.
func Main(ctx context.Context, f *factory.Factory, args []string) int {
	root := Root(f) //nolint:contextcheck // commands get theirs from ExecuteContext
	root.SetArgs(args)
	running := false
	root.PersistentPreRun = func(*cobra.Command, []string) { running = true }
	defer f.Close()
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !running && failure.Code(err) == failure.Failed {
		// Everything that cobra finds wrong before it runs a command is wrong with the command line.
		err = failure.Usagef("%s", strings.TrimSpace(err.Error()))
	}
	if failure.Code(err) == failure.Usage {
		err = failure.DefaultHint(err, "see %s --help", cmd.CommandPath())
	}
	return failure.Report(f.IO.Err, err)
}
