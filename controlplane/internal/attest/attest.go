// Package attest decides to which gateway group a process that has no certificate yet belongs: by a join token, or by the
// service-account token that its Kubernetes cluster gave it. It gives out nothing itself and counts no uses; the stream
// server calls it and enrols what it lets through.
package attest

import (
	"context"
	"errors"
)

var (
	// ErrRefused says that the evidence does not let its bearer in. Its text may be told to the bearer.
	ErrRefused = errors.New("attestation refused")
	// ErrUnavailable says that the evidence could not be checked now.
	ErrUnavailable = errors.New("attestation is not available")
)

// Evidence is what a joining gateway shows.
type Evidence struct {
	// Token is a join token or a service-account JWT.
	Token string
	// Group is the group asked for; empty leaves it to the evidence.
	Group string
}

// Attested is what was proven.
type Attested struct {
	Group string
	// Attestor says how: join-token or kubernetes.
	Attestor string
	// By is the id of the join token, or namespace and name of the service account.
	By string
	// JoinToken is the id of the token of which a use is to be taken; empty if there is none.
	JoinToken string
}

// Attestor checks one form of evidence.
type Attestor interface {
	// Attest returns an error that is ErrRefused or ErrUnavailable if the bearer is not let in.
	Attest(ctx context.Context, e Evidence) (Attested, error)
}
