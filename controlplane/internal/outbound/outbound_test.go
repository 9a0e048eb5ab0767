package outbound_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/outbound"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		allow []string
		pass  []string
		fail  []string
	}{
		{
			name: "default", pass: []string{"10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "100.100.100.201"},
			fail: []string{
				"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0",
				"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "64:ff9b::7f00:1", "2002:7f00:1::",
				"64:ff9b::a9fe:a9fe", "224.0.0.1", "255.255.255.255", "ff02::1",
			},
		},
		{name: "this machine", allow: []string{"127.0.0.1/32"}, pass: []string{"127.0.0.1", "10.0.0.1"}, fail: []string{"127.0.0.2", "::1", "169.254.169.254"}},
		{name: "everything names nothing", allow: []string{"0.0.0.0/0", "::/0"}, fail: []string{"127.0.0.1", "::1", "169.254.169.254"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var allow []netip.Prefix
			for _, a := range tt.allow {
				allow = append(allow, netip.MustParsePrefix(a))
			}
			c := outbound.New(allow)
			for _, a := range tt.pass {
				if err := c.Check(netip.MustParseAddr(a)); err != nil {
					t.Errorf("Check(%s) = %v, want nil", a, err)
				}
			}
			for _, a := range tt.fail {
				if c.Check(netip.MustParseAddr(a)) == nil {
					t.Errorf("Check(%s) = nil", a)
				}
			}
		})
	}
}

// TestCalls calls a server on this machine, also by a name of it.
func TestCalls(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write([]byte(r.Method + " " + string(body)))
	}))
	t.Cleanup(s.Close)
	here := outbound.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	byName := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	for _, tt := range []struct {
		name  string
		by    *outbound.Caller
		url   string
		limit int64
		want  string
	}{
		{"allowed", here, s.URL, 100, "GET "},
		{"too much", here, s.URL, 3, "it has more than 3 bytes"},
		{"elsewhere", here, s.URL + "/elsewhere", 100, "it answers 302"},
		{"denied", outbound.New(nil), s.URL, 100, outbound.ErrDenied.Error()},
		{"denied by name", outbound.New(nil), byName, 100, outbound.ErrDenied.Error()},
	} {
		got, err := tt.by.Get(t.Context(), tt.url, tt.limit)
		told := string(got)
		if err != nil {
			told = err.Error()
		}
		if !strings.Contains(told, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, told, tt.want)
		}
	}
	if got, err := here.Post(t.Context(), s.URL, "text/plain", []byte("this"), 100); err != nil || string(got) != "POST this" {
		t.Errorf("%q, %v", got, err)
	}
}
