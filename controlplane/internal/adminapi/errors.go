package adminapi

import (
	"errors"

	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
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
		case errors.Is(err, store.ErrConflict):
			err = problem.Wrap(problem.Conflict, "something of this name exists already, or did", err)
		}
	}
	return grpcstatus.Of(err)
}

func violation(path, reason string) error {
	return problem.Violated([]problem.Violation{{Path: path, Reason: reason}})
}
