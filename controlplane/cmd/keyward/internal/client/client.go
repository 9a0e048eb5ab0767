// Package client connects the command line to the admin API: gRPC over TLS with a bearer token. It knows addresses,
// certificates and tokens, and nothing of commands.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

// maxAnswer bounds one answer of the server: a page of a list, with every resource at its limit, stays below it.
const maxAnswer = 64 << 20

// Target says where the control plane is and who asks.
type Target struct {
	// Addr is https://host:port.
	Addr string
	// CACert is a PEM file of authorities; empty: the system's.
	CACert string
	// Token is the bearer token; empty: none is sent.
	Token string
}

// Env fills what flags left open from the environment.
func (t Target) Env(getenv func(string) string) Target {
	if t.Addr == "" {
		t.Addr = getenv("KEYWARD_ADDR")
	}
	if t.CACert == "" {
		t.CACert = getenv("KEYWARD_CACERT")
	}
	if t.Token == "" {
		t.Token = getenv("KEYWARD_TOKEN")
	}
	return t
}

// ReadToken reads a token from a file, as mounted secrets have it: one line.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("token file %s is empty", path)
	}
	return token, nil
}

// Dial prepares a connection; the first call opens it.
func Dial(t Target) (*grpc.ClientConn, error) {
	host, err := hostPort(t.Addr)
	if err != nil {
		return nil, err
	}
	roots, err := loadRoots(t.CACert)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	if t.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(t.Token)))
	}
	conn, err := grpc.NewClient("passthrough:///"+host, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Addr, err)
	}
	return conn, nil
}

func hostPort(addr string) (string, error) {
	if addr == "" {
		return "", &failure.Error{
			Code: failure.Usage,
			Err:  errors.New("no control plane given"),
			Hint: "set KEYWARD_ADDR, or give --addr, to https://host:port (keyward dev starts one on this machine)",
		}
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return "", failure.Usagef("address %q is not of the form https://host:port", addr)
	}
	if u.Scheme != "https" {
		return "", failure.Usagef("address %q: the control plane is spoken to over https only", addr)
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}

func loadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil // crypto/tls takes the system's
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return pool, nil
}

// bearer sends a token with every call, over TLS only.
type bearer string

var _ credentials.PerRPCCredentials = bearer("")

// GetRequestMetadata gives the authorization field.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity says that the token never travels in clear.
func (b bearer) RequireTransportSecurity() bool { return true }
