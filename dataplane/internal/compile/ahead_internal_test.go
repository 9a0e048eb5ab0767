package compile

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// What is read ahead comes in order, each item once, and nothing is left running when the reader stops early or panics.
func TestReadingAhead(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, aheadFrom - 1, aheadFrom, aheadFrom + 1, 10*aheadBatch + 7} {
		for _, until := range []int{0, 1, aheadBatch, n - 1, n} {
			t.Run(fmt.Sprintf("%d of %d", until, n), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { // which waits for all goroutines
					items := make([]int, n)
					for i := range items {
						items[i] = i
					}
					next := 0
					for item, square := range ahead(items, func(i int) int { return i * i }) {
						if item != next || square != next*next {
							t.Fatalf("item %d with %d, want %d", item, square, next)
						}
						if next++; next >= until {
							break
						}
					}
					if want := min(n, max(until, 1)); next != want {
						t.Errorf("%d items came, want %d", next, want)
					}
				})
			})
		}
	}
}

func TestAPanicWhileReadingAheadComesInItsPlace(t *testing.T) {
	t.Parallel()
	const n, bad = 4 * aheadFrom, 3*aheadFrom + 5
	synctest.Test(t, func(t *testing.T) {
		came := 0
		defer func() {
			if v := recover(); v != "bad" || came != bad {
				t.Errorf("panic %v after %d items, want that of item %d", v, came, bad)
			}
		}()
		for range ahead(make([]int, n), func() func(int) int {
			read := 0
			return func(int) int {
				if read++; read > bad {
					panic("bad")
				}
				return read
			}
		}()) {
			came++
		}
	})
}
