package cli_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyward.dev/controlplane/cmd/keyward/internal/cli"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// reference is the page that is made from the commands themselves.
const reference = "../../../../../docs/cli.md"

// TestReference keeps docs/cli.md as the commands are; -update rewrites it.
func TestReference(t *testing.T) {
	t.Parallel()
	io, _, _ := terminal.Buffers("")
	root := cli.Root(&factory.Factory{IO: io, Getenv: func(string) string { return "" }})
	var b strings.Builder
	b.WriteString("# The keyward command\n\n")
	b.WriteString("Generated from the commands by `go test ./cmd/keyward/internal/cli -update`, in controlplane; do not edit.\n\n")
	fmt.Fprintf(&b, "%s\n\n", root.Long)
	b.WriteString("Flags of every command:\n\n")
	flags(&b, root.PersistentFlags())
	for _, c := range root.Commands() {
		page(&b, c, 2)
	}
	if *update {
		writeFile(t, reference, b.String())
		return
	}
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), b.String()); diff != "" {
		t.Errorf("docs/cli.md is not what the commands say; run the test with -update (-page +commands):\n%s", diff)
	}
}

// page writes a command and those below it.
func page(b *strings.Builder, c *cobra.Command, level int) {
	if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
		return
	}
	use := c.CommandPath() + strings.TrimPrefix(c.Use, c.Name())
	fmt.Fprintf(b, "\n%s `%s`\n\n", strings.Repeat("#", level), use)
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "%s\n", strings.TrimSpace(text))
	if c.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", dedent(c.Example))
	}
	if c.LocalNonPersistentFlags().HasAvailableFlags() {
		b.WriteString("\n")
		flags(b, c.LocalNonPersistentFlags())
	}
	for _, child := range c.Commands() {
		page(b, child, level+1)
	}
}

func flags(b *strings.Builder, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		if value != "" {
			name += " " + value
		}
		fmt.Fprintf(b, "- `%s`: %s", name, usage)
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
			fmt.Fprintf(b, " (default `%s`)", d)
		}
		b.WriteString("\n")
	})
}

func dedent(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}
