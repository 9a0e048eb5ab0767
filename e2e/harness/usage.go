package harness

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// Usage is what a gateway holds, as its own metrics say.
type Usage struct {
	Goroutines, Files int
}

// Usage asks what the gateway holds.
func (g *Gateway) Usage() (Usage, error) {
	var u Usage
	resp, err := http.Get("http://" + g.Status + "/metrics") //nolint:noctx // a test's own server on loopback
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var value float64
		for name, into := range map[string]*int{"go_goroutines ": &u.Goroutines, "process_open_fds ": &u.Files} {
			if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
				if _, err := fmt.Sscanf(rest, "%g", &value); err == nil {
					*into = int(value)
				}
			}
		}
	}
	if u.Goroutines == 0 || u.Files == 0 {
		return u, fmt.Errorf("the metrics do not say what the gateway holds: %+v", u)
	}
	return u, lines.Err()
}

// usageSlack is what may differ between two looks at a gateway that has nothing to do: the connections that ask, and those
// to the control plane while they are renewed.
const usageSlack = 4

// AwaitUsage waits until the gateway holds no more than it did.
func (g *Gateway) AwaitUsage(t testing.TB, within time.Duration, before Usage) {
	t.Helper()
	testkit.Await(t, within, func() error {
		now, err := g.Usage()
		if err == nil && (now.Goroutines > before.Goroutines+usageSlack || now.Files > before.Files+usageSlack) {
			err = fmt.Errorf("the gateway holds %+v, before it held %+v", now, before)
		}
		return err
	})
}

// Resident is the memory that the process has resident now, in bytes, as Linux counts it.
func (p *Process) Resident() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.child.PID()))
	if err != nil {
		p.t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		p.t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// Full says whether this is the full run, which takes long and has everything installed.
func Full() bool { return os.Getenv("KEYWARD_FULL") != "" }
