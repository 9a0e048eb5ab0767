package hostsvc

import (
	"sync"
	"time"
)

// Flights let those who ask the same thing at the same time share one answer: a client that opens fifty connections with one
// password is one login, not fifty, to the bounds on guessing and to the processors.
type Flights[T any] struct {
	mu     sync.Mutex
	flying map[Proof]*flight[T]
}

// Landing is what came of checking a password. The zero value says that nothing was found out.
type Landing struct {
	// Known says that Right tells whether the proof holds.
	Known, Right bool
	// Wait is for how long the question must not be asked; zero: it was.
	Wait time.Duration
}

type flight[T any] struct {
	landed chan struct{}
	answer T
}

// NewFlights returns one without flights.
func NewFlights[T any]() *Flights[T] { return &Flights[T]{flying: map[Proof]*flight[T]{}} }

// Do asks, or waits for the answer if somebody is asking already. It takes as long as asking does. If that panics others get
// the zero value.
func (f *Flights[T]) Do(p *Proof, ask func() T) T {
	f.mu.Lock()
	if other := f.flying[*p]; other != nil {
		f.mu.Unlock()
		<-other.landed
		return other.answer
	}
	mine := &flight[T]{landed: make(chan struct{})}
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
