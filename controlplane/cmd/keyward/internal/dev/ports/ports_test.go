package ports_test

import (
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/cmd/keyward/internal/dev/ports"
)

func TestAutoTakesTheSameAddressesAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ports.json")
	wish := ports.Wish{Gateways: 2, Auto: true}
	first, err := ports.Choose(wish, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ports.Choose(wish, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second plan differs:\n%s", diff)
	}
	l, err := net.Listen("tcp", first.HTTP[1])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	third, err := ports.Choose(wish, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if third.HTTP[1] == first.HTTP[1] || third.HTTP[0] != first.HTTP[0] {
		t.Errorf("HTTP = %v after %v with the second taken", third.HTTP, first.HTTP)
	}
}

func TestAddressesAreDifferent(t *testing.T) {
	t.Parallel()
	p, err := ports.Choose(ports.Wish{Gateways: 20, Auto: true}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, addr := range append(append(append([]string{p.Admin, p.Sync, p.ControlStatus, p.Upstream, p.Database}, p.HTTP...), p.HTTPS...), p.Status...) {
		if seen[addr] || addr == "" {
			t.Errorf("address %q is taken twice", addr)
		}
		seen[addr] = true
	}
}

func TestGivenAddressesAreConsecutive(t *testing.T) {
	t.Parallel()
	// The port after a free one may be taken on this machine: try a few.
	var err error
	for range 20 {
		var base, p ports.Plan
		if base, err = ports.Choose(ports.Wish{Gateways: 1, Auto: true}, "", nil); err != nil {
			t.Fatal(err)
		}
		if p, err = ports.Choose(ports.Wish{Gateways: 2, Auto: true, HTTP: base.HTTP[0]}, "", nil); err != nil {
			continue
		}
		host, port, _ := net.SplitHostPort(base.HTTP[0])
		n, _ := strconv.Atoi(port)
		want := []string{base.HTTP[0], net.JoinHostPort(host, strconv.Itoa(n+1))}
		if diff := cmp.Diff(want, p.HTTP); diff != "" {
			t.Errorf("HTTP addresses (-want +got):\n%s", diff)
		}
		return
	}
	t.Errorf("no two free ports in a row: %v", err)
}

func TestInnerAddressesGiveWay(t *testing.T) {
	t.Parallel()
	// Whoever listens on the defaults of the inner addresses, two instances can be there with different outer ones.
	auto, err := ports.Choose(ports.Wish{Gateways: 1, Auto: true}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	wish := ports.Wish{Gateways: 1, Admin: auto.Admin, HTTP: auto.HTTP[0], HTTPS: auto.HTTPS[0], Upstream: auto.Upstream}
	first, err := ports.Choose(wish, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{first.Sync, first.ControlStatus, first.Status[0]} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	second, err := ports.Choose(wish, "", nil)
	if err != nil || second.Sync == first.Sync || second.Status[0] == first.Status[0] {
		t.Errorf("Choose() = %+v, %v with the inner addresses of %+v taken; want others", second, err, first)
	}
}

func TestWhatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, wish := range map[string]ports.Wish{
		"by somebody":   {Auto: true, Admin: l.Addr().String()},
		"by ourselves":  {Auto: true, Admin: "127.0.0.1:23999", Upstream: "127.0.0.1:23999"},
		"not a port":    {Auto: true, Admin: "127.0.0.1:http-ish"},
		"not this host": {Auto: true, Admin: "192.0.2.1:7443"},
	} {
		if _, err := ports.Choose(wish, "", nil); err == nil || !strings.Contains(err.Error(), "cannot listen on") {
			t.Errorf("%s: Choose() = %v, want what cannot be listened on", name, err)
		}
	}
}

func TestWhatOneDrewNobodyElseDraws(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("ports are claimed on Linux only")
	}
	file := filepath.Join(t.TempDir(), "ports.json")
	wish := ports.Wish{Auto: true}
	var mine, others ports.Claims
	first, err := ports.Choose(wish, file, &mine)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Release()
	second, err := ports.Choose(wish, file, &others) // which would take the same again
	if err != nil {
		t.Fatal(err)
	}
	if second.Admin == first.Admin || second.Database == first.Database {
		t.Errorf("drew %+v, which another instance had drawn as %+v", second, first)
	}
	mine.Release()
	var again ports.Claims
	defer again.Release()
	third, err := ports.Choose(ports.Wish{Auto: true, Admin: second.Admin}, "", &again)
	if err != nil || third.Admin != second.Admin {
		t.Errorf("Choose() = %+v, %v; an address that is given is not drawn", third, err)
	}
}
