package hostsvc_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestTokensAreRememberedUntilTheyEnd(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewTokenTable(0)
	now := time.Unix(1_800_000_000, 0)
	c, again, other := table.Bind("route", "rules"), table.Bind("route", "rules"), table.Bind("routerules")
	key := c.Key([]byte("token"))
	c.Put(&key, "alice", now.Add(time.Second), 100)
	if got := again.Get(&key, now.Add(time.Second-1)); got != "alice" {
		t.Errorf("Get() = %v to who comes after a push with the same rules", got)
	}
	if again.Key([]byte("token")) != key || again.Key([]byte("tokem")) == key || other.Key([]byte("token")) == key {
		t.Error("keys are not those of a token and who verified it")
	}
	if got := c.Get(&key, now.Add(time.Second)); got != nil || table.Len() != 0 {
		t.Errorf("Get() = %v at the end, %d remembered", got, table.Len())
	}
	c.Put(&key, "alice", time.Time{}, 100)
	if got := c.Get(&key, now); got != nil {
		t.Errorf("Get() = %v of a token that has no end", got)
	}
	c.Put(&key, "alice", now.Add(time.Second), 100)
	c.Put(&key, "bob", now.Add(time.Second), 100)
	if got := c.Get(&key, now); got != "bob" || table.Len() != 1 {
		t.Errorf("Get() = %v, %d remembered", got, table.Len())
	}
	c.Drop(&key)
	if got := c.Get(&key, now); got != nil {
		t.Errorf("Get() = %v after Drop", got)
	}
	if a, b := hostsvc.NewTokenTable(0).Bind("x").Key(nil), hostsvc.NewTokenTable(0).Bind("x").Key(nil); a == b {
		t.Error("two processes have the same secret")
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	t.Parallel()
	const max = 1 << 20
	table := hostsvc.NewTokenTable(max)
	c, now := table.Bind("x"), time.Unix(1_800_000_000, 0)
	hot := c.Key([]byte("hot"))
	c.Put(&hot, "hot", now.Add(time.Hour), 0)
	for i := range 20_000 {
		key := c.Key(fmt.Append(nil, i))
		c.Put(&key, i, now.Add(time.Hour), 128)
		c.Get(&hot, now)
	}
	if n := table.Len(); n > max/1024+1 || n < max/1024/2 {
		t.Errorf("%d remembered of 1 KiB each in %d bytes", n, max)
	}
	if got := c.Get(&hot, now); got != "hot" {
		t.Error("one that is used all the time was dropped for others")
	}
	huge := c.Key([]byte("huge"))
	c.Put(&huge, "huge", now.Add(time.Hour), max)
	if got := c.Get(&huge, now); got != nil {
		t.Error("one that is larger than its part is remembered")
	}
}

func TestTokensAreRememberedByManyAtOnce(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewTokenTable(1 << 18)
	c, now := table.Bind("x"), time.Unix(1_800_000_000, 0)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				key := c.Key(fmt.Append(nil, i))
				switch g % 3 {
				case 0:
					c.Put(&key, i, now.Add(time.Hour), 100)
				case 1:
					if got := c.Get(&key, now); got != nil && got != i {
						t.Errorf("Get() = %v, want %d", got, i)
					}
				default:
					c.Drop(&key)
				}
			}
		})
	}
	all.Wait()
}

func TestEpochsTellWhatIsNew(t *testing.T) {
	t.Parallel()
	c := hostsvc.NewTokenTable(0).Bind("x")
	a, b := new(int), new(int)
	seen := map[uint64]bool{}
	for _, newest := range []*int{a, b, a} {
		n := c.Epoch(newest)
		if seen[n] || c.Epoch(newest) != n {
			t.Errorf("Epoch() = %d, which is that of another time or changes", n)
		}
		seen[n] = true
	}
}
