package proxybench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// FoldStacks turns what `perf script -F comm,ip,sym` prints into lines "outermost;…;innermost samples", as flame graph viewers
// read them.
func FoldStacks(script string) string {
	counts := map[string]int{}
	for sample := range strings.SplitSeq(script, "\n\n") {
		var frames []string
		for i, line := range strings.Split(strings.Trim(sample, "\n"), "\n") {
			name := strings.TrimSpace(line)
			if i > 0 {
				_, name, _ = strings.Cut(name, " ")
			}
			if name != "" {
				frames = append(frames, strings.ReplaceAll(name, ";", ":"))
			}
		}
		if len(frames) < 2 {
			continue
		}
		stack := frames[1:]
		slices.Reverse(stack)
		counts[frames[0]+";"+strings.Join(stack, ";")]++
	}
	var b strings.Builder
	for _, stack := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%s %d\n", stack, counts[stack])
	}
	return b.String()
}
