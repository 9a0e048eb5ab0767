package adminapi_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/testkit/openapicheck"

	"keyward.dev/controlplane/internal/adminapi"
	"keyward.dev/controlplane/internal/adminauth"
)

// api is a running admin API and clients of both kinds.
type api struct {
	*world
	t       *testing.T
	url     string
	http    *http.Client // held against the OpenAPI document
	plain   *http.Client
	address string
	conn    *grpc.ClientConn
	checker *openapicheck.Checker
}

// serve starts the admin API over the world. Everything that goes over REST is held against the OpenAPI document.
func serve(t *testing.T) *api {
	t.Helper()
	return serveWith(t, trustDesk{})
}

func serveWith(t *testing.T, desk adminapi.Trust) *api {
	t.Helper()
	w := newWorld(t)
	server, err := adminapi.New(adminapi.Config{
		Catalog: w.catalog, Tokens: w, Auth: w, Sets: w, Writer: w, History: w, Past: w, Directory: w, Creator: w,
		Gateways: gateways{}, Joins: joins{}, BundleKeys: bundleKeys{}, Keyrings: &keyrings{}, Issuance: renewals{}, Trust: desk, Rollouts: &rollouts{}, Skills: w, Uses: &w.uses, Newer: newer, Pin: func() mtls.SPKI { return mtls.SPKI{} }, Audit: w, Version: &adminv1.Version{Version: "1.2.3"},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	listener := httptest.NewUnstartedServer(server.Handler())
	listener.EnableHTTP2 = true
	listener.StartTLS()
	a := &api{world: w, t: t, url: listener.URL, http: listener.Client(), plain: listener.Client(), address: listener.Listener.Addr().String()}
	if a.conn, err = a.dial(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.conn.Close()
		listener.CloseClientConnections()
		listener.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		for _, fault := range a.checker.Faults() {
			t.Errorf("OpenAPI: %v", fault)
		}
	})
	if a.checker, err = openapicheck.New(a.get("/openapi.json").body); err != nil {
		t.Fatal(err)
	}
	a.http = &http.Client{Transport: a.checker.Transport(a.plain.Transport)}
	return a
}

// dial connects a gRPC client, by its own dialer if it has one.
func (a *api) dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*grpc.ClientConn, error) {
	transport, _ := a.plain.Transport.(*http.Transport)
	opts := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS13}))}
	if dial != nil {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	}
	return grpc.NewClient(a.address, opts...)
}

// token makes a token with a role in a group and returns its text.
func (w *world) token(group string, role optionsv1.Role) string {
	w.t.Helper()
	var grants []adminauth.Grant
	if group != "" {
		grants = append(grants, adminauth.Grant{Group: group, Role: role})
	}
	token, text, err := adminauth.Issue("tester", grants)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[token.ID] = token
	return text
}
