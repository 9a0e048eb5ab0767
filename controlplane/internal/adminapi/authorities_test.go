package adminapi_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/mtls/mtlstest"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/trust"
)

// trustDesk is a desk with a root, on which a gateway hangs.
type trustDesk struct{ root *x509.Certificate }

func (d trustDesk) State(context.Context) (trust.State, error) {
	s := trust.State{Connected: 3, Unaware: []string{"a/g1"}, Former: &trust.Former{Root: "0a", Holders: []string{"a/g2"}, Renewable: 4, JoinTokens: 5}}
	if d.root != nil {
		s.Bundle = [][]byte{d.root.Raw}
		s.Authorities = []pki.Authority{{ID: "0b", Kind: "root", State: "current", Root: "0b", Certificate: d.root}}
	}
	return s, nil
}

func (d trustDesk) RotateIntermediate(ctx context.Context, _ string) (trust.State, error) {
	return d.State(ctx)
}

func (d trustDesk) PrepareRoot(ctx context.Context, _ string) (trust.State, error) {
	return d.State(ctx)
}

func (d trustDesk) ActivateRoot(ctx context.Context, _ string, force bool) (trust.State, error) {
	if !force {
		return trust.State{}, problem.Errorf(problem.Conflict, "1 of 3 connected gateways")
	}
	return d.State(ctx)
}

func (d trustDesk) RetireRoot(ctx context.Context, actor string, force bool) (trust.State, error) {
	return d.ActivateRoot(ctx, actor, force)
}

func TestAuthoritiesOverREST(t *testing.T) {
	t.Parallel()
	root := mtlstest.New(t, time.Now).Root
	a := serveWith(t, trustDesk{root})
	viewer, groupAdmin := a.token("*", optionsv1.Role_ROLE_VIEWER), a.token("a", optionsv1.Role_ROLE_ADMIN)
	operator, admin := a.token("*", optionsv1.Role_ROLE_OPERATOR), a.admin()
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
		want                            string
	}{
		{"list", "GET", "/v1/authorities", viewer, "", 200, `"unaware":["a/g1"]`},
		{"list the root", "GET", "/v1/authorities", viewer, "", 200, `"subject":"` + root.Subject.String()},
		{"list as administrator of a group", "GET", "/v1/authorities", groupAdmin, "", 403, "forbidden"},
		{"rotate", "POST", "/v1/authorities/intermediate:rotate", admin, "{}", 200, `"connected":3`},
		{"rotate as operator", "POST", "/v1/authorities/intermediate:rotate", operator, "{}", 403, "forbidden"},
		{"prepare", "POST", "/v1/authorities/root:prepare", admin, "{}", 200, `"trust_bundle":"-----BEGIN`},
		{"prepare as administrator of a group", "POST", "/v1/authorities/root:prepare", groupAdmin, "{}", 403, "forbidden"},
		{"activate too early", "POST", "/v1/authorities/root:activate", admin, "{}", 409, "1 of 3 connected gateways"},
		{"activate all the same", "POST", "/v1/authorities/root:activate", admin, `{"force":true}`, 200, `"pin"`},
		{"activate as operator", "POST", "/v1/authorities/root:activate", operator, `{"force":true}`, 403, "forbidden"},
		{"retire too early", "POST", "/v1/authorities/root:retire", admin, "{}", 409, "conflict"},
		{"retire all the same", "POST", "/v1/authorities/root:retire", admin, `{"force":true}`, 200, `"former":{"id":"0a","holders":["a/g2"],"renewable":4,"join_tokens":5}`},
		{"retire as operator", "POST", "/v1/authorities/root:retire", operator, "{}", 403, "forbidden"},
	} {
		got := a.call(c.method, c.path, c.token, c.body)
		body := strings.NewReplacer(" ", "", "\n", "").Replace(string(got.body))
		if got.status != c.status || !strings.Contains(body, strings.ReplaceAll(c.want, " ", "")) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, got.status, got.body, c.status, c.want)
		}
		if strings.Contains(body, "PRIVATEKEY") {
			t.Errorf("%s: a private key is answered", c.name)
		}
	}
}
