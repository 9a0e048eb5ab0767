package egress_test

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/egress"
)

func nobody() ([]netip.Addr, error) { return nil, nil }

func TestOnlyPublicAddressesAndNamedRangesAreDialled(t *testing.T) {
	t.Parallel()
	own := func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	for _, tt := range []struct {
		name    string
		allowed string
		address string
		ok      bool
	}{
		{"a public one", "", "198.51.100.1", true},
		{"a public one of IPv6", "", "2606:4700::1111", true},
		{"loopback", "", "127.0.0.1", false},
		{"all of loopback", "", "127.9.9.9", false},
		{"loopback of IPv6", "", "::1", false},
		{"loopback inside IPv6", "", "::ffff:127.0.0.1", false},
		{"loopback as IPv6 was once", "", "::127.0.0.1", false},
		{"no address", "", "0.0.0.0", false},
		{"no address of IPv6", "", "::", false},
		{"link-local", "", "169.254.1.1", false},
		{"link-local of IPv6", "", "fe80::1", false},
		{"link-local with a zone", "", "fe80::1%eth0", false},
		{"metadata", "", "169.254.169.254", false},
		{"metadata inside IPv6", "", "::ffff:169.254.169.254", false},
		{"metadata behind NAT64", "", "64:ff9b::a9fe:a9fe", false},
		{"metadata behind 6to4", "", "2002:a9fe:a9fe::1", false},
		{"metadata of containers", "", "169.254.170.2", false},
		{"metadata of AWS over IPv6", "", "fd00:ec2::254", false},
		{"metadata of Google over IPv6", "", "fd20:ce::254", false},
		{"metadata of Azure", "", "168.63.129.16", false},
		{"metadata of Alibaba", "", "100.100.100.200", false},
		{"a private one", "", "10.0.0.1", false},
		{"another private one", "", "172.20.0.1", false},
		{"a private one of IPv6", "", "fd12::1", false},
		{"a carrier's", "", "100.64.0.1", false},
		{"multicast", "", "224.0.0.1", false},
		{"our own", "", "203.0.113.7", false},
		{"an allowed private one", "10.0.0.0/8", "10.0.0.1", true},
		{"beside an allowed one", "10.20.0.0/16", "10.21.0.1", false},
		{"an allowed one inside IPv6", "10.0.0.0/8", "::ffff:10.0.0.1", true},
		{"our own in an allowed range", "10.0.0.0/8", "10.1.2.3", false},
		{"our own by itself", "10.1.2.3", "10.1.2.3", true},
		{"everything names nothing of these", "0.0.0.0/0", "127.0.0.1", false},
		{"everything names no private ones", "0.0.0.0/0", "10.0.0.1", false},
		{"everything of IPv6 neither", "::/0", "fd12::1", false},
		{"metadata beside link-local", "169.254.0.0/16", "169.254.169.254", false},
		{"link-local by itself", "169.254.0.0/16", "169.254.1.1", true},
		{"metadata of Alibaba beside a carrier's", "100.64.0.0/10", "100.100.100.200", false},
		{"metadata of AWS beside private ones", "fd00::/8", "fd00:ec2::254", false},
		{"metadata by itself", "169.254.169.254/32", "169.254.169.254", true},
		{"allowed loopback", "127.0.0.0/8", "127.0.0.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rules, err := egress.New(strings.Fields(tt.allowed), own)
			if err != nil {
				t.Fatal(err)
			}
			err = rules.Check(netip.MustParseAddr(tt.address))
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, egress.ErrDenied) {
				t.Errorf("Check(%s) = %v, want it allowed: %v", tt.address, err, tt.ok)
			}
		})
	}
}

func TestWhoDoesNotKnowItsOwnAddressesDialsNone(t *testing.T) {
	t.Parallel()
	rules, err := egress.New(nil, func() ([]netip.Addr, error) { return nil, errors.New("no") })
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Check(netip.MustParseAddr("198.51.100.1")); !errors.Is(err, egress.ErrDenied) {
		t.Errorf("Check = %v", err)
	}
}

func TestRangesAreRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.0/104", ""} {
		if _, err := egress.New([]string{text}, nobody); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// get asks a server with a client that may dial loopback, and answers what it was told.
func get(t *testing.T, timeout time.Duration, handler http.HandlerFunc, networks ...netip.Prefix) (string, error) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	rules, err := egress.New([]string{"127.0.0.0/8"}, nobody)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := rules.Client(egress.Config{Networks: networks, Roots: roots, Timeout: timeout, MaxBody: 1000})
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	write := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, n)) }
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // of the error, a regular expression; empty: none
	}{
		{"nothing", write(0), ""},
		{"as much as may be", write(1000), ""},
		{"one byte more", write(1001), "too large"},
		{"without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "too large"},
		{"a slow one", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // to return would end the answer well, which who has just given up may still get to see
		}, "deadline exceeded|Client.Timeout"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "redirect"},
		{"long headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if tt.name == "a slow one" {
				timeout = time.Second
			}
			_, err := get(t, timeout, tt.handler)
			if (err == nil) != (tt.want == "") || err != nil && !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNetworksNarrowDown(t *testing.T) {
	t.Parallel()
	ok := func(http.ResponseWriter, *http.Request) {}
	if _, err := get(t, time.Minute, ok, netip.MustParsePrefix("127.0.0.1/32")); err != nil {
		t.Errorf("inside: %v", err)
	}
	if _, err := get(t, time.Minute, ok, netip.MustParsePrefix("198.51.100.0/24")); !errors.Is(err, egress.ErrDenied) {
		t.Errorf("outside: %v", err)
	}
}

// TestNamesAreCheckedByWhatTheyMean dials a name that looks like any other: what it resolves to counts.
func TestNamesAreCheckedByWhatTheyMean(t *testing.T) {
	t.Parallel()
	rules, err := egress.New(nil, nobody)
	if err != nil {
		t.Fatal(err)
	}
	client := rules.Client(egress.Config{Timeout: 5 * time.Second, MaxBody: 1})
	for _, url := range []string{"https://localhost:1/", "https://127.0.0.1:1/", "https://[::1]:1/", "https://2130706433:1/", "https://0x7f.1:1/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: connected", url)
			continue
		}
		if strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: it was dialled: %v", url, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "https") {
		if resp != nil {
			resp.Body.Close()
		}
		t.Errorf("in the clear: %v", err)
	}
}

// FuzzAddresses holds that nothing is dialled that package netip calls anything but global, in whatever form it is written.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{"8.8.8.8", "::ffff:127.0.0.1", "fe80::1%x", "64:ff9b::7f00:1"} {
		f.Add(seed)
	}
	rules, err := egress.New(nil, nobody)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := netip.ParseAddr(text)
		if err != nil || rules.Check(a) != nil {
			return
		}
		if a = a.WithZone("").Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() {
			t.Errorf("%s may be dialled", text)
		}
	})
}
