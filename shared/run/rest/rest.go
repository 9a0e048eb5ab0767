// Package rest collects garbage while a process has nothing else to do. Go's collector begins when the heap has grown, which is
// in the middle of work; where work comes in bursts, such as one change to a thousand streams, that makes the one burst in
// twenty that it falls into several times as slow. Collecting a little earlier, between two bursts, costs no burst anything.
package rest

import (
	"context"
	"runtime"
	"runtime/metrics"
	"time"
)

const (
	// tick is how often it is looked.
	tick = 100 * time.Millisecond
	// calm is how many ticks in a row have to pass with little being allocated.
	calm = 2
	// little is what a process allocates in a tick that only waits.
	little = 128 << 10
)

// Collect collects until the context ends, whenever the process rests and the heap has made half of its way to where the
// collector would begin by itself. It is a run.Task.
func Collect(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	w := newWatch()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if w.due(read()) {
			runtime.GC()
			w.reset(read())
		}
	}
}

// heap is how the heap is now, in bytes.
type heap struct {
	// allocated is all that ever was.
	allocated uint64
	// live is what the last collection left, now what there is, goal where the next one ends.
	live, now, goal uint64
}

var names = [...]string{"/gc/heap/allocs:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/goal:bytes"}

func read() heap {
	var samples [len(names)]metrics.Sample
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples[:])
	return heap{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64()}
}

// watch says when to collect.
type watch struct {
	allocated uint64
	calm      int
}

func newWatch() *watch {
	w := &watch{}
	w.reset(read())
	return w
}

func (w *watch) reset(h heap) { w.allocated, w.calm = h.allocated, 0 }

// due takes what is read in each tick.
func (w *watch) due(h heap) bool {
	made := h.allocated - w.allocated
	w.allocated = h.allocated
	if made > little {
		w.calm = 0
		return false
	}
	w.calm++
	return w.calm >= calm && h.goal > h.live && h.now > h.live+(h.goal-h.live)/2
}
