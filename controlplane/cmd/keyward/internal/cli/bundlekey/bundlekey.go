// Package bundlekey is `keyward bundle-key`: what lets gateways start from a fallback bundle.
package bundlekey

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
)

const (
	keyFile    = "bundle.key"
	signerFile = "signer.pem"
)

// New makes the command.
func New(f *factory.Factory) *cobra.Command {
	return factory.Parent("bundle-key", "Let gateways start from fallback bundles", newShow(f), newRotate(f))
}

// showOptions of one run.
type showOptions struct{ dir, secret string }

func newShow(f *factory.Factory) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the group's bundle key as a Secret, or write it to files",
		Long: `Print the newest bundle key of the group, and the public key that bundles are verified with, as the manifest of a
Kubernetes Secret; or write both to a directory, as ` + keyFile + ` and ` + signerFile + `. The key opens the group's bundles:
give it to gateways of the group only. Everybody who asks is noted in the audit trail.`,
		Example: `  keyward --group shop bundle-key show --secret keyward-bundle | kubectl apply -n gateways -f -
  keyward --group shop bundle-key show --dir /etc/keyward/bundle`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return show(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "write the files to this directory instead")
	cmd.Flags().StringVar(&o.secret, "secret", "keyward-bundle", "name of the Secret")
	return cmd
}

func show(ctx context.Context, f *factory.Factory, o showOptions) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	key, err := adminv1.NewGatewayServiceClient(conn).ShowBundleKey(ctx, &adminv1.ShowBundleKeyRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("show bundle key: %w", err)
	}
	if o.dir != "" {
		if err := write(o.dir, key); err != nil {
			return fmt.Errorf("write bundle key: %w", err)
		}
		f.IO.Say("version %d of the bundle key of group %s is in %s", key.GetVersion(), key.GetGroup(), o.dir)
		return nil
	}
	return f.Print(key, func() error {
		_, err := fmt.Fprint(f.IO.Out, manifest(o.secret, key))
		return err
	})
}

// manifest is the Secret that the chart of the gateways expects.
func manifest(name string, key *adminv1.BundleKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %q\ntype: Opaque\nstringData:\n", name)
	for _, e := range [][2]string{{keyFile, key.GetKey()}, {signerFile, key.GetSigner()}} {
		fmt.Fprintf(&b, "  %s: |\n", e[0])
		for line := range strings.Lines(e[1]) {
			// PEM has a blank line behind its headers, which needs no indent.
			if strings.TrimSpace(line) != "" {
				b.WriteString("    ")
			}
			b.WriteString(line)
		}
	}
	return b.String()
}

func write(dir string, key *adminv1.BundleKey) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string]string{keyFile: key.GetKey(), signerFile: key.GetSigner()} {
		if err := replace(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// replace makes the file hold the content, for its owner only, or leaves it as it was.
func replace(path, content string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".bundle-key-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(content)
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

func newRotate(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new bundle key",
		Long: `Make a new bundle key for the group. The next bundle is sealed to it: gateways that have only the former one cannot
start from that. Revoking a gateway does the same.`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return rotate(cmd.Context(), f) },
	}
}

func rotate(ctx context.Context, f *factory.Factory) error {
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewGatewayServiceClient(conn).RotateBundleKey(ctx, &adminv1.RotateBundleKeyRequest{Group: f.Group()})
	if err != nil {
		return fmt.Errorf("rotate bundle key: %w", err)
	}
	return f.Print(res, func() error {
		f.IO.Say("the bundle key of group %s is now version %d; give it to its gateways: keyward bundle-key show", f.Group(), res.GetVersion())
		return nil
	})
}
