package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/mtls"
	"keyward.dev/shared/mtls/mtlstest"
)

const (
	domain    = "kw.test"
	gatewayID = "spiffe://kw.test/group/pay/gateway/g1"
	replicaID = "spiffe://kw.test/controlplane/r1"
)

// handshake connects both sides over loopback and returns what the server saw and both errors.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type result struct {
		state tls.ConnectionState
		err   error
	}
	done := make(chan result, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- result{err: err}
			return
		}
		defer raw.Close()
		c := tls.Server(raw, server)
		if err := c.HandshakeContext(t.Context()); err != nil {
			done <- result{err: err}
			return
		}
		_, err = c.Write([]byte("x"))
		done <- result{state: c.ConnectionState(), err: err}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, client)
	clientErr := c.HandshakeContext(t.Context())
	if clientErr == nil { // in TLS 1.3 the client learns of a refusal with its first read
		_, clientErr = c.Read(make([]byte, 1))
	}
	raw.Close()
	r := <-done
	return r.state, r.err, clientErr
}

func config(a *mtlstest.Authority, cert *tls.Certificate) mtls.Config {
	return mtls.Config{TrustDomain: domain, Roots: a.Pool, Certificate: func() (*tls.Certificate, error) {
		if cert == nil {
			return nil, errors.New("no certificate")
		}
		return cert, nil
	}}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	a, other := mtlstest.New(t, time.Now), mtlstest.New(t, time.Now)
	client, server := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	good := a.Gateway(t, gatewayID)
	replica := a.ControlPlane(t, replicaID)
	tests := []struct {
		name            string
		server, gateway *tls.Certificate
		wantServer      string
		wantClient      string
	}{
		{name: "good", server: replica, gateway: good},
		{name: "gateway of another root", server: replica, gateway: other.Gateway(t, gatewayID), wantServer: "verify certificate chain"},
		{name: "gateway of another trust domain", server: replica, gateway: a.Gateway(t, "spiffe://other.test/group/pay/gateway/g1"), wantServer: "trust domain"},
		{name: "control plane acting as gateway", server: replica, gateway: a.ControlPlane(t, replicaID), wantServer: "not meant for this side"},
		{name: "control-plane name with gateway purpose", server: replica, gateway: a.Gateway(t, replicaID), wantServer: "not a gateway"},
		{name: "gateway name with server purpose", server: replica, gateway: a.ControlPlane(t, gatewayID), wantServer: "not meant for this side"},
		{name: "both purposes", server: replica, gateway: a.Issue(t, mtlstest.Leaf{URIs: []string{gatewayID}, Usage: append(client[:1:1], server...)}), wantServer: "not meant for this side"},
		{name: "no purpose", server: replica, gateway: a.Issue(t, mtlstest.Leaf{URIs: []string{gatewayID}}), wantServer: "not meant for this side"},
		{name: "any purpose", server: replica, gateway: a.Issue(t, mtlstest.Leaf{URIs: []string{gatewayID}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}), wantServer: "not meant for this side"},
		{name: "two names", server: replica, gateway: a.Issue(t, mtlstest.Leaf{URIs: []string{gatewayID, gatewayID + "x"}, Usage: client}), wantServer: "2 URI names"},
		{name: "no name", server: replica, gateway: a.Issue(t, mtlstest.Leaf{Usage: client}), wantServer: "0 URI names"},
		{name: "expired gateway", server: replica, gateway: a.Issue(t, mtlstest.Leaf{URIs: []string{gatewayID}, Usage: client, TTL: -time.Second}), wantServer: "expired"},
		{name: "gateway acting as control plane", server: a.Gateway(t, gatewayID), gateway: good, wantClient: "not meant for this side"},
		{name: "gateway name acting as control plane", server: a.ControlPlane(t, gatewayID), gateway: good, wantClient: "not a control plane"},
		{name: "control plane of another root", server: other.ControlPlane(t, replicaID), gateway: good, wantClient: "verify certificate chain"},
		{name: "expired control plane", server: a.Issue(t, mtlstest.Leaf{URIs: []string{replicaID}, Usage: server, TTL: -time.Second}), gateway: good, wantClient: "expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state, serverErr, clientErr := handshake(t, mtls.ServerTLS(config(a, tt.server)), mtls.ClientTLS(config(a, tt.gateway)))
			checkErr(t, "server", serverErr, tt.wantServer, tt.wantClient != "")
			checkErr(t, "client", clientErr, tt.wantClient, tt.wantServer != "")
			if tt.wantServer+tt.wantClient != "" {
				return
			}
			id, err := mtls.PeerGateway(state, a.Pool(), domain, time.Now().Add(48*time.Hour))
			if err != nil || id.String() != gatewayID {
				t.Errorf("PeerGateway = %v, %v, want %v", id, err, gatewayID)
			}
			if _, err := mtls.PeerGateway(state, other.Pool(), domain, time.Now()); err == nil {
				t.Error("PeerGateway under a trust bundle without the root = nil")
			}
			if state.Version != tls.VersionTLS13 {
				t.Errorf("TLS version = %x, want 1.3", state.Version)
			}
		})
	}
}

func checkErr(t *testing.T, side string, err error, want string, otherFails bool) {
	t.Helper()
	switch {
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s error = %v, want %q", side, err, want)
	case want == "" && !otherFails && err != nil:
		t.Errorf("%s error = %v", side, err)
	}
}

func TestCallerWithoutCertificateIsLetInButIsNoGateway(t *testing.T) {
	t.Parallel()
	a := mtlstest.New(t, time.Now)
	server := mtls.ServerTLS(config(a, a.ControlPlane(t, replicaID)))
	state, serverErr, clientErr := handshake(t, server, mtls.RenewTLS(config(a, nil)))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("handshake errors = %v, %v", serverErr, clientErr)
	}
	if id, err := mtls.PeerGateway(state, a.Pool(), domain, time.Now()); err == nil {
		t.Errorf("PeerGateway = %v without a certificate", id)
	}
}

func TestPinnedRoot(t *testing.T) {
	t.Parallel()
	a, other := mtlstest.New(t, time.Now), mtlstest.New(t, time.Now)
	leaf := a.ControlPlane(t, replicaID)
	// A chain that only carries the pinned root, without being signed under it.
	smuggled := other.ControlPlane(t, replicaID)
	smuggled.Certificate = append(smuggled.Certificate, a.Root.Raw)
	tests := []struct {
		name   string
		server *tls.Certificate
		pin    mtls.SPKI
		want   string
	}{
		{name: "right", server: leaf, pin: mtls.SPKIOf(a.Root)},
		{name: "wrong", server: leaf, pin: mtls.SPKIOf(other.Root), want: "does not contain the pinned root"},
		{name: "intermediate", server: leaf, pin: mtls.SPKIOf(a.Intermediate), want: "not a root"},
		{name: "leaf", server: leaf, pin: mtls.SPKIOf(leaf.Leaf), want: "does not contain the pinned root"},
		{name: "root of another chain", server: smuggled, pin: mtls.SPKIOf(a.Root), want: "verify certificate chain"},
		{name: "gateway", server: a.Gateway(t, gatewayID), pin: mtls.SPKIOf(a.Root), want: "not meant for this side"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, serverErr, clientErr := handshake(t, mtls.ServerTLS(config(a, tt.server)), mtls.EnrolTLS(config(a, nil), tt.pin))
			checkErr(t, "client", clientErr, tt.want, false)
			if tt.want == "" && serverErr != nil {
				t.Errorf("server error = %v", serverErr)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	a := mtlstest.New(t, time.Now)
	client := mtls.ClientTLS(config(a, a.Gateway(t, gatewayID)))
	client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err, _ := handshake(t, mtls.ServerTLS(config(a, a.ControlPlane(t, replicaID))), client); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestRootsAreAskedOnEveryConnection(t *testing.T) {
	t.Parallel()
	old, next := mtlstest.New(t, time.Now), mtlstest.New(t, time.Now)
	pool := old.Pool()
	c := config(old, old.ControlPlane(t, replicaID))
	c.Roots = func() *x509.CertPool { return pool }
	server := mtls.ServerTLS(c)
	client := mtls.ClientTLS(config(old, next.Gateway(t, gatewayID)))
	if _, err, _ := handshake(t, server, client); err == nil {
		t.Fatal("a gateway under an unknown root was accepted")
	}
	pool = pool.Clone()
	pool.AddCert(next.Root)
	if _, err, _ := handshake(t, server, client); err != nil {
		t.Errorf("after the root was added: %v", err)
	}
	if _, err := mtls.VerifyGateway([]*x509.Certificate{next.Root}, nil, domain, time.Now()); err == nil {
		t.Error("VerifyGateway without a trust bundle = nil")
	}
}
