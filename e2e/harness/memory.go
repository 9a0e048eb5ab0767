package harness

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// PeakMemory returns the most memory that the process has had resident, in bytes, as Linux counts it.
func (p *Process) PeakMemory() int64 {
	p.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.child.PID()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var kib int64
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err == nil {
				return kib << 10
			}
		}
	}
	p.t.Fatalf("%s says nothing of its memory: %v", p.name, lines.Err())
	return 0
}
