package hostsvc_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

// login is a try, as tests write it.
type login struct {
	account, address string
	right            bool
}

// guarded tries to log in: whether a hash would have been computed, and if not how long to wait.
func guarded(g *hostsvc.Guard, l login, now time.Time) (wait time.Duration, hot bool) {
	var a hostsvc.Attempt
	g.Begin(&a, nil, []byte(l.account), netip.MustParseAddr(l.address), now)
	if wait = a.Wait(); wait > 0 {
		return wait, false
	}
	if wait = a.Take(); wait > 0 {
		return wait, false
	}
	var cold hostsvc.Attempt
	g.Begin(&cold, nil, []byte("?"), netip.MustParseAddr(l.address), now)
	hot = a.Flow() != cold.Flow()
	if l.right {
		a.Right()
	}
	return 0, hot
}

func TestGuard(t *testing.T) {
	t.Parallel()
	limits := hostsvc.GuardLimits{Pair: 3, Address: 6, Account: 8, Window: time.Minute}
	many := func(n int, l func(i int) login) (all []login) {
		for i := range n {
			all = append(all, l(i))
		}
		return all
	}
	from := func(i int) string { return fmt.Sprintf("198.51.%d.%d", i/250, i%250) }
	wrong := func(account, address string) func(int) login {
		return func(int) login { return login{account, address, false} }
	}
	tests := []struct {
		name   string
		before []login
		then   login
		wait   bool
		hot    bool
	}{
		{"nobody was there", nil, login{"alice", "192.0.2.1", false}, false, false},
		{"guesses below the bound", many(2, wrong("alice", "192.0.2.1")), login{"alice", "192.0.2.1", true}, false, false},
		{"guesses at one account from one address", many(3, wrong("alice", "192.0.2.1")), login{"alice", "192.0.2.1", true}, true, false},
		{"the same account from another address", many(300, wrong("alice", "192.0.2.1")), login{"alice", "192.0.2.2", false}, false, false},
		{"another account from the same address", many(3, wrong("alice", "192.0.2.1")), login{"bob", "192.0.2.1", false}, false, false},
		{
			"one address, many accounts",
			many(6, func(i int) login { return login{fmt.Sprint("user", i), "192.0.2.1", false} }),
			login{"bob", "192.0.2.1", true},
			true, false,
		},
		{
			"one address, many accounts, and one that logs in there",
			append([]login{{"bob", "192.0.2.1", true}}, many(6, func(i int) login { return login{fmt.Sprint("user", i), "192.0.2.1", false} })...),
			login{"bob", "192.0.2.1", true},
			false, false,
		},
		{
			"many addresses, one account: a fresh address is slowed, not locked out",
			many(1000, func(i int) login { return login{"alice", from(i), false} }),
			login{"alice", "192.0.2.1", true},
			false, true,
		},
		{
			"many addresses, one account: a fresh address has one guess",
			append(many(1000, func(i int) login { return login{"alice", from(i), false} }), login{"alice", "192.0.2.1", false}),
			login{"alice", "192.0.2.1", true},
			true, false,
		},
		{
			"many addresses, one account: where she logs in nothing changes",
			append([]login{{"alice", "192.0.2.1", true}}, append(many(1000, func(i int) login { return login{"alice", from(i), false} }), login{"alice", "192.0.2.1", false})...),
			login{"alice", "192.0.2.1", true},
			false, false,
		},
		{"right passwords cost nothing", many(100, func(int) login { return login{"alice", "192.0.2.1", true} }), login{"alice", "192.0.2.1", true}, false, false},
		{
			"right passwords of many users from one address",
			many(100, func(i int) login { return login{fmt.Sprint("user", i), "192.0.2.1", true} }),
			login{"alice", "192.0.2.1", false},
			false, false,
		},
		{
			"addresses of one IPv6 subscriber",
			many(3, func(i int) login { return login{"alice", fmt.Sprintf("2001:db8::%x", i+1), false} }),
			login{"alice", "2001:db8::ffff:1", true},
			true, false,
		},
		{
			"addresses of two IPv6 subscribers",
			many(3, func(i int) login { return login{"alice", fmt.Sprintf("2001:db8::%x", i+1), false} }),
			login{"alice", "2001:db8:0:1::1", true},
			false, false,
		},
		{"IPv4 written as IPv6", many(3, wrong("alice", "192.0.2.1")), login{"alice", "::ffff:192.0.2.1", true}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := hostsvc.NewGuardTable(0).Bind("basic-auth", limits)
			now := time.Now()
			for _, l := range tt.before {
				guarded(g, l, now)
			}
			wait, hot := guarded(g, tt.then, now)
			if (wait > 0) != tt.wait || hot != tt.hot {
				t.Errorf("wait %s, slowed %v; want a wait %v, slowed %v", wait, hot, tt.wait, tt.hot)
			}
			if wait == 0 {
				return
			}
			if again, _ := guarded(g, tt.then, now.Add(wait)); again > 0 {
				t.Errorf("after the %s that it was told it has to wait %s more", wait, again)
			}
		})
	}
}

func TestGuardCountsAttemptsUnderWay(t *testing.T) {
	t.Parallel()
	g := hostsvc.NewGuardTable(0).Bind("x", hostsvc.GuardLimits{Pair: 3, Address: 10, Account: 10, Window: time.Minute})
	now, client := time.Now(), netip.MustParseAddr("192.0.2.1")
	started := make([]hostsvc.Attempt, 4)
	for i := range started {
		g.Begin(&started[i], nil, []byte("alice"), client, now)
		if wait := started[i].Take(); (wait > 0) != (i == 3) {
			t.Errorf("attempt %d of 4 at once waits %s", i, wait)
		}
	}
	started[0].Undo()
	started[0].Undo() // once is enough
	if wait := started[3].Take(); wait > 0 {
		t.Errorf("after one of which nothing was found out: %s", wait)
	}
	if started[1].Take() == 0 {
		t.Error("what was taken back once is there twice")
	}
}

func TestAttemptsThatAreRefusedAreNotCounted(t *testing.T) {
	t.Parallel()
	g := hostsvc.NewGuardTable(0).Bind("x", hostsvc.GuardLimits{Pair: 2, Address: 4, Account: 100, Window: time.Minute})
	now, client := time.Now(), netip.MustParseAddr("192.0.2.1")
	take := func(account string, at time.Time) time.Duration {
		var a hostsvc.Attempt
		g.Begin(&a, nil, []byte(account), client, at)
		return a.Take()
	}
	for i := range 4 {
		take(fmt.Sprint("user", i), now)
	}
	for range 10 {
		if take("bob", now) == 0 {
			t.Error("an address that guesses goes on")
		}
	}
	if wait := take("bob", now.Add(15*time.Second)); wait > 0 {
		t.Errorf("what the address was refused counts against the account: %s", wait)
	}
}

func TestGuardsOfEqualLimitsShareCounters(t *testing.T) {
	t.Parallel()
	table, now := hostsvc.NewGuardTable(0), time.Now()
	limits := hostsvc.GuardLimits{Pair: 1, Address: 10, Account: 10, Window: time.Minute}
	try := func(sort string, l hostsvc.GuardLimits) bool {
		wait, _ := guarded(table.Bind(sort, l), login{"alice", "192.0.2.1", false}, now)
		return wait == 0
	}
	if !try("a", limits) || try("a", limits) {
		t.Error("a handle made anew begins anew")
	}
	if !try("b", limits) {
		t.Error("accounts of another sort are counted together")
	}
}

func TestGuardIsBounded(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewGuardTable(1024)
	g := table.Bind("x", hostsvc.GuardLimits{Pair: 5, Address: 5, Account: 5, Window: time.Minute})
	now := time.Now()
	for range 5 {
		guarded(g, login{"alice", "192.0.2.1", false}, now)
	}
	for i := range 20_000 {
		guarded(g, login{fmt.Sprint("user", i), fmt.Sprintf("10.%d.%d.1", i/250, i%250), false}, now)
	}
	if n := table.Len(); n > 2*(1024+64) {
		t.Errorf("%d counters are held", n)
	}
	if wait, _ := guarded(g, login{"alice", "192.0.2.1", true}, now); wait == 0 {
		t.Error("a flood of new accounts pushed out a counter that refuses")
	}
}

func BenchmarkGuard(b *testing.B) {
	g := hostsvc.NewGuardTable(0).Bind("x", hostsvc.GuardLimits{Pair: 5, Address: 50, Account: 50, Window: time.Minute})
	account, client, now := []byte("alice"), netip.MustParseAddr("192.0.2.1"), time.Now()
	room := make([]byte, 0, hostsvc.AttemptRoom+len(account))
	var a hostsvc.Attempt
	b.ReportAllocs()
	for b.Loop() {
		g.Begin(&a, room, account, client, now)
		if a.Wait() > 0 || a.Take() > 0 {
			b.Fatal("refused")
		}
		a.Right()
	}
}
