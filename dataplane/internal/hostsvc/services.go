// Package hostsvc holds what outlives a push: limiter counters, keys of issuers, what was verified with them, connections to
// directories and shared stores, and the dialer with its egress rules. Policies and upstreams reach it through the handles they ask for when they
// are built; runtimes come and go around it.
//
// Nothing in it reads configuration; it is told. It starts no goroutines outside of Run methods but those of the connections it
// keeps.
package hostsvc

import (
	"crypto/rand"
	"log/slog"
	"sync/atomic"

	"keyward.dev/dataplane/internal/httpsig"
)

// Services are one process's services. Make one per process and give it to every runtime.
type Services struct {
	// Limiters holds the counters of rate limits.
	Limiters *LimiterTable
	// Logins is for policies that check passwords.
	Logins *Logins
	// KeySets holds the keys of issuers of tokens.
	KeySets *KeySets
	// Tokens remembers what came of verifying tokens.
	Tokens *TokenTable
	// Signing is for policies that sign tokens.
	Signing *Signing
	// Proofs remembers proofs that a token is one's own, which are used once; Once tokens that are.
	Proofs, Once *ProofTable
	// Egress are the rules in force for calls of the gateway's own; nil before the first configuration.
	Egress atomic.Pointer[EgressRules]
	// Kept holds what is found again after a push, such as the connections to directories.
	Kept Kept
	// Replays holds what was taken once and counts no more.
	Replays *ReplayTable
	// Strangers are keys to verify with in the place of those that are not there, so that this takes as long. Never changed.
	Strangers []*httpsig.Key
	// Ambiguous counts the client certificates that were found to be those of several consumers.
	Ambiguous atomic.Uint64
	// self tells this process from others, where they share something.
	self string
	// AmbiguousLogins counts logins at directories that were found to be those of several users.
	AmbiguousLogins atomic.Uint64
}

// Config sizes the services; zero values take defaults.
type Config struct {
	// MaxLimiterEntries bounds the counters in memory.
	MaxLimiterEntries int
	// Log is told of what cannot be reached; nil: nobody is.
	Log *slog.Logger
	// MaxReplayEntries bounds what is remembered because it counts once.
	MaxReplayEntries int
}

// New makes the services of a process.
func New(c Config) *Services {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Services{Limiters: NewLimiterTable(c.MaxLimiterEntries), Logins: NewLogins(), Tokens: NewTokenTable(0), Proofs: NewProofTable(0), Once: NewProofTable(maxSingleUse), Signing: NewSigning(), self: rand.Text()}
	fetcher := &keyFetcher{rules: s.Egress.Load}
	s.KeySets = NewKeySets(fetcher.fetch, c.Log)
	s.Replays, s.Strangers = NewReplayTable(c.MaxReplayEntries), strangers()
	return s
}
