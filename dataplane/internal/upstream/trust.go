package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
)

// errTrustLost is wrapped by the error of a dial that could not be verified, so that it was not tried.
var errTrustLost = errors.New("it is not known whom to trust")

// sessionsPerService is how many TLS sessions are kept for later connections.
const sessionsPerService = 64

// trust is how the targets of a service prove who they are. Its CA files are read again when they change; while they
// cannot be read there are no connections.
type trust struct {
	name  string
	conf  *runtime.TLS
	http2 bool
	files *hostsvc.Files
	log   *slog.Logger

	config atomic.Pointer[tls.Config] // nil: a file cannot be read
	stamp  string                     // of the files as last loaded; used by check
	seen   string                     // of the files as last looked at; used by check
}

func newTrust(s *runtime.Service, files *hostsvc.Files, log *slog.Logger) *trust {
	t := &trust{name: s.Name, conf: s.TLS, http2: s.Protocol == runtime.HTTP2, files: files, log: log}
	t.stamp = t.stamps(map[string]string{})
	t.seen = t.stamp
	t.load()
	return t
}

// check loads changed files and says whether it did. A file is loaded only when it was the same twice: it may be half
// written.
func (t *trust) check(known map[string]string) bool {
	if len(t.conf.CA) == 0 {
		return false
	}
	now := t.stamps(known)
	if now != t.seen || now == t.stamp {
		t.seen = now
		return false
	}
	t.stamp = now
	t.load()
	return true
}

func (t *trust) stamps(known map[string]string) string {
	var b strings.Builder
	for _, path := range t.conf.CA {
		if known[path] == "" {
			known[path] = t.files.Stamp(path)
		}
		b.WriteString(known[path])
		b.WriteByte(';')
	}
	return b.String()
}

func (t *trust) load() {
	roots, err := t.roots()
	if err != nil {
		t.config.Store(nil)
		t.log.Error("service closed: its CA cannot be read", "service", t.name, "err", err)
		return
	}
	t.config.Store(t.newConfig(roots))
}

// roots returns nil for the system's.
func (t *trust) roots() (*x509.CertPool, error) {
	if len(t.conf.CA)+len(t.conf.Authorities) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	for _, c := range t.conf.Authorities {
		roots.AddCert(c)
	}
	for _, path := range t.conf.CA {
		pem, err := t.files.Read(path)
		if err != nil {
			return nil, err
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", path)
		}
	}
	return roots, nil
}

// forTarget returns the configuration for a connection to a target.
func (t *trust) forTarget(to *target) (*tls.Config, error) {
	c := t.config.Load()
	if c == nil {
		return nil, errTrustLost
	}
	c, err := to.shown.config(c, time.Now())
	if err != nil {
		return nil, err
	}
	if c.ServerName == "" {
		c = c.Clone()
		c.ServerName = to.hostname
	}
	return c, nil
}
