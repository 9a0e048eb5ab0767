package sealer

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnreadable says that something stored does not open or does not verify, and that trying again will not help.
	// errors.As with *UnreadableError tells what and why.
	ErrUnreadable = errors.New("stored data is unreadable")
	// ErrUnavailable says that something could not be sealed or unwrapped now: nothing was stored.
	ErrUnavailable = errors.New("sealing is unavailable")
)

// UnreadableError names what is unreadable and never says what is in it.
type UnreadableError struct {
	Table string
	// Group, Kind and UID say which row, as far as they apply.
	Group string
	Kind  string
	UID   string
	// Reason is for people.
	Reason string
	err    error
}

// Error gives table, row and reason.
func (e *UnreadableError) Error() string {
	s := e.Table + " of group " + e.Group
	if e.Kind != "" {
		s += ": " + e.Kind
	}
	if e.UID != "" {
		s += " " + e.UID
	}
	return s + ": " + e.Reason
}

// Is makes errors.Is(err, ErrUnreadable) hold.
func (e *UnreadableError) Is(target error) bool { return target == ErrUnreadable }

// Unwrap gives the cause.
func (e *UnreadableError) Unwrap() error { return e.err }

// MissingKEKError says that a keyring is wrapped by a key-encryption key that this process does not have. Given the key,
// the keyring opens: it counts as unavailable and not as unreadable.
type MissingKEKError struct {
	Group string
	KEK   string
	// Have are the keys that are there.
	Have []string
}

// Error names the keys, which shows nothing of them.
func (e *MissingKEKError) Error() string {
	return fmt.Sprintf("keyrings of group %s: is wrapped by key-encryption key %s, this process has %s", e.Group, e.KEK,
		strings.Join(e.Have, ", "))
}

// Is makes errors.Is(err, ErrUnavailable) hold.
func (e *MissingKEKError) Is(target error) bool { return target == ErrUnavailable }

func unavailable(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
