package certs

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/render"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
	"keyward.dev/shared/secret"
)

// pageSize is the most the control plane gives at once.
const pageSize = 1000

func newList(f *factory.Factory) *cobra.Command {
	var expiring, selector string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates and when they end",
		Long: `List certificates and the certificates of authorities, a line for each version that is in use or to come, and when they
end. With --expiring only those that end within that time, or have ended, without a next version that follows.`,
		Example: `  keyward certs list
  keyward certs list --expiring 30d`,
		Args: factory.Args(""),
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), f, expiring, selector) },
	}
	cmd.Flags().StringVar(&expiring, "expiring", "", "only what ends within this time, e.g. 30d or 48h")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "labels, e.g. key=value,other!=value,present")
	return cmd
}

func list(ctx context.Context, f *factory.Factory, expiring, selector string) error {
	within, err := factory.Period("expiring", expiring)
	if err != nil {
		return err
	}
	conn, err := f.Conn()
	if err != nil {
		return err
	}
	client := adminv1.NewResourceServiceClient(conn)
	var all []proto.Message
	for _, k := range []string{kind, kindCA} {
		some, err := pages(ctx, client, &adminv1.ListRequest{
			Group: f.Group(), Kind: k, PageSize: pageSize, Selector: selector, ExpiringWithin: within,
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", k, err)
		}
		all = append(all, some...)
	}
	return f.PrintList(all, func() error {
		switch {
		case len(all) == 0 && within != nil:
			f.IO.Say("nothing in group %s ends within %s", f.Group(), expiring)
			return nil
		case len(all) == 0:
			f.IO.Say("no certificates in group %s (keyward certs add stores one)", f.Group())
			return nil
		}
		return table(f, all)
	})
}

func pages(ctx context.Context, client adminv1.ResourceServiceClient, req *adminv1.ListRequest) ([]proto.Message, error) {
	var all []proto.Message
	for {
		res, err := client.List(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, r := range res.GetResources() {
			m, err := r.UnmarshalNew()
			if err != nil {
				return nil, fmt.Errorf("read: %w", err)
			}
			all = append(all, m)
		}
		if req.PageToken = res.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

// table prints a line for each version.
func table(f *factory.Factory, all []proto.Message) error {
	g := render.NewGrid(f.IO, "NAME", "VERSION", "SUBJECT", "KEY", "UNTIL", "LEFT", "USED BY")
	row := func(name, version string, info *configv1.CertificateInfo, users []string) {
		if info == nil {
			return
		}
		text, colour := left(f.Now(), info)
		g.AddCells(render.Cell{Text: name}, render.Cell{Text: version}, render.Cell{Text: info.GetSubject()},
			render.Cell{Text: info.GetKeyAlgorithm()}, render.Cell{Text: render.Time(info.GetNotAfter())},
			render.Cell{Text: text, Colour: colour}, render.Cell{Text: render.Or(strings.Join(users, ","), "-")})
	}
	for _, m := range all {
		switch m := m.(type) {
		case *configv1.Certificate:
			row(m.GetName(), "current", infoOf(m.GetCurrent()), m.GetUsedBy())
			order(m, row)
			row(m.GetName(), "next", infoOf(m.GetNext()), m.GetUsedBy())
		case *configv1.CaCertificate:
			for _, info := range m.GetInfo() {
				row(m.GetName(), "authority", info, m.GetUsedBy())
			}
		}
	}
	return g.Print()
}

// infoOf is what a version says of itself. Of one in files of the gateways only they know.
func infoOf(v *configv1.CertificateVersion) *configv1.CertificateInfo {
	if p, ok := secret.ParsePath(v.GetPrivateKey().GetRef()); ok && p.Gateway && v.GetInfo() == nil {
		return &configv1.CertificateInfo{Subject: "known to gateways only", KeyAlgorithm: "-"}
	}
	return v.GetInfo()
}

// order is the line of a certificate that an authority issues: of what it issued, or that there is nothing yet. That it cannot be
// issued is said with either.
func order(m *configv1.Certificate, row func(name, version string, info *configv1.CertificateInfo, users []string)) {
	if m.GetAcme() == nil {
		return
	}
	version, info := "issued", m.GetIssued().GetInfo()
	if info == nil {
		version, info = "ordered", &configv1.CertificateInfo{}
	}
	if m.GetIssued().GetLastError() != "" {
		version += ", failing"
	}
	row(m.GetName(), version, info, m.GetUsedBy())
}

// left is how long a certificate is still valid.
func left(now time.Time, info *configv1.CertificateInfo) (string, terminal.Colour) {
	if info.GetNotAfter() == nil {
		return "-", terminal.Plain
	}
	d := info.GetNotAfter().AsTime().Sub(now)
	days := int(math.Floor(d.Hours() / 24))
	switch {
	case d < 0:
		return "expired", terminal.Red
	case days < 1:
		return strconv.Itoa(int(d.Hours())) + "h", terminal.Red
	case days < 7:
		return strconv.Itoa(days) + "d", terminal.Red
	case days < 30:
		return strconv.Itoa(days) + "d", terminal.Yellow
	default:
		return strconv.Itoa(days) + "d", terminal.Green
	}
}

func until(f *factory.Factory, info *configv1.CertificateInfo) string {
	text, _ := left(f.Now(), info)
	if text == "expired" {
		return "expired since " + render.Time(info.GetNotAfter())
	}
	return fmt.Sprintf("valid until %s (%s)", render.Time(info.GetNotAfter()), text)
}
