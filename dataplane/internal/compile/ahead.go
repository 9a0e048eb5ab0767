package compile

import "iter"

const (
	// aheadFrom is how many records it takes for which another goroutine is worth while.
	aheadFrom = 1024
	// aheadBatch and aheadBatches bound what is read ahead, and with it how much memory that takes.
	aheadBatch   = 256
	aheadBatches = 4
)

// ahead yields items in order, each with what read makes of it. Of many, read runs on a goroutine of its own, a little ahead
// of whoever uses them: reading records is half of what a large set costs at a start. read must be pure.
func ahead[T, R any](items []T, read func(T) R) iter.Seq2[T, R] {
	if len(items) < aheadFrom {
		return func(yield func(T, R) bool) {
			for _, item := range items {
				if !yield(item, read(item)) {
					return
				}
			}
		}
	}
	return func(yield func(T, R) bool) {
		stop := make(chan struct{})
		defer close(stop)
		i := 0
		for b := range readAhead(items, read, stop) {
			for _, r := range b.results {
				if !yield(items[i], r) {
					return
				}
				i++
			}
			if b.panicked != nil {
				panic(b.panicked)
			}
		}
	}
}

// batch is what came of some items that follow each other; if read panicked, only of those before.
type batch[R any] struct {
	results  []R
	panicked any
}

func readAhead[T, R any](items []T, read func(T) R, stop <-chan struct{}) <-chan batch[R] {
	out := make(chan batch[R], aheadBatches)
	go func() {
		defer close(out)
		for len(items) > 0 {
			n := min(len(items), aheadBatch)
			b := readBatch(items[:n], read)
			select {
			case out <- b:
			case <-stop:
				return
			}
			if b.panicked != nil {
				return
			}
			items = items[n:]
		}
	}()
	return out
}

func readBatch[T, R any](items []T, read func(T) R) (b batch[R]) {
	defer func() { b.panicked = recover() }()
	b.results = make([]R, 0, len(items))
	for _, item := range items {
		b.results = append(b.results, read(item))
	}
	return b
}
