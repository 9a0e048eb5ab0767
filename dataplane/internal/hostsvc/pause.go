package hostsvc

import (
	"os"
	"runtime"
)

// Pause is what a long computation stops for now and then, so that requests go first. To let other goroutines run is not enough
// where there is one thread for all: Go looks whether the network has something only when nothing else can run, or every 10 ms,
// and a computation always can. So it waits for something that comes through the network poller at once, and with it comes
// whatever else is there.
type Pause struct {
	read, write *os.File // nil: there is none to be had
	wake        chan struct{}
}

// NewPause makes one, for one computation. It holds two files until it is closed.
func NewPause() *Pause {
	read, write, err := os.Pipe()
	if err != nil {
		return &Pause{}
	}
	p := &Pause{read: read, write: write, wake: make(chan struct{})}
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
