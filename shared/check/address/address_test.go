package address_test

import (
	"net/netip"
	"slices"
	"testing"

	"keyward.dev/shared/check/address"
)

func TestWhatIsBehindAnAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"64:ff9b::a9fe:a9fe": "169.254.169.254", "2002:a9fe:a9fe::1": "169.254.169.254", "::a9fe:a9fe": "169.254.169.254",
		"2001:0:a9fe:a9fe::": "169.254.169.254", "2001:0:808:808::5601:5601": "169.254.169.254",
		"64:ff9b:1::a9fe:a9fe": "169.254.169.254", "64:ff9b:1::808:808": "8.8.8.8",
		"::1": "", "::": "", "2606:4700::1111": "", "127.0.0.1": "", "::ffff:127.0.0.1": "", "2001:db8::a9fe:a9fe": "", "64:ff9b:2::a9fe:a9fe": "",
	} {
		got := address.Embedded(netip.MustParseAddr(text))
		if want == "" && slices.Contains(got, netip.MustParseAddr("169.254.169.254")) ||
			want != "" && !slices.Contains(got, netip.MustParseAddr(want)) {
			t.Errorf("Embedded(%s) = %v, want %q", text, got, want)
		}
	}
	for _, text := range []string{"::1", "::", "2606:4700::1111", "127.0.0.1", "::ffff:127.0.0.1"} {
		if got := address.Embedded(netip.MustParseAddr(text)); len(got) > 0 {
			t.Errorf("Embedded(%s) = %v", text, got)
		}
	}
}

func TestClassesHaveToBeNamedByThemselves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		allowed, address  string
		unsafe, notPublic bool
	}{
		{"", "198.51.100.1", false, false},
		{"", "127.0.0.1", false, true},
		{"", "::1", false, true},
		{"", "10.0.0.1", false, true},
		{"", "169.254.1.1", true, true},
		{"", "0.0.0.0", true, true},
		{"", "::", true, true},
		{"", "fd20:ce::254", true, true},
		{"0.0.0.0/0", "169.254.1.1", true, true},
		{"169.254.0.0/16", "169.254.1.1", false, false},
		{"169.254.0.0/16", "169.254.169.254", true, true},
		{"169.254.169.254/32", "169.254.169.254", false, false},
		{"100.64.0.0/10", "100.100.100.200", true, true},
		{"fd00::/8", "fd00:ec2::254", true, true},
		{"10.0.0.0/8", "10.0.0.1", false, false},
	} {
		var allowed []netip.Prefix
		if tt.allowed != "" {
			allowed = append(allowed, netip.MustParsePrefix(tt.allowed))
		}
		a := netip.MustParseAddr(tt.address)
		if got := address.Unsafe().Denies(a, allowed); got != tt.unsafe {
			t.Errorf("%s with %q: unsafe = %v", a, tt.allowed, got)
		}
		if got := address.NotPublic().Denies(a, allowed); got != tt.notPublic {
			t.Errorf("%s with %q: not public = %v", a, tt.allowed, got)
		}
	}
}
