package expiry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/expiry"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// database has the group "a" with what it was given, and the group "b" that cannot be read.
type database struct {
	t       *testing.T
	members map[string]proto.Message
}

func (d *database) Heads(context.Context) ([]store.HeadStamp, error) {
	return []store.HeadStamp{{Group: "b"}, {Group: "a"}}, nil
}

func (d *database) RowsOf(_ context.Context, group string, kinds []string, yield func(store.Row) error) error {
	if group == "b" {
		return errors.New("the database is down")
	}
	for name, m := range d.members {
		kind := certs.Kind
		switch m.(type) {
		case *configv1.CaCertificate:
			kind = certs.KindCA
		case *systemv1.ResolvedSecret:
			kind = certs.KindResolved
		}
		if !slices.Contains(kinds, kind) {
			continue
		}
		packed, err := record.Pack(kind, "u", name, m)
		if err != nil {
			d.t.Fatal(err)
		}
		if err := yield(store.Row{Kind: kind, UID: "u", Name: name, Sealed: packed}); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) Open(row store.Row) ([]byte, error) { return row.Sealed, nil }

// TestEachThresholdIsToldOnce looks at certificates every hour over forty days, and counts what is told.
func TestEachThresholdIsToldOnce(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	version := func(from, to time.Duration) *configv1.CertificateVersion {
		return &configv1.CertificateVersion{Chain: certtest.SelfSigned(t, "x", certtest.Valid(begin.Add(from), begin.Add(to))).PEM()}
	}
	const day = 24 * time.Hour
	const reference = "{file://mounted/x.pem}"
	elsewhere := &configv1.CertificateVersion{PrivateKey: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: reference}}}
	read := version(0, 35*day)
	read.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "a key"}}
	root := certtest.CA(t, "root", certtest.Valid(begin, begin.Add(8*day+time.Minute)))
	db := &database{t: t, members: map[string]proto.Message{
		"ends":     &configv1.Certificate{Current: version(0, 35*day+17*time.Minute)},
		"exactly":  &configv1.Certificate{Current: version(0, 35*day)},
		"followed": &configv1.Certificate{Current: version(0, 10*day), Next: version(9*day, 100*day)},
		"a gap":    &configv1.Certificate{Current: version(0, 10*day), Next: version(11*day, 100*day), Previous: version(0, 5*day)},
		"referred": &configv1.Certificate{Name: "referred", Current: elsewhere},
		"unread":   &configv1.Certificate{Name: "unread", Current: elsewhere},
		certs.ResolvedName("referred", elsewhere): &systemv1.ResolvedSecret{Reference: reference, Certificate: read},
		"long":    &configv1.Certificate{Current: version(0, 1000*day)},
		"damaged": &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: "junk"}},
		"roots":   &configv1.CaCertificate{Certificates: root.PEM()},
	}}
	now := begin
	var out bytes.Buffer
	w := expiry.New(expiry.Config{
		Database: db, Every: time.Hour, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&out, nil)),
		Unlock: func(context.Context, string) (expiry.Vault, error) { return db, nil },
	})
	for range 40 * 24 {
		now = now.Add(time.Hour)
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "group b") {
			t.Fatalf("the group that cannot be read: %v", err)
		}
	}
	for name, want := range map[string][2]int{ // near its end, expired
		"ends": {3, 1}, "exactly": {3, 1}, "followed": {0, 0}, `"a gap"`: {2, 1}, "long": {0, 0}, "referred": {3, 1}, "unread": {0, 0}, "damaged": {0, 0}, "roots": {2, 1},
	} {
		var got [2]int
		for line := range strings.Lines(out.String()) {
			if !strings.Contains(line, " name="+name+" ") {
				continue
			}
			switch {
			case strings.Contains(line, "level=WARN") && strings.Contains(line, "near its end"):
				got[0]++
			case strings.Contains(line, "level=ERROR") && strings.Contains(line, "has expired"):
				got[1]++
			}
		}
		if got != want {
			t.Errorf("%s: told %v times, want %v", name, got, want)
		}
	}
}
