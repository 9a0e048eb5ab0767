package hostsvc

import (
	"crypto/tls"
	"crypto/x509"
	"net"
)

// verifying is for a connection to an address: whoever answers there has a certificate for the name, or else for the host of the
// address, that one of the authorities vouches for, or else one of the system's. There is no way not to verify.
func verifying(address, name string, authorities []*x509.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if host, _, err := net.SplitHostPort(address); err == nil && name == "" {
		c.ServerName = host
	}
	if len(authorities) > 0 {
		c.RootCAs = x509.NewCertPool()
		for _, a := range authorities {
			c.RootCAs.AddCert(a)
		}
	}
	return c
}
