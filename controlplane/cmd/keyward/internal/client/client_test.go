package client_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/dev/devca"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// system answers with the authorization it was sent.
type system struct {
	adminv1.UnimplementedSystemServiceServer
}

func (system) WhoAmI(ctx context.Context, _ *adminv1.WhoAmIRequest) (*adminv1.Identity, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return &adminv1.Identity{Name: strings.Join(md.Get("authorization"), "|")}, nil
}

// serve starts a control plane and answers its address and the file of its authority.
func serve(t *testing.T) (addr, ca string) {
	t.Helper()
	files, err := devca.Make(t.TempDir(), time.Now(), []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	adminv1.RegisterSystemServiceServer(server, system{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return "https://" + l.Addr().String(), files.CA
}

func whoami(t *testing.T, target client.Target) (string, error) {
	t.Helper()
	conn, err := client.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id, err := adminv1.NewSystemServiceClient(conn).WhoAmI(t.Context(), &adminv1.WhoAmIRequest{})
	return id.GetName(), err
}

func TestTheTokenIsSentToWhomWeTrust(t *testing.T) {
	t.Parallel()
	addr, ca := serve(t)
	if got, err := whoami(t, client.Target{Addr: addr, CACert: ca, Token: "secret"}); err != nil || got != "Bearer secret" {
		t.Errorf("WhoAmI() = %q, %v; want the bearer token", got, err)
	}
	if got, err := whoami(t, client.Target{Addr: addr, CACert: ca}); err != nil || got != "" {
		t.Errorf("WhoAmI() without a token = %q, %v; want none sent", got, err)
	}
	if _, err := whoami(t, client.Target{Addr: addr, Token: "secret"}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("WhoAmI() of somebody we do not trust = %v, want a certificate error", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for addr, ok := range map[string]bool{
		"https://127.0.0.1:7443": true, "https://[::1]:7443": true, "https://gateway-api.internal": true, "https://h:1/": true,
		"": false, "127.0.0.1:7443": false, "http://127.0.0.1:7443": false, "https://": false, "https://u:p@h:1": false, "https://h:1/x": false, "%": false,
	} {
		conn, err := client.Dial(client.Target{Addr: addr})
		if (err == nil) != ok {
			t.Errorf("Dial(%q) = %v, want ok %v", addr, err, ok)
		}
		if err != nil && failure.Code(err) != failure.Usage {
			t.Errorf("Dial(%q): exit code %d, want %d", addr, failure.Code(err), failure.Usage)
		}
		if conn != nil {
			conn.Close()
		}
	}
}

func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + "-missing"} {
		if _, err := client.ReadToken(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("ReadToken(%s) = %v, want an error that names it", path, err)
		}
		if _, err := client.Dial(client.Target{Addr: "https://h:1", CACert: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Dial() with CACert %s = %v, want an error that names it", path, err)
		}
	}
}
