package dev_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli"
	"keyward.dev/controlplane/cmd/keyward/internal/cli/factory"
	"keyward.dev/controlplane/cmd/keyward/internal/client"
	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// TestMain lets the test binary play all three programs, by the name under which it is called.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "keyward":
		os.Exit(playKeyward())
	case "keyward-controlplane":
		os.Exit(playControlPlane(os.Args[1], os.Args[2:]))
	case "keyward-dataplane":
		os.Exit(playGateway(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func playKeyward() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &factory.Factory{IO: terminal.System(), Getenv: os.Getenv, Now: time.Now, Dial: client.Dial}
	return cli.Main(ctx, f, os.Args[1:])
}

// settings reads flags that a program does not declare, too.
func settings(args []string) map[string]string {
	all := map[string]string{}
	for _, a := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if name == "listen" {
			name, value, _ = strings.Cut(value, "=")
		}
		all[name] = value
	}
	return all
}

// playControlPlane checks what it is given and answers the few calls that keyward dev makes.
func playControlPlane(command string, args []string) int {
	if os.Getenv("KEYWARD_DATABASE_URL") == "" {
		return fail("no database URL")
	}
	switch command {
	case "migrate":
		return 0
	case "bootstrap":
		if kek, err := os.ReadFile(os.Getenv("KEYWARD_KEK_FILE")); err != nil || len(kek) != 32 {
			return fail("no key-encryption key")
		}
		return 0
	}
	if os.Getenv("TEST_BROKEN") != "" {
		return fail("the fake control plane is broken")
	}
	s := settings(args)
	creds, err := credentials.NewServerTLSFromFile(s["admin-tls-cert"], s["admin-tls-key"])
	if err != nil {
		return fail(err.Error())
	}
	l, err := net.Listen("tcp", s["admin-listen"])
	if err != nil {
		return fail(err.Error())
	}
	server := grpc.NewServer(grpc.Creds(creds))
	adminv1.RegisterResourceServiceServer(server, fakeResources{})
	adminv1.RegisterGatewayServiceServer(server, fakeGateways{})
	adminv1.RegisterGroupServiceServer(server, fakeGroups{})
	go serveStatus(s["status-listen"])
	return untilTerm(func() { _ = server.Serve(l) }, server.Stop)
}

func playGateway(args []string) int {
	s := settings(args)
	if token, err := os.ReadFile(s["join-token-file"]); err != nil || !strings.HasPrefix(string(token), "kwj_") {
		return fail("no join token")
	}
	go serveStatus(s["status-listen"])
	server := &http.Server{Addr: s["http"], Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	return untilTerm(func() { _ = server.ListenAndServe() }, func() { _ = server.Close() })
}

func serveStatus(addr string) {
	server := &http.Server{Addr: addr, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	_ = server.ListenAndServe()
}

func untilTerm(serve, stop func()) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go serve()
	<-term
	stop()
	return 0
}

func fail(text string) int {
	_, _ = os.Stderr.WriteString(text + "\n")
	return 1
}

type fakeResources struct {
	adminv1.UnimplementedResourceServiceServer
}

func (fakeResources) Patch(_ context.Context, r *adminv1.PatchRequest) (*adminv1.WriteResponse, error) {
	if r.GetKind() != "settings" || string(r.GetMergePatch()) != `{"require_https":false}` {
		return nil, errors.New("unexpected patch")
	}
	return &adminv1.WriteResponse{Revision: 1}, nil
}

type fakeGateways struct {
	adminv1.UnimplementedGatewayServiceServer
}

func (fakeGateways) CreateJoinToken(_ context.Context, r *adminv1.CreateJoinTokenRequest) (*adminv1.CreateJoinTokenResponse, error) {
	return &adminv1.CreateJoinTokenResponse{Secret: "kwj_test"}, nil
}

func (fakeGateways) WaitForRevision(_ context.Context, r *adminv1.WaitForRevisionRequest) (*adminv1.WaitForRevisionResponse, error) {
	return &adminv1.WaitForRevisionResponse{Applied: true, Connected: r.GetMinGateways()}, nil
}

type fakeGroups struct {
	adminv1.UnimplementedGroupServiceServer
}

func (fakeGroups) GetGroup(context.Context, *adminv1.GetGroupRequest) (*adminv1.Group, error) {
	return &adminv1.Group{Name: "default", Revision: 1}, nil
}
