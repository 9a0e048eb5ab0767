// Package keyring is `keyward keyring`: the keys under which what a group stores is sealed. It never sees one.
package keyring

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	cmd := factory.Parent("keyring", "Show and rotate the keys that seal what is stored",
		newList(f), newRotate(f), newRewrap(f), newRemove(f))
	cmd.Long = `Show and rotate the keys that seal what is stored. Each gateway group has a keyring of its own, and the installation has
one, --group system. To back keyrings up, see keyward-controlplane keyring --help: that needs the key-encryption key.`
	return cmd
}

func newList(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List keyrings and their terms",
		Long: `List the keyrings you may see and their terms. The newest term seals; enabled ones open what they sealed; those that
were removed only verify audit rows of their time. ROWS is how much is stored under a term now.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f) },
	}
}

func list(ctx context.Context, f *factory.Factory) error {
	c, err := dial(f)
	if err != nil {
		return err
	}
	res, err := c.ListKeyrings(ctx, &adminv1.ListKeyringsRequest{})
	if err != nil {
		return fmt.Errorf("list keyrings: %w", err)
	}
	return f.PrintList(render.Messages(res.GetKeyrings()), func() error {
		if err := table(f, res.GetKeyrings()...); err != nil {
			return err
		}
		for _, k := range res.GetKeyrings() {
			if k.GetNext() != nil || k.GetFault() != "" {
				f.IO.Say("%s", line(k))
			}
		}
		return nil
	})
}

// waiting says whether and how long to wait for rewrapping.
type waiting struct {
	wait    bool
	timeout time.Duration
}

func (w *waiting) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "wait until everything is under the newest term")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 10*time.Minute, "how long to wait")
}

func newRotate(f *factory.Factory) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Add a term, which seals from then on",
		Long: `Add a term to the keyring of the group, which seals from then on. It is used as soon as every replica of the control
plane has read it. What is stored is put under it in the background; gateways notice nothing, and there is no new revision.
A backup of keyrings that was made before does not have the new term: make another one.`,
		Example: `  keyward --group shop keyring rotate --wait
  keyward --group system keyring rotate`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return change(cmd.Context(), f, w, "rotate keyring", func(ctx context.Context, c adminv1.KeyringServiceClient) (*adminv1.Keyring, error) {
				return c.RotateKeyring(ctx, &adminv1.RotateKeyringRequest{Group: f.Group()})
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func newRewrap(f *factory.Factory) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use:   "rewrap",
		Short: "Look once more for what is not under the newest term",
		Long: `Look once more for what is not under the newest term of the group's keyring, and put it there. The control plane does so
after each rotation by itself; this is to watch it, and for after an older database was restored.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return change(cmd.Context(), f, w, "rewrap", func(ctx context.Context, c adminv1.KeyringServiceClient) (*adminv1.Keyring, error) {
				return c.RewrapKeyring(ctx, &adminv1.RewrapKeyringRequest{Group: f.Group()})
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func newRemove(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "remove TERM",
		Short: "Remove a term",
		Long: `Remove a term from the group's keyring: it opens nothing any more. That is refused while anything is stored under it, and
for the newest term. Audit rows of its time still verify. Database backups from that time have keyrings of their own.`,
		Example: `  keyward --group shop keyring remove 1`,
		Args:    factory.Args("TERM"),
		RunE:    func(cmd *cobra.Command, args []string) error { return remove(cmd.Context(), f, args[0]) },
	}
}

func remove(ctx context.Context, f *factory.Factory, text string) error {
	term, err := strconv.ParseUint(text, 10, 32)
	if err != nil || term == 0 {
		return failure.Usagef("%q is no number of a term", text)
	}
	return change(ctx, f, waiting{}, "remove term "+text, func(ctx context.Context, c adminv1.KeyringServiceClient) (*adminv1.Keyring, error) {
		return c.RemoveKeyringTerm(ctx, &adminv1.RemoveKeyringTermRequest{Group: f.Group(), Term: uint32(term)})
	})
}

type call func(context.Context, adminv1.KeyringServiceClient) (*adminv1.Keyring, error)

// change does something to a keyring and shows what has become of it.
func change(ctx context.Context, f *factory.Factory, w waiting, doing string, do call) error {
	c, err := dial(f)
	if err != nil {
		return err
	}
	k, err := do(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if w.wait {
		if k, err = follow(ctx, f, c, k, w.timeout); err != nil {
			return err
		}
	}
	return f.Print(k, func() error {
		if err := table(f, k); err != nil {
			return err
		}
		f.IO.Say("%s", line(k))
		return nil
	})
}

func dial(f *factory.Factory) (adminv1.KeyringServiceClient, error) {
	conn, err := f.Conn()
	if err != nil {
		return nil, err
	}
	return adminv1.NewKeyringServiceClient(conn), nil
}

func table(f *factory.Factory, keyrings ...*adminv1.Keyring) error {
	g := render.NewGrid(f.IO, "GROUP", "TERM", "STATE", "CREATED", "SEALS", "ROWS")
	for _, k := range keyrings {
		for _, t := range k.GetTerms() {
			g.Add(k.GetGroup(), strconv.FormatUint(uint64(t.GetNumber()), 10), t.GetState(), render.Time(t.GetCreatedAt()),
				strconv.FormatInt(t.GetSeals(), 10), strconv.FormatInt(t.GetRows(), 10))
		}
	}
	return g.Print()
}

// line says in one line what goes on with a keyring.
func line(k *adminv1.Keyring) string {
	if k.GetFault() != "" {
		return fmt.Sprintf("keyring of group %s cannot be used: %s", k.GetGroup(), k.GetFault())
	}
	if n := k.GetNext(); n != nil {
		s := fmt.Sprintf("keyring of group %s: term %d is to be %sd", k.GetGroup(), n.GetTerm(), n.GetAction())
		if n.GetAction() == "rotate" {
			s = fmt.Sprintf("keyring of group %s: term %d is prepared", k.GetGroup(), n.GetTerm())
		}
		if len(n.GetWaiting()) > 0 {
			s += ", not yet read by " + strings.Join(n.GetWaiting(), ", ")
		}
		return s
	}
	if k.GetRemaining() > 0 {
		return fmt.Sprintf("keyring of group %s: %d to be put under the newest term, in the background", k.GetGroup(), k.GetRemaining())
	}
	return fmt.Sprintf("keyring of group %s: everything is under the newest term", k.GetGroup())
}
