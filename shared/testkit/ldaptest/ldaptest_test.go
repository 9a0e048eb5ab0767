package ldaptest_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"keyward.dev/shared/testkit/ldaptest"
)

// TestADirectoryIsThereGoesAndComesBack also sees that one that hangs takes connections and does not answer.
func TestADirectoryIsThereGoesAndComesBack(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	roots := x509.NewCertPool()
	roots.AddCert(s.CA.Cert)
	shake := func(name string, timeout time.Duration) error {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: timeout}, Config: &tls.Config{RootCAs: roots, ServerName: name}}
		c, err := d.Dial("tcp", s.TLSAddress)
		if err == nil {
			c.Close()
		}
		return err
	}
	for _, name := range []string{"localhost", "127.0.0.1"} {
		if err := shake(name, 10*time.Second); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if err := shake("elsewhere.test", 10*time.Second); err == nil {
		t.Error("its certificate is for any name")
	}
	s.Pause()
	if err := shake("localhost", 200*time.Millisecond); err == nil {
		t.Error("it answers while it hangs")
	}
	s.Resume()
	if err := shake("localhost", 10*time.Second); err != nil {
		t.Errorf("after it hung: %v", err)
	}
	s.Stop()
	if err := shake("localhost", 10*time.Second); err == nil {
		t.Error("it answers while it is stopped")
	}
	s.Restart()
	if err := shake("localhost", 10*time.Second); err != nil {
		t.Errorf("started again: %v", err)
	}
}
