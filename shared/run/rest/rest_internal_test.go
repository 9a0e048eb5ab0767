package rest

import "testing"

func TestItIsDueWhenTheHeapHasGrownAndNobodyAllocates(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	type look struct {
		made, now uint64
		want      bool
	}
	for name, looks := range map[string][]look{
		"work, then rest":                {{5 * mib, 160 * mib, false}, {0, 160 * mib, false}, {0, 160 * mib, true}},
		"work between looks":             {{0, 160 * mib, false}, {5 * mib, 165 * mib, false}, {0, 165 * mib, false}, {100 << 10, 165 * mib, true}},
		"rest with little to collect":    {{0, 149 * mib, false}, {0, 149 * mib, false}, {0, 149 * mib, false}},
		"rest until there is enough":     {{0, 149 * mib, false}, {0, 149 * mib, false}, {0, 151 * mib, true}},
		"work all the time":              {{1 * mib, 180 * mib, false}, {1 * mib, 181 * mib, false}, {1 * mib, 182 * mib, false}},
		"a collection has just been":     {{0, 100 * mib, false}, {0, 100 * mib, false}},
		"no goal, as with GOGC set to 0": {{0, 100 * mib, false}, {0, 120 * mib, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := heap{allocated: 7 * mib, live: 100 * mib, goal: 200 * mib}
			if name == "no goal, as with GOGC set to 0" {
				h.goal = h.live
			}
			w := &watch{}
			w.reset(h)
			for i, l := range looks {
				h.allocated, h.now = h.allocated+l.made, l.now
				if got := w.due(h); got != l.want {
					t.Errorf("look %d: due %v, want %v", i, got, l.want)
				}
			}
		})
	}
}
