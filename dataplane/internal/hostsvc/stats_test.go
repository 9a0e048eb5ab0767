package hostsvc_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/check/jwk"
)

func TestStatsOfKeys(t *testing.T) {
	underKeys(t, func(t *testing.T, table *hostsvc.KeySets, i *issuer) {
		services := hostsvc.New(hostsvc.Config{})
		services.KeySets = table
		k := table.Open(source())
		k.Keys()
		begin := time.Now()
		k.Newer(k.Keys(), "one", func(s *jwk.Set) bool { return s.Keys[0].ID == "one" })
		none := func(*jwk.Set) bool { return false }
		for range 4 {
			k.Newer(k.Keys(), "none", none)
		}
		want := hostsvc.KeyStats{Fetched: 4, Found: 1, Absent: 2, Later: 2, Fresh: 1, Oldest: begin}
		if diff := cmp.Diff(want, services.Stats().Keys); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		pass(time.Minute)
		i.set(func(i *issuer) { i.err = errors.New("down") })
		k.Newer(k.Keys(), "none", none)
		synctest.Wait()
		if s := services.Stats().Keys; s.Failed == 0 || s.Unsure != 1 || s.Stale != 1 || s.Fresh != 0 {
			t.Errorf("%+v when it is down", s)
		}
		pass(2 * time.Hour)
		table.Open(source())
		if s := services.Stats().Keys; s.Missing != 1 || !s.Oldest.IsZero() {
			t.Errorf("%+v when it was down for long", s)
		}
	})
}

func TestStatsOfWhatCountsOnce(t *testing.T) {
	t.Parallel()
	services := hostsvc.New(hostsvc.Config{MaxReplayEntries: 1})
	services.Once = hostsvc.NewProofTable(1)
	now := time.Now()
	until := now.Add(time.Minute)
	services.Once.Use("k", "1", now, until)
	services.Once.Use("k", "2", now, until)
	services.Proofs.Use("k", "1", now, until)
	replays := services.Replays.Bind("x")
	taken, full := 0, uint64(0)
	for n := range byte(200) {
		if replays.Take("o", []byte{n}, now, until) == hostsvc.ReplayUnsure {
			full++
		} else {
			taken++
		}
	}
	cache := services.Tokens.Bind("x")
	key := cache.Key([]byte("t"))
	cache.Get(&key, now)
	cache.Put(&key, "v", until, 10)
	cache.Get(&key, now)
	cache.Get(&key, until)
	got := services.Stats()
	want := hostsvc.Stats{
		OneTime: hostsvc.UseStats{Entries: 1, Full: 1}, Proofs: hostsvc.UseStats{Entries: 1}, Replays: hostsvc.UseStats{Entries: taken, Full: full},
		Tokens: hostsvc.TokenStats{Hits: 1, Misses: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" || full == 0 {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}
