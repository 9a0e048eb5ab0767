package app

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Settings are a gateway's process settings. What it enforces is not among them: that comes from the control plane.
type Settings struct {
	ControlPlane            []string
	JoinToken               settings.Secret
	ServiceAccountTokenFile string
	Group                   string
	RootSPKI                string
	IdentityDir             string
	TrustDomain             string
	// SealedCache is the directory of the sealed cache; empty: none.
	SealedCache string
	MaxCacheAge time.Duration
	Fallback    FallbackBundle
	Labels      []string

	Listen       []string
	TLSCert      string
	TLSKey       string
	StatusListen string
	DrainTimeout time.Duration
	AccessLog    string
	// HTTPEngine reads HTTP/1.1.
	HTTPEngine     string
	MaxConnections int
	// BodyMemory bounds, in MiB, the request bodies that are held whole.
	BodyMemory     int
	ClientTimeouts server.Timeouts
	// FileRoots are directories below which resources may name files of this machine.
	FileRoots []string
	// CertificateRoots are directories below which certificates may name files of this machine, private keys too.
	CertificateRoots []string
	Log              telemetry.LogOptions
}

// Flags declares the settings.
func (s *Settings) Flags(fs *flag.FlagSet) {
	settings.ListVar(fs, &s.ControlPlane, "control-plane", nil, "`host:port` of the control plane's sync port; may be repeated")
	settings.SecretVar(fs, &s.JoinToken, "join-token", "join `token` of a gateway that has no identity yet")
	fs.StringVar(&s.ServiceAccountTokenFile, "service-account-token-file", "", "`path` of a projected Kubernetes service-account token to join with")
	fs.StringVar(&s.Group, "group", "", "gateway `group` to join; needed only if what it joins with allows several")
	fs.StringVar(&s.RootSPKI, "root-spki", "", "SHA-256 of the control plane root's public key in `hex`; a join token carries it")
	fs.StringVar(&s.IdentityDir, "identity-dir", "", "`directory` that keeps the identity over restarts; empty: in memory only")
	fs.StringVar(&s.SealedCache, "sealed-cache", "",
		"`directory` of this gateway alone that keeps the last configuration, sealed, to start from while there is no control plane; empty: none")
	fs.DurationVar(&s.MaxCacheAge, "max-cache-age", 24*time.Hour, "how `long` ago the control plane may have stood behind the sealed cache for a start to use it")
	fs.StringVar(&s.Fallback.Source, "fallback-bundle", "", "`path or https URL` of the group's fallback bundle, to start from while there is neither a control plane nor a cache; empty: none")
	fs.StringVar(&s.Fallback.KeyFile, "bundle-key-file", "", "`file` with the group's bundle key; read at each use")
	fs.StringVar(&s.Fallback.SignerFile, "bundle-signer-file", "", "`file` with the public key that bundles are signed with; read at each use")
	fs.StringVar(&s.TrustDomain, "trust-domain", "keyward.local", "trust `domain` of the installation")
	settings.ListVar(fs, &s.Labels, "label", nil, "`key=value` that the gateway says of itself; may be repeated")
	settings.ListVar(fs, &s.Listen, "listen", []string{"http=127.0.0.1:8000"},
		"`name=host:port` to serve; http speaks plain HTTP, https speaks TLS, and so do names that begin with these and a hyphen; name=fd:socket takes a socket that systemd holds; may be repeated")
	fs.StringVar(&s.TLSCert, "tls-cert", "", "PEM `file` with the certificate that https listeners show where the group's configuration has none; read again when it changes; empty: none")
	fs.StringVar(&s.TLSKey, "tls-key", "", "PEM `file` with its key")
	fs.StringVar(&s.StatusListen, "status-listen", "127.0.0.1:8100", "`host:port` of /livez, /readyz, /metrics and /status")
	fs.DurationVar(&s.DrainTimeout, "drain-timeout", 30*time.Second, "how `long` requests under way may take after SIGTERM")
	fs.StringVar(&s.AccessLog, "access-log", "stdout", "`stdout, off or a path`")
	fs.StringVar(&s.HTTPEngine, "http-engine", string(server.Keyward),
		"what speaks HTTP/1.1: `keyward`, or net/http, Go's own, which is slower and there to fall back on")
	fs.IntVar(&s.MaxConnections, "max-connections", 0, "`how many` connections of clients there may be; 0: three quarters of how many files may be open")
	fs.IntVar(&s.BodyMemory, "body-memory", 0,
		"how many `MiB` of request bodies may be held at once for policies that need them whole; 0: a quarter of GOMEMLIMIT, or 256 without one")
	fs.DurationVar(&s.ClientTimeouts.Head, "client-head-timeout", 10*time.Second, "how `long` a client may take to send a request's head")
	fs.DurationVar(&s.ClientTimeouts.Idle, "client-idle-timeout", 75*time.Second, "how `long` a client's connection without a request is kept")
	fs.DurationVar(&s.ClientTimeouts.Write, "client-write-timeout", 30*time.Second, "how `long` a client may take nothing of what is sent")
	settings.ListVar(fs, &s.FileRoots, "file-root", nil,
		"`directory` below which resources may name files of this machine, as gateway:/path; may be repeated; none: no files")
	settings.ListVar(fs, &s.CertificateRoots, "certificate-root", nil,
		"`directory` below which certificates may name files of this machine, with private keys, as gateway:/path; may be repeated; none: no files")
	s.Log.Flags(fs)
}

// Check names everything that is wrong with the settings.
func (s *Settings) Check() error {
	var faults settings.Faults
	if len(s.ControlPlane) == 0 {
		faults.Addf("control-plane", "is needed")
	}
	for _, a := range append([]string{s.StatusListen}, s.ControlPlane...) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			faults.Add("", fmt.Errorf("%q is not host:port", a))
		}
	}
	_, err := s.listeners()
	faults.Add("listen", err)
	if (s.TLSCert == "") != (s.TLSKey == "") {
		faults.Addf("tls-cert", "goes with --tls-key")
	}
	_, err = settings.Pairs(s.Labels)
	faults.Add("label", err)
	_, err = s.pin()
	faults.Add("root-spki", err)
	if e := server.Engine(s.HTTPEngine); e != server.Keyward && e != server.NetHTTP {
		faults.Addf("http-engine", "is neither %s nor %s", server.Keyward, server.NetHTTP)
	}
	for name, d := range map[string]time.Duration{
		"client-head-timeout": s.ClientTimeouts.Head, "client-idle-timeout": s.ClientTimeouts.Idle, "client-write-timeout": s.ClientTimeouts.Write,
	} {
		if d <= 0 {
			faults.Addf(name, "is not positive")
		}
	}
	if s.MaxConnections < 0 {
		faults.Addf("max-connections", "is negative")
	}
	if s.BodyMemory < 0 {
		faults.Addf("body-memory", "is negative")
	}
	for name, roots := range map[string][]string{"file-root": s.FileRoots, "certificate-root": s.CertificateRoots} {
		for _, root := range roots {
			if !filepath.IsAbs(root) {
				faults.Addf(name, "%q is no absolute path", root)
			}
		}
	}
	if s.SealedCache != "" && s.IdentityDir == "" {
		faults.Addf("sealed-cache", "needs --identity-dir: without the identity's key nothing opens it after a restart")
	}
	if s.SealedCache != "" && s.MaxCacheAge <= 0 {
		faults.Addf("max-cache-age", "is not positive")
	}
	s.Fallback.check(s.Group, &faults)
	if s.DrainTimeout < 0 {
		faults.Addf("drain-timeout", "is negative")
	}
	return faults.Err()
}

func (s *Settings) listeners() ([]server.Listener, error) {
	var out []server.Listener
	var errs []error
	names := map[string]bool{}
	for _, text := range s.Listen {
		l, err := server.ParseListener(text)
		if err == nil && names[l.Name] {
			err = fmt.Errorf("listener %s is given twice", l.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		names[l.Name] = true
		out = append(out, l)
	}
	return out, errors.Join(errs...)
}

func (s *Settings) pin() (*mtls.SPKI, error) {
	if s.RootSPKI == "" {
		return nil, nil //nolint:nilnil // no pin is no fault: a join token may carry it
	}
	p, err := mtls.ParseSPKI(s.RootSPKI)
	if err != nil {
		return nil, err
	}
	return &p, nil
}
