package hostsvc_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestEgressRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		allow, deny []string
		pass, fail  []string
	}{
		{
			name: "default", pass: []string{"10.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "8.8.8.8", "100.100.100.201"},
			fail: []string{
				"169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "100.100.100.200",
				"168.63.129.16", "fd00:ec2::254", "0.0.0.0", "::", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
				"64:ff9b:1::a9fe:a9fe", "2001:0:808:808::5601:5601", "::a9fe:a9fe", "fd00:ec2::23",
			},
		},
		{
			name: "allow", allow: []string{"10.0.0.0/8", "2001:db8::/32"},
			pass: []string{"10.1.2.3", "2001:db8::1"}, fail: []string{"11.0.0.1", "::1", "169.254.169.254"},
		},
		{
			name: "deny wins", allow: []string{"10.0.0.0/8"}, deny: []string{"10.1.0.0/16"},
			pass: []string{"10.2.0.1"}, fail: []string{"10.1.0.1", "::ffff:10.1.0.1"},
		},
		{
			name: "a wide range does not name link-local", allow: []string{"0.0.0.0/0", "::/0"},
			pass: []string{"10.0.0.1", "::1"}, fail: []string{"169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200"},
		},
		{
			name: "named link-local", allow: []string{"169.254.10.0/24", "0.0.0.0/0"},
			pass: []string{"169.254.10.1", "10.0.0.1"}, fail: []string{"169.254.169.254"},
		},
		{
			name: "all of link-local does not name metadata services", allow: []string{"169.254.0.0/16"},
			pass: []string{"169.254.10.1"}, fail: []string{"169.254.169.254", "169.254.170.2"},
		},
		{name: "a metadata service by itself", allow: []string{"169.254.169.254"}, pass: []string{"169.254.169.254"}},
		{
			name: "denied addresses behind NAT64", deny: []string{"10.0.0.0/8"},
			pass: []string{"64:ff9b::808:808"}, fail: []string{"64:ff9b::a00:1", "2002:a00:1::"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := hostsvc.NewEgressRules(tt.allow, tt.deny)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range tt.pass {
				if err := r.Check(netip.MustParseAddr(a)); err != nil {
					t.Errorf("Check(%s) = %v, want nil", a, err)
				}
			}
			for _, a := range tt.fail {
				if err := r.Check(netip.MustParseAddr(a)); !errors.Is(err, hostsvc.ErrDenied) {
					t.Errorf("Check(%s) = %v, want ErrDenied", a, err)
				}
			}
		})
	}
}

func TestEgressRulesRefuseWhatIsNoRange(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "host", "10.0.0.0/33", "fe80::1%eth0", "::ffff:0:0/90"} {
		if _, err := hostsvc.NewEgressRules(nil, []string{s}); err == nil {
			t.Errorf("NewEgressRules(deny %q) = nil error", s)
		}
	}
}

func TestDialerChecksTheAddressBehindTheName(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	open, err := hostsvc.NewEgressRules(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := hostsvc.NewEgressRules(nil, []string{"127.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := hostsvc.NewDialer(open, time.Second).DialContext(t.Context(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatalf("DialContext(localhost) = %v", err)
	}
	_ = c.Close()
	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0"} {
		if _, err := hostsvc.NewDialer(closed, time.Second).DialContext(t.Context(), "tcp", host+":"+port); !errors.Is(err, hostsvc.ErrDenied) {
			t.Errorf("DialContext(%s) = %v, want ErrDenied", host, err)
		}
	}
	if _, err := hostsvc.NewDialer(open, time.Second).DialContext(t.Context(), "unix", "/tmp/s"); err == nil {
		t.Error("DialContext(unix) = nil error")
	}
}
