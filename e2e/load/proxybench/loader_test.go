package proxybench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// loader is a program that sends requests.
type loader struct {
	b      *bench
	cmd    *exec.Cmd
	output bytes.Buffer
	log    string // of h2load
}

// load starts the loader of a variant.
func (b *bench) load(c *contender, v proxybench.Variant, d time.Duration, seed int) *loader {
	b.t.Helper()
	if v.Protocol == proxybench.H2 {
		return b.h2load(c, v, d)
	}
	target, script := "http://"+c.plain+v.Size.Path, ""
	if v.Protocol == proxybench.TLS {
		target = "https://" + c.tls + v.Size.Path
	}
	var args []string
	if v.Large {
		script = proxybench.RandomScript
		args = []string{v.Size.Path, strconv.Itoa(proxybench.LargeRoutes), strconv.Itoa(proxybench.LargeConsumers), strconv.Itoa(seed + 1)}
	}
	return b.wrk(target, v.Connections, d, script, args...)
}

// wrk starts wrk with one thread and the first consumer's key.
func (b *bench) wrk(target string, connections int, d time.Duration, script string, args ...string) *loader {
	b.t.Helper()
	seconds := max(1, int((d+time.Second-1)/time.Second)) // wrk knows no fractions
	all := []string{
		"-t1", "-c" + strconv.Itoa(connections), fmt.Sprintf("-d%ds", seconds), "--latency", "--timeout", "30s",
		"-H", "Host: " + proxybench.HostName(0), "-H", "X-API-Key: " + proxybench.Key(0),
	}
	if script != "" {
		all = append(all, "-s", b.write(filepath.Join(b.scratch(), "script.lua"), script))
	}
	return b.start("wrk", append(append(all, target), args...)...)
}

func (b *bench) h2load(c *contender, v proxybench.Variant, d time.Duration) *loader {
	b.t.Helper()
	log := filepath.Join(b.scratch(), "h2load.log")
	_ = os.Remove(log)
	l := b.start("h2load", "-t1", "-c"+strconv.Itoa(v.Connections), "-m"+strconv.Itoa(v.Streams), "-D", strconv.Itoa(int((d+time.Second-1)/time.Second)),
		"--log-file="+log, "--connect-to="+c.tls, "-H", "x-api-key: "+proxybench.Key(0), "https://"+proxybench.HostName(0)+v.Size.Path)
	l.log = log
	return l
}

// scratch is a directory for what loaders need.
func (b *bench) scratch() string {
	if b.scratchDir == "" {
		b.scratchDir = b.dir()
	}
	return b.scratchDir
}

func (b *bench) start(name string, args ...string) *loader {
	b.t.Helper()
	args = append([]string{"-c", b.otherCPUs(), program(b.t, name)}, args...)
	l := &loader{b: b, cmd: exec.CommandContext(b.t.Context(), program(b.t, "taskset"), args...)}
	l.cmd.Stdout, l.cmd.Stderr = &l.output, &l.output
	if err := l.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return l
}

// end waits for the loader and returns what it saw, which may contain no failure.
func (l *loader) end() proxybench.Load {
	l.b.t.Helper()
	if err := l.cmd.Wait(); err != nil {
		l.b.t.Fatalf("%v: %v\n%s", l.cmd.Args, err, l.output.Bytes())
	}
	parse := proxybench.ParseWrk
	if l.log != "" {
		parse = proxybench.ParseH2load
	}
	saw, err := parse(l.output.String())
	if err == nil && l.log != "" {
		saw.P50, saw.P99, err = quantiles(l.log)
	}
	if err != nil || saw.Failed != "" {
		l.b.t.Fatalf("%v: %v: %s\n%s", l.cmd.Args, err, saw.Failed, l.output.Bytes())
	}
	return saw
}

func quantiles(log string) (p50, p99 time.Duration, err error) {
	f, err := os.Open(log)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	return proxybench.H2loadQuantiles(f)
}

// pause and proceed make the loader stop where it is, with its connections, and go on.
func (l *loader) pause()   { l.signal(syscall.SIGSTOP) }
func (l *loader) proceed() { l.signal(syscall.SIGCONT) }

func (l *loader) signal(s syscall.Signal) {
	l.b.t.Helper()
	if err := l.cmd.Process.Signal(s); err != nil {
		l.b.t.Fatalf("%v: %v\n%s", l.cmd.Args, err, l.output.Bytes())
	}
}

// interrupt makes wrk tell what it has seen. The signal has to reach its first thread, which sleeps until the end.
func (l *loader) interrupt() {
	l.b.t.Helper()
	pid := uintptr(l.cmd.Process.Pid)
	if _, _, err := syscall.Syscall(syscall.SYS_TGKILL, pid, pid, uintptr(syscall.SIGINT)); err != 0 {
		l.b.t.Fatalf("%v: %v\n%s", l.cmd.Args, err, l.output.Bytes())
	}
}
