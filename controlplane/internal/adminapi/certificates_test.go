package adminapi_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/testkit/certtest"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
)

func given(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

// TestAddedFilesThatAreRefused has what cannot be added, with the places of what is wrong; nothing reaches the write path.
func TestAddedFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	a := serve(t)
	client, ctx := adminv1.NewResourceServiceClient(a.conn), a.as(t.Context(), a.admin())
	leaf := certtest.SelfSigned(t, "leaf")
	pem := given(leaf.PEM() + leaf.KeyPEM(t))
	for _, tt := range []struct {
		name string
		req  *adminv1.AddCertificateRequest
		want []string
	}{
		{"nothing", &adminv1.AddCertificateRequest{}, []string{"pem"}},
		{"two files", &adminv1.AddCertificateRequest{Pem: pem, Pkcs12: given("MA==")}, []string{"pem"}},
		{"name, stage and file at once", &adminv1.AddCertificateRequest{Name: "no name", Stage: "soon", Pem: given("junk")}, []string{"name", "pem", "stage"}},
		{"next of nobody", &adminv1.AddCertificateRequest{Stage: "next", Pem: pem}, []string{"name"}},
		{"no Base64", &adminv1.AddCertificateRequest{Pkcs12: given("%")}, []string{"pkcs12"}},
		{"no PKCS#12", &adminv1.AddCertificateRequest{Pkcs12: given("MAA=")}, []string{"pkcs12"}},
		{"passphrase for nothing", &adminv1.AddCertificateRequest{Pem: pem, Passphrase: given("x")}, []string{"passphrase"}},
		{"wrong passphrase", &adminv1.AddCertificateRequest{Pem: given(leaf.PEM() + leaf.EncryptedKeyPEM(t, "x", 10)), Passphrase: given("y")}, []string{"pem"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.Group = "a"
			_, err := client.AddCertificate(ctx, tt.req)
			var paths []string
			for _, v := range grpcstatus.ToProblem(err).Violations {
				paths = append(paths, v.Path)
			}
			if slices.Sort(paths); !slices.Equal(paths, tt.want) {
				t.Errorf("told %v, want %v: %v", paths, tt.want, err)
			}
		})
	}
	if a.written() != 0 {
		t.Error("something was written")
	}
	_, err := client.AddCertificate(ctx, &adminv1.AddCertificateRequest{Group: "a", Name: "web", Stage: "next", Pem: pem})
	if status.Code(err) != codes.NotFound {
		t.Errorf("the next version of a certificate that is not there: %v", err)
	}
}

// TestListsOfCertificatesAlone has what goes with lists of certificates and with no others.
func TestListsOfCertificatesAlone(t *testing.T) {
	t.Parallel()
	a := serve(t)
	client, ctx := adminv1.NewResourceServiceClient(a.conn), a.as(t.Context(), a.admin())
	day := durationpb.New(24 * time.Hour)
	for _, tt := range []struct {
		name string
		req  *adminv1.ListRequest
		want codes.Code
	}{
		{"names of services", &adminv1.ListRequest{Kind: "services", Names: []string{"a"}}, codes.InvalidArgument},
		{"names and a selector", &adminv1.ListRequest{Kind: "certificates", Names: []string{"a"}, Selector: "a"}, codes.InvalidArgument},
		{"too many names", &adminv1.ListRequest{Kind: "certificates", Names: strings.Split(strings.Repeat("a,", 101), ",")}, codes.InvalidArgument},
		{"a name that is not there", &adminv1.ListRequest{Kind: "certificates", Names: []string{"a"}}, codes.NotFound},
		{"services that expire", &adminv1.ListRequest{Kind: "services", ExpiringWithin: day}, codes.InvalidArgument},
		{"before now", &adminv1.ListRequest{Kind: "certificates", ExpiringWithin: durationpb.New(-time.Hour)}, codes.InvalidArgument},
		{"authorities", &adminv1.ListRequest{Kind: "ca-certificates", ExpiringWithin: day}, codes.OK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.Group = "a"
			if _, err := client.List(ctx, tt.req); status.Code(err) != tt.want {
				t.Errorf("List = %v, want %v", err, tt.want)
			}
		})
	}
}

// renewals has whatever it is asked for issued anew.
type renewals struct{}

func (renewals) Renew(_ context.Context, actor, group, name string) (int64, error) {
	if actor == "" || group == "" || name == "" {
		return 0, errors.New("somebody has to ask for something")
	}
	return 7, nil
}
