package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// What can go wrong, apart from each other. Errors wrap one of them.
var (
	// ErrUnreachable says that nobody answered, or somebody who is not trusted.
	ErrUnreachable = errors.New("vault is unreachable")
	// ErrSealed says that Vault is sealed or not initialised.
	ErrSealed = errors.New("vault is sealed")
	// ErrForbidden says that the token may not do this, or no longer.
	ErrForbidden = errors.New("vault forbids it")
	// ErrNoLogin says that there is no valid token. It comes with one of the others where Vault was asked.
	ErrNoLogin = errors.New("no login to vault")
	// ErrNotFound says that there is nothing at that path.
	ErrNotFound = errors.New("vault has nothing there")
	// ErrRejected says that Vault does not take the request as it is.
	ErrRejected = errors.New("vault rejects the request")
	// ErrFailed says that Vault failed, is on standby or has too much to do.
	ErrFailed = errors.New("vault failed")

	// ErrLeased says that what is there is made anew for each reader, who has to give it back: see Lease.
	ErrLeased = errors.New("vault makes it anew for each reader")
	// ErrOtherLogin says that a lease belongs to a login that is not ours, or no longer: it ends with that one.
	ErrOtherLogin = errors.New("the lease belongs to another login")

	errUnmounted = errors.New("nothing is mounted there")
)

// Down reports whether Vault did not answer, or cannot now, so that waiting may help.
func Down(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrSealed) || errors.Is(err, ErrFailed)
}

func forbidden(err error) bool {
	answer, ok := errors.AsType[*api.ResponseError](err)
	return ok && answer.StatusCode == http.StatusForbidden
}

// told names an error. Vault's own words are passed on, and nothing of what was sent.
func told(doing string, err error) error {
	if errors.Is(err, errUnmounted) {
		return fmt.Errorf("%s: %w: %w", doing, ErrRejected, err)
	}
	answer, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return fmt.Errorf("%s: %w: %w", doing, ErrUnreachable, err)
	}
	words := "no reason given"
	if !answer.RawError && len(answer.Errors) > 0 {
		words = strings.Join(strings.Fields(strings.Join(answer.Errors, "; ")), " ")
	}
	return fmt.Errorf("%s: %w (status %d: %s)", doing, kind(answer), answer.StatusCode, words)
}

func kind(answer *api.ResponseError) error {
	switch {
	case answer.StatusCode == http.StatusForbidden:
		return ErrForbidden
	case answer.StatusCode == http.StatusNotFound:
		return ErrNotFound
	case answer.StatusCode == http.StatusServiceUnavailable && says(answer, "sealed"),
		says(answer, "not initialized"):
		return ErrSealed
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode >= http.StatusInternalServerError:
		return ErrFailed
	default:
		return ErrRejected
	}
}

// unmounted tells the answer that there is no engine from that of an engine that has nothing.
func unmounted(err error) bool {
	answer, ok := errors.AsType[*api.ResponseError](err)
	return ok && answer.StatusCode == http.StatusNotFound && says(answer, "no handler for route")
}

func says(answer *api.ResponseError, words string) bool {
	for _, e := range answer.Errors {
		if strings.Contains(strings.ToLower(e), words) {
			return true
		}
	}
	return false
}
