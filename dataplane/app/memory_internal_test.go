package app

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestHowFarTheHeapMayGrow(t *testing.T) {
	t.Parallel()
	serving, loading := growth{percent: 100}, growth{loadingGCPercent, loadingGarbage}
	for name, tt := range map[string]struct {
		most int
		to   growth
		live uint64
		want int
	}{
		"a small heap doubles":                {math.MaxInt32, serving, 50 << 20, 100},
		"at the bound":                        {math.MaxInt32, serving, mostGarbage, 100},
		"a large heap grows by the bound":     {math.MaxInt32, serving, 2 * mostGarbage, 50},
		"up to what is roomy":                 {math.MaxInt32, serving, roomy - 192<<20, 23},
		"and a larger one by less":            {math.MaxInt32, serving, roomy, 12},
		"a huge one is collected at times":    {math.MaxInt32, serving, 1 << 40, leastGCPercent},
		"the environment says less":           {30, serving, 50 << 20, 30},
		"the environment says more":           {400, growth{percent: 400}, 10 << 20, 400},
		"a collector that is off":             {-1, loading, 1 << 40, -1},
		"loading begins":                      {math.MaxInt32, loading, 0, 12800},
		"loading little":                      {math.MaxInt32, loading, 8 << 20, 1600},
		"loading":                             {math.MaxInt32, loading, 128 << 20, loadingGCPercent},
		"loading much":                        {math.MaxInt32, loading, 2 * mostGarbage, 50},
		"loading, and the environment counts": {100, loading, 8 << 20, 100},
	} {
		if got := gcPercent(tt.most, tt.to, tt.live); got != tt.want {
			t.Errorf("%s: %d %%, want %d", name, got, tt.want)
		}
	}
}

func TestBodyMemoryIsAPartOfWhatThereIs(t *testing.T) {
	given := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(given)
	for _, tt := range []struct {
		name       string
		mebibytes  int
		limit, can int64
	}{
		{"nothing is said", 0, math.MaxInt64, 0},
		{"the process is limited", 0, 1 << 30, 256 << 20},
		{"it is said", 7, 1 << 30, 7 << 20},
	} {
		debug.SetMemoryLimit(tt.limit)
		if got := (&Settings{BodyMemory: tt.mebibytes}).bodyMemory(); got != tt.can {
			t.Errorf("%s: %d bytes, want %d", tt.name, got, tt.can)
		}
	}
}
