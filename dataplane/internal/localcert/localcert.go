// Package localcert reads the certificates and private keys that configuration names as files of this machine. It keeps what it
// has read for as long as a runtime uses it, reads it again when the files change, and says when something is different from
// before. A key is never sent anywhere. Which files may be named says package hostsvc; what becomes of a certificate package
// compile. Package app runs it.
package localcert

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/hostsvc"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

const (
	// look is how often files are looked at. What has changed is read when it was the same twice: it may be half written.
	look = time.Second
	// Keep is how long what was read last is used while there is nothing that fits: somebody may be replacing a pair of files.
	Keep = time.Minute
)

// Store keeps what was read. Make one per process; it is safe for concurrent use.
type Store struct {
	files *hostsvc.Files
	log   *slog.Logger
	again chan struct{}

	mu      sync.Mutex
	entries map[certs.Local]*entry // guarded by mu
	last    uint64                 // guarded by mu: the newest generation
}

// entry is what is known of one place. All guarded by the Store's mu.
type entry struct {
	version *configv1.CertificateVersion // nil: nothing to use
	reason  string                       // why there is nothing
	// generation is another one whenever version or reason is.
	generation uint64
	// seen is how the files were when they were looked at last, and loaded when they were read.
	seen, loaded string
	failing      time.Time // since when nothing fits; zero: it does
}

// New returns a store of the files below the directories.
func New(roots []string, registry prometheus.Registerer, log *slog.Logger) (*Store, error) {
	files, err := hostsvc.NewFiles(roots)
	if err != nil {
		return nil, err
	}
	s := &Store{files: files, log: log, again: make(chan struct{}, 1), entries: map[certs.Local]*entry{}}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "keyward", Subsystem: "gateway", Name: "certificate_files_failing",
		Help: "Certificates in files of this gateway that cannot be read as they are now: what was read before is used for a minute.",
	}, s.failing))
	return s, nil
}

func (s *Store) failing() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.entries {
		if !e.failing.IsZero() {
			n++
		}
	}
	return float64(n)
}

// Again is sent to when something is different from before.
func (s *Store) Again() <-chan struct{} { return s.again }

// Read answers what is at a place, or why there is nothing. It reads the files if it never did.
func (s *Store) Read(at certs.Local) (v *configv1.CertificateVersion, reason string, generation uint64) {
	s.mu.Lock()
	e := s.entries[at]
	s.mu.Unlock()
	if e == nil {
		stamp := s.stamp(at)
		version, reason := s.load(at)
		s.mu.Lock()
		if e = s.entries[at]; e == nil {
			e = &entry{}
			s.entries[at] = e
			s.take(at, e, stamp, version, reason, time.Now())
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.version, e.reason, e.generation
}

// Generation tells readings of a place apart; 0: nothing is kept of it.
func (s *Store) Generation(at certs.Local) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[at]; e != nil {
		return e.generation
	}
	return 0
}

// Keep forgets all but the places that are used.
func (s *Store) Keep(used map[certs.Local]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.entries {
		if !used[at] {
			delete(s.entries, at)
		}
	}
}

// Run looks at the files until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.lookAt(now)
		}
	}
}

func (s *Store) lookAt(now time.Time) {
	s.mu.Lock()
	places := make([]certs.Local, 0, len(s.entries))
	for at := range s.entries {
		places = append(places, at)
	}
	s.mu.Unlock()
	changed := false
	for _, at := range places { // files are read without the lock: a push must not wait for a disk
		stamp := s.stamp(at)
		if s.settled(at, stamp) {
			version, reason := s.load(at)
			changed = s.taken(at, stamp, version, reason, now) || changed
		}
		changed = s.overdue(at, now) || changed
	}
	if changed {
		select {
		case s.again <- struct{}{}:
		default:
		}
	}
}

// settled reports whether the files are others than those read, and the same as the last time.
func (s *Store) settled(at certs.Local, stamp string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[at]
	if e == nil || stamp == e.loaded {
		return false
	}
	same := stamp == e.seen
	e.seen = stamp
	return same
}

func (s *Store) taken(at certs.Local, stamp string, v *configv1.CertificateVersion, reason string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[at]
	return e != nil && s.take(at, e, stamp, v, reason, now)
}

// take notes what was read, and reports whether anything is different for who uses it. mu is held.
func (s *Store) take(at certs.Local, e *entry, stamp string, v *configv1.CertificateVersion, reason string, now time.Time) bool {
	e.loaded, e.seen = stamp, stamp
	log := s.log.With("chain", at.Chain, "private_key", at.Key)
	switch {
	case reason == "":
		e.failing = time.Time{}
		if e.version != nil && proto.Equal(e.version, v) {
			return false
		}
		log.Info("certificate read from files", "id", certs.VersionID(v))
		e.version, e.reason = v, ""
	case e.version != nil:
		if e.failing.IsZero() {
			e.failing = now
		}
		log.Warn("certificate cannot be read from its files; the one before is used for a while", "reason", reason, "keep", Keep)
		return false
	default:
		if e.failing.IsZero() {
			e.failing = now
		}
		if e.reason == reason {
			return false
		}
		e.reason = reason
	}
	s.renew(e)
	return true
}

// overdue gives up what was read when nothing fits for too long.
func (s *Store) overdue(at certs.Local, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[at]
	if e == nil || e.version == nil || e.failing.IsZero() || now.Sub(e.failing) < Keep {
		return false
	}
	e.version, e.reason = nil, "is in files that cannot be used: they do not hold a certificate and its private key for a minute now"
	s.log.Error("certificate closed: it cannot be read from its files", "chain", at.Chain, "private_key", at.Key)
	s.renew(e)
	return true
}

func (s *Store) renew(e *entry) {
	s.last++
	e.generation = s.last
}

func (s *Store) stamp(at certs.Local) string {
	stamp := s.files.Stamp(at.Key)
	if at.Chain != "" {
		stamp += " " + s.files.Stamp(at.Chain)
	}
	return stamp
}
