package certs

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// addOptions of one run.
type addOptions struct {
	name, key, passphrase, stage string
	files, snis                  []string
	labels                       map[string]string
}

func newAdd(f *factory.Factory) *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "add [NAME]",
		Short: "Store a certificate from files, or renew one",
		Long: `Store a certificate from files: PEM with the certificate, its issuers and its private key in any order, together or in
several files, or PKCS#12. Without a name its id, the SHA-256 of the certificate, is its name.

If there is a certificate of that name, the files become its current version and the one before stays as its previous
version; what refers to it goes on with the new one. With --stage next they wait as its next version, until keyward certs
promote, or until the current one has expired.`,
		Example: `  keyward certs add web -f fullchain.pem --key privkey.pem --sni www.example.com
  keyward certs add partner -f partner.p12 --passphrase-file passphrase
  keyward certs add web -f next.pem --stage next`,
		Args: factory.Args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.name = args[0]
			}
			return add(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringArrayVarP(&o.files, "file", "f", nil, "file with certificates, and perhaps the key; - is stdin; may be repeated")
	cmd.Flags().StringVar(&o.key, "key", "", "file with the private key, if it is not in the others")
	cmd.Flags().StringVar(&o.passphrase, "passphrase-file", "", "file with the passphrase of an encrypted key or PKCS#12 file")
	cmd.Flags().StringSliceVar(&o.snis, "sni", nil, "host names for which gateways present it, exact or *.parent")
	cmd.Flags().StringToStringVar(&o.labels, "label", nil, "labels, e.g. team=payments")
	cmd.Flags().StringVar(&o.stage, "stage", "current", "which version it becomes: current or next")
	// It fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("stage", cobra.FixedCompletions([]string{"current", "next"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func add(ctx context.Context, f *factory.Factory, o addOptions) error {
	req, err := request(f, o)
	if err != nil {
		return err
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	res, err := adminv1.NewResourceServiceClient(conn).AddCertificate(ctx, req)
	if err != nil {
		return fmt.Errorf("add certificate %s: %w", o.name, err)
	}
	return written(f, "renewed", res)
}

func request(f *factory.Factory, o addOptions) (*adminv1.AddCertificateRequest, error) {
	if len(o.files) == 0 {
		return nil, failure.Usagef("say which files: -f FILE, or -f - for stdin")
	}
	req := &adminv1.AddCertificateRequest{Group: f.Group(), Name: o.name, Snis: o.snis, Labels: o.labels, Stage: o.stage}
	var all []byte
	for _, path := range append(o.files, o.key) {
		if path == "" {
			continue
		}
		content, err := read(path, f.IO.In)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(content, []byte("-----BEGIN ")) && bytes.HasPrefix(content, []byte{0x30}) { // DER, so PKCS#12
			if len(o.files) > 1 || o.key != "" {
				return nil, failure.Usagef("%s is a PKCS#12 file, which has everything in it; give it alone", path)
			}
			req.Pkcs12 = plaintext(base64.StdEncoding.EncodeToString(content))
			continue
		}
		all = append(append(all, content...), '\n')
	}
	if req.GetPkcs12() == nil {
		req.Pem = plaintext(string(all))
	}
	if o.passphrase != "" {
		content, err := read(o.passphrase, f.IO.In)
		if err != nil {
			return nil, err
		}
		req.Passphrase = plaintext(string(bytes.TrimRight(content, "\r\n")))
	}
	return req, nil
}

func plaintext(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

func read(path string, stdin io.Reader) ([]byte, error) {
	const most = 1 << 20
	from := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		defer file.Close()
		from = file
	}
	content, err := io.ReadAll(io.LimitReader(from, most+1))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if len(content) > most {
		return nil, failure.Usagef("%s is larger than a certificate can be", path)
	}
	return content, nil
}

// written says what became of a certificate.
func written(f *factory.Factory, did string, res *adminv1.CertificateResponse) error {
	return f.Print(res, func() error {
		switch {
		case !res.GetChanged():
			did = "unchanged:"
		case res.GetCreated():
			did = "added"
		case res.GetStage() == "next":
			did = "staged the next version of"
		}
		f.IO.Say("%s certificate %s at revision %d, %s", did, res.GetName(), res.GetRevision(), until(f, res.GetInfo()))
		for _, w := range res.GetWarnings() {
			f.IO.Say("warning: %s %s", w.GetPath(), w.GetMessage())
		}
		_, err := fmt.Fprintln(f.IO.Out, res.GetId())
		return err
	})
}
