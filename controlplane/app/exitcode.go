package app

import (
	"errors"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// Exit codes of keyward-controlplane; 2 is a wrong command line.
const (
	exitFailed   = 1
	exitRefused  = 3
	exitNotEmpty = 4
)

// ExitCode tells scripts what went wrong.
func ExitCode(err error) int {
	if errors.Is(err, kek.ErrUnavailable) || errors.Is(err, sealer.ErrUnavailable) {
		return exitFailed // whatever the backup is
	}
	for _, refused := range []error{backup.ErrMalformed, backup.ErrFormat, backup.ErrKey} {
		if errors.Is(err, refused) {
			return exitRefused
		}
	}
	if errors.Is(err, store.ErrNotEmpty) {
		return exitNotEmpty
	}
	return exitFailed
}
