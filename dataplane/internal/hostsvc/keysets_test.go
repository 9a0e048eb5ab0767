package hostsvc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

// issuer is a server of keys that the test leads.
type issuer struct {
	mu      sync.Mutex
	body    []byte
	maxAge  time.Duration
	err     error
	takes   time.Duration
	fetched int
}

func (i *issuer) fetch(ctx context.Context, _ hostsvc.KeySource) (hostsvc.Fetched, error) {
	i.mu.Lock()
	got, takes := hostsvc.Fetched{Body: i.body, MaxAge: i.maxAge}, i.takes
	err := i.err
	i.fetched++
	i.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return hostsvc.Fetched{}, ctx.Err()
		}
	}
	return got, err
}

func (i *issuer) set(change func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched
}

func source() hostsvc.KeySource {
	return hostsvc.KeySource{URL: "https://id.test/jwks", Refresh: 5 * time.Minute, Stale: time.Hour, Timeout: 5 * time.Second}
}

// underKeys runs a test in a world of its own time, with a table that runs.
func underKeys(t *testing.T, test func(t *testing.T, table *hostsvc.KeySets, i *issuer)) {
	t.Helper()
	t.Parallel()
	first := tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "one"))
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{body: first}
		table := hostsvc.NewKeySets(i.fetch, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- table.Run(ctx) }()
		test(t, table, i)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

func ids(s *jwk.Set) string {
	if s == nil {
		return "none"
	}
	out := ""
	for _, k := range s.Keys {
		out += k.ID + " "
	}
	return out
}

func TestAKeySetIsFetchedOnceForAll(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		i.set(func(i *issuer) { i.takes = time.Second })
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := ids(table.Open(source()).Keys()); got != "one " {
					t.Errorf("keys %q", got)
				}
			})
		}
		all.Wait()
		if n := i.count(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		if a, b := table.Open(source()), table.Open(source()); a != b || table.Len() != 1 {
			t.Error("the same source has two sets: nothing would survive a push")
		}
		other := source()
		other.Refresh = time.Minute
		if table.Open(other) == table.Open(source()) {
			t.Error("sets that are kept differently are one")
		}
	})
}

func TestAKeySetIsFetchedAheadOfItsEnd(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		first := k.Keys()
		pass(280 * time.Second)
		synctest.Wait()
		if n := i.count(); n != 2 {
			t.Fatalf("%d fetches before the end, want 2", n)
		}
		if k.Current(time.Now()) != first {
			t.Error("the same keys are another set: what was verified with them would be verified again")
		}
		i.set(func(i *issuer) { i.maxAge = 20 * time.Second })
		pass(300 * time.Second)
		n := i.count()
		pass(60 * time.Second)
		if got := i.count() - n; got < 2 || got > 4 {
			t.Errorf("%d fetches in a minute of a set that may be kept for 20 seconds", got)
		}
		i.set(func(i *issuer) { i.maxAge = time.Nanosecond })
		pass(time.Minute)
		n = i.count()
		pass(time.Minute)
		if got := i.count() - n; got > 5 {
			t.Errorf("%d fetches in a minute of a set that may not be kept", got)
		}
	})
}

func TestAKeySetThatNobodyWantsIsDropped(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		pass(90 * time.Minute)
		synctest.Wait()
		n := i.count()
		if table.Len() != 0 {
			t.Error("it is still kept")
		}
		pass(time.Hour)
		if i.count() != n {
			t.Error("it is still fetched")
		}
		if got := ids(k.Keys()); got != "one " || table.Len() != 1 {
			t.Errorf("keys %q for who has it all the same", got)
		}
	})
}

func TestAnUnknownKeyHasTheSetFetchedAgainWithinBounds(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		i.set(func(i *issuer) { i.body = tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "two")) })
		if s, answer := newer(k); ids(s) != "two " || answer != hostsvc.KeyKnown {
			t.Errorf("Newer() = %q, %v", ids(s), answer)
		}
		for range 1000 {
			newer(k)
		}
		if n := i.count(); n != 4 {
			t.Errorf("%d fetches, want the first and 3", n)
		}
		pass(hostsvc.KeyAgain)
		for range 1000 {
			newer(k)
		}
		if n := i.count(); n != 5 {
			t.Errorf("%d fetches when the next is due, want one more", n)
		}
	})
}

// Whoever makes up names of keys uses up the fetches for such; a key that is really added meanwhile is not said not to be there,
// and is there soon, whoever asks.
func TestMadeUpKeysDoNotHideNewOnes(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		none := func(*jwk.Set) bool { return false }
		known := 0
		for range 100 {
			if _, answer := k.Newer(k.Keys(), "made-up", none); answer == hostsvc.KeyKnown {
				known++
			}
		}
		if known != 3 {
			t.Errorf("%d times it was said that a key is not there, want once for each fetch", known)
		}
		i.set(func(i *issuer) { i.body = tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "two")) })
		if s, answer := newer(k); ids(s) != "one " || answer != hostsvc.KeyLater {
			t.Errorf("Newer() = %q, %v: it was not looked for", ids(s), answer)
		}
		pass(hostsvc.KeyAgain)
		synctest.Wait()
		if got := ids(k.Current(time.Now())); got != "two " {
			t.Errorf("keys %q when to come again was said to be good", got)
		}
		n := i.count()
		pass(time.Minute)
		if got := i.count() - n; got > 0 {
			t.Errorf("%d fetches that nobody asked for", got)
		}
	})
}

func TestAWithdrawnKeyNeedsNoFetch(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		one, two := tokentest.NewKey(t, jwk.EdDSA, "one"), tokentest.NewKey(t, jwk.EdDSA, "two")
		i.set(func(i *issuer) { i.body = tokentest.Set(two) })
		newer(k)
		is := func(name string) func(*jwk.Set) bool {
			return func(s *jwk.Set) bool { return s.Keys[0].ID == name }
		}
		n := i.count()
		for range 100 {
			if _, answer := k.Newer(k.Keys(), "one", is("one")); answer != hostsvc.KeyKnown {
				t.Fatalf("answer %v for a key that was there and is no more", answer)
			}
		}
		if i.count() != n {
			t.Errorf("%d fetches for it", i.count()-n)
		}
		i.set(func(i *issuer) { i.body = tokentest.Set(one) })
		if s, answer := k.Newer(k.Keys(), "three", is("one")); ids(s) != "one " || answer != hostsvc.KeyKnown {
			t.Errorf("Newer() = %q, %v when it is back", ids(s), answer)
		}
		if _, answer := k.Newer(k.Keys(), "two", is("two")); answer != hostsvc.KeyKnown {
			t.Errorf("answer %v for the other one, which was withdrawn", answer)
		}
	})
}

func TestWhoMustNotWaitDoesNot(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		held := table.Hold(source())
		k := table.Open(source())
		synctest.Wait()
		if got := ids(k.Current(time.Now())); got != "one " {
			t.Fatalf("keys %q of a set that is held, before anybody asked", got)
		}
		i.set(func(i *issuer) { i.body, i.takes = tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "two")), time.Second })
		two := func(s *jwk.Set) bool { return s.Keys[0].ID == "two" }
		begin := time.Now()
		if _, answer := k.Later(k.Current(begin), "two", two); answer != hostsvc.KeyUnsure || time.Since(begin) > 0 {
			t.Errorf("answer %v after %v", answer, time.Since(begin))
		}
		pass(2 * time.Second)
		if s, answer := k.Later(nil, "two", two); ids(s) != "two " || answer != hostsvc.KeyKnown {
			t.Errorf("Later() = %q, %v when it was fetched", ids(s), answer)
		}
		pass(3 * time.Hour)
		if got := ids(k.Current(time.Now())); got != "two " || table.Len() != 1 {
			t.Errorf("keys %q after hours in which nobody asked", got)
		}
		runtime.KeepAlive(held)
	})
}

// A fetch that was under way when the key was added may not have it; who waits for it has the set fetched once more.
func TestARoundThatBeganBeforeTheRotationIsNotTheLastWord(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		i.set(func(i *issuer) { i.takes = time.Second })
		go newer(k)
		synctest.Wait()
		i.set(func(i *issuer) { i.body = tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "two")) })
		if s, answer := newer(k); ids(s) != "two " || answer != hostsvc.KeyKnown {
			t.Errorf("Newer() = %q, %v", ids(s), answer)
		}
	})
}

func TestAnOutageIsLivedThroughUntilTheSetIsStale(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		i.set(func(i *issuer) { i.err = errors.New("down") })
		pass(64 * time.Minute)
		begin := time.Now()
		if got := ids(k.Keys()); got != "one " || time.Since(begin) != 0 {
			t.Errorf("keys %q after %v, want the last at once", got, time.Since(begin))
		}
		if s, answer := newer(k); ids(s) != "one " || answer != hostsvc.KeyUnsure || time.Since(begin) > 6*time.Second {
			t.Errorf("Newer() = %q, %v: nobody can know", ids(s), answer)
		}
		pass(2 * time.Minute)
		if got := ids(k.Keys()); got != "none" {
			t.Errorf("keys %q of a stale set", got)
		}
		n := i.count()
		pass(10 * time.Minute)
		if got := i.count() - n; got > 25 {
			t.Errorf("%d tries in ten minutes", got)
		}
		i.set(func(i *issuer) { i.err = nil })
		pass(31 * time.Second)
		if got := ids(k.Keys()); got != "one " {
			t.Errorf("keys %q once it is back", got)
		}
	})
}

func TestNobodyWaitsLongerThanTheTimeout(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		i.set(func(i *issuer) { i.takes = time.Hour })
		begin := time.Now()
		if got := ids(table.Open(source()).Keys()); got != "none" || time.Since(begin) > 5*time.Second {
			t.Errorf("keys %q after %v", got, time.Since(begin))
		}
	})
}

func TestGarbageIsAFailure(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		k.Keys()
		i.set(func(i *issuer) { i.body = []byte("<html>") })
		if s, answer := newer(k); ids(s) != "one " || answer != hostsvc.KeyUnsure {
			t.Errorf("Newer() = %q, %v", ids(s), answer)
		}
	})
}

func TestTheTableIsBounded(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, _ *issuer) {
		for n := range 3000 {
			s := source()
			s.URL += fmt.Sprint(n)
			table.Open(s)
		}
		if n := table.Len(); n != 1024 {
			t.Errorf("%d sets", n)
		}
	})
}

// pass lets time pass in the test's own world.
func pass(d time.Duration) { <-time.After(d) }

// newer asks for a set without the key called one.
func newer(k *hostsvc.KeySet) (*jwk.Set, hostsvc.KeyAnswer) {
	return k.Newer(k.Current(time.Now()), "two", func(s *jwk.Set) bool { return s.Keys[0].ID != "one" })
}

// All who wait for the same rotation have the set fetched once.
func TestARotationIsFetchedOnce(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		k := table.Open(source())
		tried := k.Keys()
		i.set(func(i *issuer) { i.body, i.takes = tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "two")), time.Second })
		two := func(s *jwk.Set) bool { return s.Keys[0].ID == "two" }
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if s, answer := k.Newer(tried, "two", two); ids(s) != "two " || answer != hostsvc.KeyKnown {
					t.Errorf("Newer() = %q, %v", ids(s), answer)
				}
			})
		}
		all.Wait()
		if s, _ := k.Newer(tried, "two", two); ids(s) != "two " {
			t.Errorf("Newer() = %q for who comes late", ids(s))
		}
		if n := i.count(); n != 2 {
			t.Errorf("%d fetches, want the first and one more", n)
		}
	})
}
