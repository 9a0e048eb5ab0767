package hostsvc_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

// busy occupies all of n workers until the returned function is called.
func busy(w *hostsvc.Workers, n int) (release func()) {
	gate := make(chan struct{})
	for range n {
		go w.Do(0, func() { <-gate })
	}
	synctest.Wait()
	return func() { close(gate); synctest.Wait() }
}

func TestWorkersRunSoManyAtOnce(t *testing.T) {
	t.Parallel()
	w := hostsvc.NewWorkers(2)
	var now, most atomic.Int64
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			w.Do(uint64(i), func() {
				most.Store(max(most.Load(), now.Add(1)))
				now.Add(-1)
			})
		})
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
	if !w.Do(1, func() {}) {
		t.Error("afterwards nobody gets a turn")
	}
}

func TestWorkersGiveTurns(t *testing.T) {
	t.Parallel()
	type caller struct {
		name string
		flow uint64
	}
	flood := func(n int, flow uint64) (all []caller) {
		for i := range n {
			all = append(all, caller{fmt.Sprintf("%d.%d", flow, i), flow})
		}
		return all
	}
	tests := []struct {
		name string
		come []caller
		// want are those that come first, in order; sent are those that are sent away.
		want, sent []string
	}{
		{"one flow in order", flood(3, 1), []string{"1.0", "1.1", "1.2"}, nil},
		{"two flows in turn", append(flood(3, 1), flood(2, 2)...), []string{"1.0", "2.0", "1.1", "2.1", "1.2"}, nil},
		{"a full queue: its own flow waits no longer", flood(17, 1), []string{"1.0"}, []string{"1.16"}},
		{
			"a full queue: another flow takes the place of its last", append(flood(16, 1), flood(2, 2)...),
			[]string{"1.0", "2.0", "1.1", "2.1"},
			[]string{"1.14", "1.15"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := hostsvc.NewWorkers(1)
				release := busy(w, 1)
				var mu sync.Mutex
				var served, sent []string
				for _, c := range tt.come {
					go func() {
						ok := w.Do(c.flow, func() {
							mu.Lock()
							served = append(served, c.name)
							mu.Unlock()
						})
						if !ok {
							mu.Lock()
							sent = append(sent, c.name)
							mu.Unlock()
						}
					}()
					synctest.Wait()
				}
				release()
				slices.Sort(sent)
				if len(served)+len(sent) != len(tt.come) || !slices.Equal(served[:min(len(served), len(tt.want))], tt.want) || !slices.Equal(sent, tt.sent) {
					t.Errorf("served %q, sent away %q; want first %q, and sent away %q", served, sent, tt.want, tt.sent)
				}
			})
		})
	}
}

func TestWorkersLetNobodyWaitForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := hostsvc.NewWorkers(1)
		release := busy(w, 1)
		start := time.Now()
		if w.Do(1, func() { t.Error("the work was done") }) {
			t.Error("done")
		}
		if waited := time.Since(start); waited > 2*time.Second {
			t.Errorf("sent away after %s", waited)
		}
		release()
		if !w.Do(1, func() {}) {
			t.Error("who waited in vain holds a place")
		}
	})
}

func TestWorkersOutliveAPanic(t *testing.T) {
	t.Parallel()
	w := hostsvc.NewWorkers(1)
	func() {
		defer func() { _ = recover() }()
		w.Do(1, func() { panic("hash") })
	}()
	if !w.Do(1, func() {}) {
		t.Error("the place of work that panicked is lost")
	}
}
