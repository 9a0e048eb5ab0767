package redistest_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/testkit/redistest"
)

// TestARedisIsThereGoesAndComesBack also sees that one that hangs takes connections and does not answer.
func TestARedisIsThereGoesAndComesBack(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	if _, err := s.Do("SET", "a", "1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, s.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.CA.Cert)
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 200 * time.Millisecond}, Config: &tls.Config{RootCAs: roots}}
	s.Pause()
	if c, err := d.Dial("tcp", s.TLSAddress); err == nil {
		c.Close()
		t.Error("it answers while it hangs")
	}
	s.Resume()
	d.NetDialer.Timeout = 10 * time.Second
	c, err := d.Dial("tcp", s.TLSAddress)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.Stop()
	if _, err := s.Do("PING"); err == nil {
		t.Error("it answers when it is gone")
	}
	s.Restart()
	if got := s.Keys(); len(got) > 0 {
		t.Errorf("it has kept %v", got)
	}
}

func TestAClusterDividesTheKeys(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t)
	taken := 0
	for _, n := range nodes {
		if _, err := n.Do("SET", "somewhere", "1"); err == nil {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("%d of %d nodes have taken the same key", taken, len(nodes))
	}
}
