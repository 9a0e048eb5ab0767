package hostsvc

import (
	"sync"
	"time"
)

// Flights let those who ask the same thing at the same time share one answer: a client that opens fifty connections with one
// password is one login, not fifty, to the bounds on guessing and to the processors.
type Flights struct {
	mu     sync.Mutex
	flying map[Proof]*flight
}

// Landing is what came of it. The zero value says that nothing was found out.
type Landing struct {
	// Known says that Right tells whether the proof holds.
	Known, Right bool
	// Wait is for how long the question must not be asked; zero: it was.
	Wait time.Duration
}

type flight struct {
	landed chan struct{}
	answer Landing
}

// NewFlights returns one without flights.
func NewFlights() *Flights { return &Flights{flying: map[Proof]*flight{}} }

// Do asks, or waits for the answer if somebody is asking already. It takes as long as asking does.
func (f *Flights) Do(p *Proof, ask func() Landing) Landing {
	f.mu.Lock()
	if other := f.flying[*p]; other != nil {
		f.mu.Unlock()
		<-other.landed
		return other.answer
	}
	mine := &flight{landed: make(chan struct{})}
	key := *p
	f.flying[key] = mine
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.flying, key)
		f.mu.Unlock()
		close(mine.landed)
	}()
	mine.answer = ask()
	return mine.answer
}
