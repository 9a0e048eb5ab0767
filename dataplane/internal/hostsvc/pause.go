package hostsvc

import (
	"os"
	"runtime"
	"time"
)

const (
	// stint is for how long a computation goes on between two rests while others wait for their turn, and rest how long these
	// are. The system's scheduler lets who computes finish a share of some milliseconds before a request has the processor; whoever
	// rests before that makes nobody wait for long.
	stint = 300 * time.Microsecond
	rest  = time.Millisecond
)

// Pause is what a long computation stops for now and then, so that requests go first. To let other goroutines run is not enough
// where there is one thread for all: Go looks whether the network has something only when nothing else can run, or every 10 ms,
// and a computation always can. So it waits for something that comes through the network poller at once, and with it comes
// whatever else is there.
type Pause struct {
	pressed     func() bool // nil: never
	since       time.Time   // of the last rest
	read, write *os.File    // nil: there is none to be had
	wake        chan struct{}
}

// NewPause makes one, for one computation, which rests at times while pressed says so: then somebody guesses, or many log in at
// once, and it takes three to four times as long. Nil: it never does. It holds two files until it is closed.
func NewPause(pressed func() bool) *Pause {
	p := &Pause{pressed: pressed, since: time.Now()}
	read, write, err := os.Pipe()
	if err != nil {
		return p
	}
	p.read, p.write, p.wake = read, write, make(chan struct{})
	go p.ring()
	return p
}

// ring rings whenever the computation waits, until it is closed. It runs once the computation does not.
func (p *Pause) ring() {
	bell := []byte{0}
	for range p.wake {
		if _, err := p.write.Write(bell); err != nil {
			_ = p.read.Close() // or the computation would wait for ever
		}
	}
}

// Take takes a pause.
func (p *Pause) Take() {
	if p.pressed != nil && time.Since(p.since) >= stint && p.pressed() {
		time.Sleep(rest)
		p.since = time.Now()
		return
	}
	if p.read == nil {
		runtime.Gosched()
		return
	}
	p.wake <- struct{}{}
	var bell [1]byte
	_, _ = p.read.Read(bell[:])
}

// Close gives back what it holds.
func (p *Pause) Close() {
	if p.read != nil {
		close(p.wake)
		_ = p.read.Close()
		_ = p.write.Close()
	}
}
