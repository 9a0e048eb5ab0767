package sealedcache

import (
	"errors"

	"keyward.dev/shared/sealedset"
)

// ErrAbsent says that there is no cache yet.
var ErrAbsent = errors.New("there is no sealed cache")

func refuse(r sealedset.Reason, format string, args ...any) error {
	return sealedset.Refuse("sealed cache", r, format, args...)
}
