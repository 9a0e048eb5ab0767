// Package certfile keeps a TLS certificate that operators give as files, and reads it again when the files change. Both planes use
// it for the certificates their listeners show; it trusts nothing and verifies nobody.
package certfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const reloadEvery = time.Second

// Certificate is a certificate, read again from its files when they change.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	stamp             string // of the files as last tried; used by Run only
}

// Load reads the certificate and its key.
func Load(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	var err error
	if c.stamp, err = c.stat(); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return c, nil
}

// Get is a tls.Config's GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no certificate")
}

// Leaf returns the certificate that is in use.
func (c *Certificate) Leaf() *x509.Certificate { return c.current.Load().Leaf }

// Run watches the files until ctx ends. A pair that cannot be used leaves the last one in use: a file may be half written.
func (c *Certificate) Run(ctx context.Context) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			c.reload()
		}
	}
}

func (c *Certificate) reload() {
	stamp, err := c.stat()
	if err != nil || stamp == c.stamp {
		return
	}
	c.stamp = stamp
	if err := c.load(); err != nil {
		c.log.Warn("certificate not reloaded, the last one stays in use", "err", err)
		return
	}
	c.log.Info("certificate reloaded", "not_after", c.current.Load().Leaf.NotAfter)
}

func (c *Certificate) load() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current.Store(&cert)
	return nil
}

func (c *Certificate) stat() (string, error) {
	var stamp strings.Builder
	for _, f := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		fmt.Fprint(&stamp, info.ModTime().UnixNano(), " ", info.Size(), ";")
	}
	return stamp.String(), nil
}
