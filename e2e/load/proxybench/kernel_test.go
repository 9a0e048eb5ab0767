package proxybench_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// fakeProc has a process 7 with two threads, its child 8 whose name is meant to confuse, a child of that which has just ended, and
// a stranger.
func fakeProc(t *testing.T) proxybench.Proc {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"7/task/7/schedstat": "1000000 20 3\n",
		"7/task/9/schedstat": "500000 0 1\n",
		"7/status":           "Name:\tnginx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n",
		"7/stat":             "7 (nginx) S 1 7 7 0\n",
		"8/task/8/schedstat": "250000 0 1\n",
		"8/status":           "Name:\tnginx\nVmHWM:\t       1 kB\nVmRSS:\t       1 kB\n",
		"8/stat":             "8 (a) S 1 (b) S 7 7 7 0\n",
		"9/stat":             "9 (ended) Z 8 7 7 0\n",
		"11/stat":            "11 (other) S 70 7 7 0\n",
		"12/status":          "Name:\tkernel thread\n",
		"12/stat":            "12 (k) S 2 0 0 0\n",
		"stat":               "cpu  10 1 20 999 999 3 4 5 7 8\ncpu0 1 2 3\n",
	} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return proxybench.Proc{Root: root}
}

func TestProc(t *testing.T) {
	t.Parallel()
	p := fakeProc(t)
	family, err := p.Family(7)
	if slices.Sort(family); !slices.Equal(family, []int{7, 8}) || err != nil {
		t.Fatalf("Family() = %v, %v", family, err)
	}
	if spent, err := p.CPU(family...); spent != 1750*time.Microsecond || err != nil {
		t.Errorf("CPU() = %s, %v", spent, err)
	}
	if n, err := p.RSS(family...); n != 1025<<10 || err != nil {
		t.Errorf("RSS() = %d, %v", n, err)
	}
	if n, err := p.PeakRSS(7); n != 2048<<10 || err != nil {
		t.Errorf("PeakRSS() = %d, %v", n, err)
	}
	if spent, err := p.Busy(); spent != 430*time.Millisecond || err != nil {
		t.Errorf("Busy() = %s, %v", spent, err)
	}
	if spent, err := p.Others(7); spent != 360*time.Millisecond-1750*time.Microsecond || err != nil {
		t.Errorf("Others() = %s, %v", spent, err)
	}
	if _, err := p.CPU(99); err == nil {
		t.Error("CPU() of no process is something")
	}
	if _, err := p.RSS(12); err == nil {
		t.Error("RSS() of a process that does not say is something")
	}
}
