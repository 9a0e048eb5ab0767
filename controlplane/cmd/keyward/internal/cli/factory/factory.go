// Package factory carries what every command needs: streams, environment, clock, and the connection that the global flags
// describe. Commands get a *Factory when they are built and use it when they run; it knows no command.
package factory

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
	"keyward.dev/shared/catalog"
)

// Factory is shared by all commands of one run.
type Factory struct {
	IO     *terminal.Streams
	Getenv func(string) string
	Now    func() time.Time
	// Dial opens the connection; client.Dial outside tests.
	Dial func(client.Target) (*grpc.ClientConn, error)
	// LeaveInterrupt is set while Ctrl-C is for a program that runs in the same terminal.
	LeaveInterrupt atomic.Bool

	flags struct {
		addr, cacert, tokenFile, group, output string
	}
	conn    *grpc.ClientConn
	catalog *catalog.Catalog
}

// AddFlags puts the global flags on the root command.
func (f *Factory) AddFlags(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.StringVar(&f.flags.addr, "addr", "", "control plane, https://host:port (KEYWARD_ADDR)")
	fs.StringVar(&f.flags.cacert, "cacert", "", "PEM file of the authorities that sign its certificate (KEYWARD_CACERT)")
	fs.StringVar(&f.flags.tokenFile, "token-file", "", "file with the bearer token (else KEYWARD_TOKEN)")
	fs.StringVarP(&f.flags.group, "group", "g", "", "gateway group (KEYWARD_GROUP, else default)")
	fs.StringVarP(&f.flags.output, "output", "o", "", "table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// Group answers the gateway group the command is about.
func (f *Factory) Group() string { return f.GroupOf("") }

// GroupOf does that for a document that may say itself which group it is for: the command line goes first.
func (f *Factory) GroupOf(document string) string {
	return cmp.Or(f.flags.group, document, f.Getenv("KEYWARD_GROUP"), "default")
}

// Format answers how to print data; fallback if -o was not given.
func (f *Factory) Format(fallback render.Format) (render.Format, error) {
	switch f.flags.output {
	case "":
		return fallback, nil
	case "table", "json", "yaml":
		return render.Format(f.flags.output), nil
	default:
		return "", failure.Usagef("-o %s: give table, json or yaml", f.flags.output)
	}
}

// Target answers what flags and environment say about the control plane.
func (f *Factory) Target() (client.Target, error) {
	t := client.Target{Addr: f.flags.addr, CACert: f.flags.cacert}
	if f.flags.tokenFile != "" {
		token, err := client.ReadToken(f.flags.tokenFile)
		if err != nil {
			return t, err
		}
		t.Token = token
	}
	return t.Env(f.Getenv), nil
}

// Conn answers the connection to the control plane.
func (f *Factory) Conn() (grpc.ClientConnInterface, error) {
	if f.conn != nil {
		return f.conn, nil
	}
	t, err := f.Target()
	if err != nil {
		return nil, err
	}
	f.conn, err = f.Dial(t)
	if err != nil {
		return nil, err
	}
	return f.conn, nil
}

// Catalog answers the kinds and types this program knows.
func (f *Factory) Catalog() (*catalog.Catalog, error) {
	if f.catalog != nil {
		return f.catalog, nil
	}
	c, err := catalog.New()
	if err != nil {
		return nil, err
	}
	f.catalog = c
	return c, nil
}

// Printer answers what prints messages.
func (f *Factory) Printer() (*render.Printer, error) {
	c, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	return render.NewPrinter(func(m proto.Message) ([]byte, bool, error) {
		if _, ok := c.KindOf(m); !ok {
			return nil, false, nil
		}
		data, err := c.Encode(m, catalog.JSON, catalog.EncodeOptions{})
		return data, true, err
	}), nil
}

// Print prints one message, in table form by the given function.
func (f *Factory) Print(m proto.Message, table func() error) error {
	format, err := f.Format(render.Table)
	if err != nil {
		return err
	}
	if format == render.Table {
		return table()
	}
	p, err := f.Printer()
	if err != nil {
		return err
	}
	return p.Message(f.IO.Out, format, m)
}

// PrintList prints messages as a list, in table form by the given function.
func (f *Factory) PrintList(ms []proto.Message, table func() error) error {
	format, err := f.Format(render.Table)
	if err != nil {
		return err
	}
	if format == render.Table {
		return table()
	}
	p, err := f.Printer()
	if err != nil {
		return err
	}
	return p.List(f.IO.Out, format, ms)
}

// PrintWideList is PrintList for a table that has more columns with -o wide.
func (f *Factory) PrintWideList(ms []proto.Message, table func(wide bool) error) error {
	if f.flags.output == "wide" {
		return table(true)
	}
	return f.PrintList(ms, func() error { return table(false) })
}

// Close ends the connection, if there is one.
func (f *Factory) Close() {
	if f.conn != nil {
		_ = f.conn.Close()
	}
}
