package sealedcache_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/sealedcache"
)

func TestABurstOfChangesIsOneWriteAndTheNewestWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sets := map[int64]int{}
	synctest.Test(t, func(t *testing.T) {
		w.now = time.Now()
		c := w.cache()
		c.OnStep(func(step string) {
			if step == "create "+"config.sealed" {
				sets[int64(len(sets))]++
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		for i := range 20 {
			c.Keep(w.id, w.key, someSet(t, int64(i+1)))
			if i == 0 {
				synctest.Wait()
			}
		}
		<-time.After(6 * time.Second)
		synctest.Wait()
		if len(sets) != 2 {
			t.Errorf("%d writes, want that of the first and that of the last", len(sets))
		}
		c.Keep(w.id, w.key, someSet(t, 21))
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got, err := w.open(); err != nil || got.Revision != 21 {
			t.Errorf("what was left at the end was not written: %v, %v", got, err)
		}
	})
}

func TestRunRemovesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(".sealed-cache-123", []byte("half"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.cache().Run(ctx); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(w.dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestMetricsAreExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	c := sealedcache.New(sealedcache.Config{Dir: w.dir, Now: time.Now, Registry: registry})
	w.write("config.sealed", nil)
	_, _ = c.Open(w.id, w.key)
	c.Serve(true)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 5 {
		t.Errorf("%d metrics, want 5", len(families))
	}
	for _, f := range families {
		if !strings.Contains(string(manual), "`"+f.GetName()) {
			t.Errorf("docs/operating.md does not explain %s", f.GetName())
		}
		m := f.GetMetric()[0]
		if f.GetName() == "keyward_gateway_sealed_cache_refused_total" && m.GetLabel()[0].GetValue() != "damaged" {
			t.Errorf("refused: %v", m)
		}
		if f.GetName() == "keyward_gateway_sealed_cache_serving" && m.GetGauge().GetValue() != 1 {
			t.Errorf("serving: %v", m)
		}
	}
}
