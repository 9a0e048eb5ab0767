package adminapi

import (
	"errors"

	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// failure returns the status error for an error of the services below. It is the one place where errors of the store that
// nobody has given a code get theirs.
func failure(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*problem.Error](err); !ok {
		switch {
		case errors.Is(err, store.ErrNotFound):
			err = problem.Wrap(problem.NotFound, "there is nothing of this name", err)
		case errors.Is(err, store.ErrUnavailable):
			err = problem.Wrap(problem.Unavailable, "the database cannot be reached", err)
		case errors.Is(err, sealer.ErrUnavailable):
			err = problem.Wrap(problem.Unavailable, "the group's keyring cannot be used now", err)
		case errors.Is(err, sealer.ErrUnreadable), errors.Is(err, store.ErrMissing),
			errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrRewound):
			err = problem.Wrap(problem.Unavailable, "what is stored of the group does not verify; keyward-controlplane check-db says more", err)
		case errors.Is(err, store.ErrInvalid):
			err = problem.Wrap(problem.Invalid, "holds a character that cannot be stored", err)
		case errors.Is(err, store.ErrConflict):
			err = problem.Wrap(problem.Conflict, "something of this name exists already, or did", err)
		}
	}
	return grpcstatus.Of(err)
}

func violation(path, reason string) error {
	return problem.Violated([]problem.Violation{{Path: path, Reason: reason}})
}
