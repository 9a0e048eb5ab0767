package iprestriction

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestTableEqualsALinearSearch compares with netip.Prefix.Contains on random ranges, at and around their ends.
func TestTableEqualsALinearSearch(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var list []string
		var prefixes []netip.Prefix
		for range rng.IntN(40) {
			p := randomPrefix(rng)
			list, prefixes = append(list, p.String()), append(prefixes, p)
		}
		table, err := newTable(list)
		if err != nil {
			t.Fatal(err)
		}
		var probes []netip.Addr
		for _, p := range prefixes {
			last := lastAddr(p)
			probes = append(probes, p.Addr(), last, p.Addr().Prev(), last.Next())
		}
		for range 50 {
			probes = append(probes, randomPrefix(rng).Addr())
		}
		for _, a := range probes {
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if a.IsValid() && table.contains(a) != want {
				t.Fatalf("contains(%s) = %v, want %v in %v", a, !want, want, list)
			}
		}
	}
}

// randomPrefix draws from few addresses, so that ranges nest, overlap and touch.
func randomPrefix(rng *rand.Rand) netip.Prefix {
	if rng.IntN(2) == 0 {
		a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), byte(rng.IntN(4)), byte(rng.IntN(256))})
		return netip.PrefixFrom(a, 33-1-rng.IntN(33)).Masked()
	}
	b := [16]byte{0: 0x20, 1: 1, 7: byte(rng.IntN(4)), 8: byte(rng.IntN(2)), 15: byte(rng.IntN(256))}
	return netip.PrefixFrom(netip.AddrFrom16(b), 128-rng.IntN(129)).Masked()
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestTableRefusesWhatIsNoRange(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "host", "10.0.0.0/33", "fe80::1%eth0", "::ffff:0:0/90", "10.0.0"} {
		if _, err := newTable([]string{s}); err == nil {
			t.Errorf("newTable(%q) = nil error", s)
		}
	}
	table, err := newTable([]string{"::ffff:10.0.0.0/104"})
	if err != nil || !table.contains(netip.MustParseAddr("10.1.2.3")) {
		t.Errorf("a 4-in-6 range does not mean the IPv4 one: %v", err)
	}
}

func BenchmarkContains(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	var list []string
	for range 10_000 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), 0}), 24).String())
	}
	table, err := newTable(list)
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("10.20.30.40")
	b.ReportAllocs()
	for b.Loop() {
		table.contains(a)
	}
}
