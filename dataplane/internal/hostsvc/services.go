// Package hostsvc holds what outlives a push: limiter counters and the dialer with its egress rules. Policies and
// upstreams reach it through the handles they ask for when they are built; runtimes come and go around it.
//
// Nothing in it reads configuration; it is told. It starts no goroutines.
package hostsvc

import "sync/atomic"

// Services are one process's services. Make one per process and give it to every runtime.
type Services struct {
	// Limiters holds the counters of rate limits.
	Limiters *LimiterTable
	// Logins is for policies that check passwords.
	Logins *Logins
	// Ambiguous counts the client certificates that were found to be those of several consumers.
	Ambiguous atomic.Uint64
}

// Config sizes the services; zero values take defaults.
type Config struct {
	// MaxLimiterEntries bounds the counters in memory.
	MaxLimiterEntries int
}

// New makes the services of a process.
func New(c Config) *Services {
	return &Services{Limiters: NewLimiterTable(c.MaxLimiterEntries), Logins: NewLogins()}
}
