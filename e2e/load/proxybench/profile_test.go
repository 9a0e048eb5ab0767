package proxybench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// profiled is how long a profile samples.
const profiled = 5 * time.Second

// profile samples where a contender spends its time under the load of a variant, kernel included, from outside: the gateway has nothing built
// in for this. It leaves the samples, a listing by function, and stacks in folded form, which flame graph viewers read.
func (b *bench) profile(c *contender, v proxybench.Variant) {
	b.t.Helper()
	perf, err := exec.LookPath("perf")
	if err != nil {
		b.t.Fatal("perf is not installed: it is in Debian's package linux-perf")
	}
	if err := os.MkdirAll(b.profileTo, 0o755); err != nil {
		b.t.Fatal(err)
	}
	base := filepath.Join(b.profileTo, strings.ReplaceAll(v.Name(), "/", "-")+"-"+c.name)
	pids := strings.Trim(strings.ReplaceAll(fmt.Sprint(c.pids), " ", ","), "[]")
	l := b.load(c, v, lead+profiled+time.Second, 0)
	<-time.After(lead)
	b.perf(perf, "record", "-q", "-e", "cpu-clock", "-F", "997", "--call-graph", "fp", "-p", pids, "-o", base+".data", "--", "sleep", fmt.Sprint(profiled.Seconds()))
	l.end()
	listing := b.perf(perf, "report", "-i", base+".data", "--stdio", "--no-children", "-g", "none", "-F", "overhead,symbol", "--percent-limit", "0.3")
	b.write(base+".txt", string(listing))
	b.write(base+".folded", proxybench.FoldStacks(string(b.perf(perf, "script", "-i", base+".data", "-F", "comm,ip,sym"))))
	b.say("profile: %s.{data,txt,folded}", base)
}

func (b *bench) perf(path string, args ...string) []byte {
	b.t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(b.t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("perf %s: %v: %s", args[0], err, complaints.Bytes())
	}
	return out.Bytes()
}
