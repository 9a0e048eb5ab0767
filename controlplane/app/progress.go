package app

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress shows on a terminal how many bytes have passed. On anything else it says nothing.
type progress struct {
	out   io.Writer
	doing string
	all   int64
	done  int64
	drawn time.Time
}

// redrawEvery keeps a terminal from being what takes longest.
const redrawEvery = 100 * time.Millisecond

func newProgress(out io.Writer, doing string, all int64) *progress {
	p := &progress{doing: doing, all: all}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		p.out = out
	}
	return p
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // is a character device, too
	return err != nil || !os.SameFile(info, null)
}

// Write implements io.Writer; it counts.
func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.out != nil && time.Since(p.drawn) >= redrawEvery {
		p.drawn = time.Now()
		fmt.Fprintf(p.out, "\r\x1b[K%s %s of about %s", p.doing, size(p.done), size(max(p.all, p.done)))
	}
	return len(b), nil
}

// end wipes the line.
func (p *progress) end() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n)/unit, []string{"KiB", "MiB", "GiB", "TiB"}
	for len(names) > 1 && value >= unit {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %s", value, names[0])
}
