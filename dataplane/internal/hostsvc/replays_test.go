package hostsvc_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestReplaysAreTold(t *testing.T) {
	t.Parallel()
	table := hostsvc.NewReplayTable(0)
	r, now := table.Bind("route", "a"), time.Now()
	until := now.Add(time.Minute)
	steps := []struct {
		name   string
		by     *hostsvc.Replays
		owner  string
		nonce  string
		at     time.Duration
		expect hostsvc.Replay
	}{
		{"first", r, "alice", "1", 0, hostsvc.ReplayFirst},
		{"again", r, "alice", "1", time.Second, hostsvc.ReplayAgain},
		{"again after a push", table.Bind("route", "a"), "alice", "1", time.Second, hostsvc.ReplayAgain},
		{"another", r, "alice", "2", time.Second, hostsvc.ReplayFirst},
		{"of somebody else", r, "bob", "1", time.Second, hostsvc.ReplayFirst},
		{"elsewhere", table.Bind("routea", ""), "alice", "1", time.Second, hostsvc.ReplayFirst},
		{"at its end", r, "alice", "1", time.Minute, hostsvc.ReplayAgain},
	}
	for _, s := range steps {
		if got := s.by.Take(s.owner, []byte(s.nonce), now.Add(s.at), until); got != s.expect {
			t.Errorf("%s: Take() = %d, want %d", s.name, got, s.expect)
		}
	}
	if got := r.Take("alice", []byte("2"), now.Add(2*time.Minute), now.Add(3*time.Minute)); got != hostsvc.ReplayFirst {
		t.Errorf("what has ended is remembered: %d", got)
	}
	if got := r.Take("alice", []byte("2"), now.Add(2*time.Minute), now.Add(3*time.Minute)); got != hostsvc.ReplayAgain {
		t.Errorf("what has ended and come again is not remembered: %d", got)
	}
}

// A full table takes nothing, until something in it has ended: what was taken once is never forgotten before.
func TestReplaysAreNotForgottenToMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 640
	table := hostsvc.NewReplayTable(most)
	r, now := table.Bind("x"), time.Now()
	taken, full := []string{}, 0
	for i := range 4 * most {
		name := strconv.Itoa(i)
		switch r.Take("o", []byte(name), now, now.Add(time.Minute)) {
		case hostsvc.ReplayFirst:
			taken = append(taken, name)
		case hostsvc.ReplayUnsure:
			full++
		case hostsvc.ReplayAgain:
			t.Fatalf("%s was there before it came", name)
		}
	}
	if len(taken) > most || full == 0 || table.Len() != len(taken) {
		t.Errorf("%d are taken and %d held, of at most %d", len(taken), table.Len(), most)
	}
	for _, name := range taken {
		if got := r.Take("o", []byte(name), now, now.Add(time.Minute)); got != hostsvc.ReplayAgain {
			t.Fatalf("%s is forgotten: %d", name, got)
		}
	}
	later := now.Add(2 * time.Minute)
	for i := range most / 4 {
		if got := r.Take("o", []byte("later"+strconv.Itoa(i)), later, later.Add(time.Minute)); got != hostsvc.ReplayFirst {
			t.Fatalf("there is no room though all has ended: %d", got)
		}
	}
	if table.Len() > most {
		t.Errorf("%d are held", table.Len())
	}
}

func TestOneOfManyIsFirst(t *testing.T) {
	t.Parallel()
	r, now := hostsvc.NewReplayTable(0).Bind("x"), time.Now()
	var first atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				if r.Take("o", []byte(strconv.Itoa(i)), now, now.Add(time.Minute)) == hostsvc.ReplayFirst {
					first.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := first.Load(); got != 200 {
		t.Errorf("%d were first, want 200", got)
	}
}
