package app

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestHowFarTheHeapMayGrow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		given, ceiling int
		live           uint64
		want           int
	}{
		"nothing live yet":                 {100, 60, 0, 60},
		"a small heap doubles":             {100, 100, 50 << 20, 100},
		"at the bound":                     {100, 100, mostGarbage, 100},
		"a large heap grows by the bound":  {100, 100, 2 * mostGarbage, 50},
		"up to what is roomy":              {100, 100, roomy - 192<<20, 23},
		"and a larger one by less":         {100, 100, roomy, 12},
		"a huge one is collected at times": {100, 100, 1 << 40, leastGCPercent},
		"the environment says less":        {30, 60, 50 << 20, 30},
		"the environment says more":        {400, 400, 10 << 20, 400},
		"a collector that is off":          {-1, 60, 1 << 40, -1},
	} {
		if got := gcPercent(tt.given, tt.ceiling, tt.live); got != tt.want {
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
