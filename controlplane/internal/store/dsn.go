package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrInsecureDSN says that a connection string would let somebody between the control plane and the database read or
// change what is sent.
var ErrInsecureDSN = errors.New("database connection is not verified")

// checkDSN refuses a configuration any of whose hosts would be spoken to without sslmode=verify-full. The driver's default
// is "prefer", which falls back to plain text; a fall-back counts like a host of its own. Loopback addresses and sockets
// need no TLS.
func checkDSN(cfg *pgx.ConnConfig) error {
	hosts := []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}
	for _, h := range append(hosts, cfg.Fallbacks...) {
		if isLocal(h.Host) || isVerified(h.TLSConfig) {
			continue
		}
		return fmt.Errorf("%w: host %q needs sslmode=verify-full and sslrootcert (or the flag that allows an insecure database)",
			ErrInsecureDSN, h.Host)
	}
	return nil
}

// isVerified reports whether the chain and the name of the server's certificate are checked. The driver expresses
// sslmode=require and verify-ca by InsecureSkipVerify, with or without a check of its own of the chain.
func isVerified(cfg *tls.Config) bool {
	return cfg != nil && !cfg.InsecureSkipVerify && cfg.ServerName != ""
}

// isLocal takes a name literally: anything that has to be resolved, except localhost, may be answered by somebody else.
func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
