package issuance_test

import (
	"net/netip"
	"testing"

	"keyward.dev/controlplane/internal/issuance"
)

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	t.Parallel()
	some, err := issuance.ParseNetworks([]string{"10.1.0.0/16", "fd00:1::/32", "127.0.0.1/32"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string][2]bool{ // without further networks, and with
		"8.8.8.8": {true, true}, "2606:4700::1": {true, true}, "::ffff:8.8.8.8": {true, true},
		"10.1.2.3": {false, true}, "10.2.2.3": {false, false}, "::ffff:10.1.2.3": {false, true}, "127.0.0.1": {false, true}, "127.0.0.2": {false, false},
		"169.254.169.254": {}, "::ffff:169.254.169.254": {}, "fd00:ec2::254": {}, "fd00:1::1": {false, true}, "fe80::1%eth0": {}, "::1": {}, "::": {},
		"0.0.0.0": {}, "100.100.100.200": {}, "172.16.0.1": {}, "192.168.0.1": {}, "192.0.0.192": {}, "224.0.0.1": {}, "255.255.255.255": {},
		"64:ff9b::a9fe:a9fe": {}, "2002:a9fe:a9fe::1": {}, "2001::1": {}, "ff02::1": {}, "fec0::1": {},
	} {
		a := netip.MustParseAddr(address)
		if got := [2]bool{issuance.Networks(nil).Allows(a), some.Allows(a)}; got != want {
			t.Errorf("%s: allowed %v, want %v", address, got, want)
		}
	}
	if some.Allows(netip.Addr{}) {
		t.Error("no address is allowed")
	}
	for _, text := range []string{"", "10.0.0.0", "10.0.0.1/8", "x/8", "10.0.0.0/33", "fe80::1%eth0/64"} {
		if _, err := issuance.ParseNetworks([]string{text}); err == nil {
			t.Errorf("%q is taken for a network", text)
		}
	}
}

// FuzzAddresses holds that nothing is dialled that package netip calls anything but global, in whatever form it is written.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{"8.8.8.8", "::ffff:127.0.0.1", "fe80::1%x", "64:ff9b::7f00:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := netip.ParseAddr(text)
		if err != nil || !issuance.Networks(nil).Allows(a) {
			return
		}
		if a = a.Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() {
			t.Errorf("%s is allowed", text)
		}
	})
}
