package sealedset

import "fmt"

// Reason is why a file is not to be used: a label of a metric, and what a gateway's status shows.
type Reason string

// Reasons to refuse a file.
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
	// OtherKey: written for a key that its reader does not have.
	OtherKey Reason = "other_key"
	// Signature: not signed by whom its reader trusts.
	Signature Reason = "signature"
	// Digest: the records do not add up to the digest.
	Digest Reason = "digest"
	// TooOld: the control plane stood behind it too long ago.
	TooOld Reason = "too_old"
	// Expired: past the end that its writer set.
	Expired Reason = "expired"
	// Future: it was written later than now, so its age is not known.
	Future Reason = "future"
	// OlderThanSeen: older than what its reader has had already.
	OlderThanSeen Reason = "older_than_seen"
	// SeenMissing, SeenDamaged: what tells which file was written last is gone, or not ours.
	SeenMissing Reason = "seen_missing"
	SeenDamaged Reason = "seen_damaged"
)

// RefusedError says why a file is not to be used.
type RefusedError struct {
	// What names the file.
	What   string
	Reason Reason
	err    error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refused (%s): %v", e.What, e.Reason, e.err)
}

func (e *RefusedError) Unwrap() error { return e.err }

// Refuse makes the error.
func Refuse(what string, r Reason, format string, args ...any) error {
	return &RefusedError{What: what, Reason: r, err: fmt.Errorf(format, args...)}
}
