package sealedcache

import (
	"errors"
	"fmt"
)

// ErrAbsent says that there is no cache yet.
var ErrAbsent = errors.New("there is no sealed cache")

// Reason is why a cache is not to be used: a label of a metric, and what the status shows.
type Reason string

// Reasons to refuse a cache.
const (
	// Unreadable: the system does not let us read it.
	Unreadable Reason = "unreadable"
	// Damaged: not the bytes that were written, or not all of them.
	Damaged Reason = "damaged"
	// Version: written by a program whose form this one does not know.
	Version Reason = "version"
	// OtherGroup, OtherGateway: written for somebody else.
	OtherGroup   Reason = "other_group"
	OtherGateway Reason = "other_gateway"
	// OtherKey: written for a key that this gateway had before or never.
	OtherKey Reason = "other_key"
	// Digest: the records do not add up to the digest.
	Digest Reason = "digest"
	// TooOld: the control plane stood behind it too long ago.
	TooOld Reason = "too_old"
	// Future: it was written later than now, so its age is not known.
	Future Reason = "future"
	// OlderThanSeen: not the file that was written last.
	OlderThanSeen Reason = "older_than_seen"
	// SeenMissing, SeenDamaged: what tells which file was written last is gone, or not ours.
	SeenMissing Reason = "seen_missing"
	SeenDamaged Reason = "seen_damaged"
)

// RefusedError says why a cache is not to be used.
type RefusedError struct {
	Reason Reason
	err    error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("sealed cache refused (%s): %v", e.Reason, e.err)
}

func (e *RefusedError) Unwrap() error { return e.err }

func refuse(r Reason, format string, args ...any) error {
	return &RefusedError{Reason: r, err: fmt.Errorf(format, args...)}
}
