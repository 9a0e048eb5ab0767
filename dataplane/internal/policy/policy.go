// Package policy is the contract between gateway and policies, and the runner of compiled chains of them.
//
// A policy is built once per binding and runtime from its typed config and then called concurrently by every exchange.
// The happy path has no closures, no error values and no allocations: a policy looks at the exchange and returns Next, or
// records a prepared refusal and returns Stop. Whatever must survive a push (counters, pools) lives in hostsvc.
//
// The package knows no network and no configuration format. Compile builds chains from it, the server runs them.
package policy

import (
	"crypto/x509"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/certs"
)

// Verdict says whether an exchange goes on.
type Verdict int8

// Verdicts. The zero value stops: a verdict nobody set lets nobody through.
const (
	Stop Verdict = iota
	Next
)

// Policy looks at a request. It returns Next, or Stop after x.Refuse.
//
// An authentication policy sets x.Principal and must leave the request itself as it is:
// removing the credential is Hide's job, because another alternative may still need it.
type Policy interface {
	Request(x *exchange.Exchange) Verdict
}

// ResponsePolicy also sees the response head before it is sent, in reverse order of the requests. It is called for every
// policy whose Request was called, the one that refused included, and may only change x.Response.
type ResponsePolicy = exchange.Responder

// BodyPolicy also sees the request body in pieces as it passes; last marks the end and may come with an empty piece. It
// is not called for requests without a body. After Stop it is not called again.
type BodyPolicy interface {
	Body(x *exchange.Exchange, chunk []byte, last bool) Verdict
}

// Hider is an authentication policy that removes the credential it looks for from the request. It is called once
// authentication as a whole has passed, also for alternatives that did not: their credentials are not the upstream's.
type Hider interface {
	Hide(x *exchange.Exchange)
}

// Bearer is an authentication policy that finds credentials in header fields. What these hold is never written down,
// whether it was accepted, refused or not even looked at.
type Bearer interface {
	// CredentialFields returns the names of the fields.
	CredentialFields() []string
}

// Uniform is an authentication policy that answers all credentials alike that do not count, so that callers cannot find out
// which there are.
type Uniform interface {
	// Invalid returns that answer.
	Invalid() *exchange.Refusal
}

// Waiter is a policy whose Request may wait, for a network or for its turn to do something slow, as long as its
// configuration says and no longer. It is called where nothing else waits for it.
type Waiter interface {
	Waits()
}

// Certified is an authentication policy that goes by the client's certificate, for which clients are asked then.
type Certified interface {
	// Authorities returns the names of the CA certificates that vouch for it; none: those that the route asks for.
	Authorities() []string
}

// Identity names the binding a policy was built for.
type Identity = exchange.PolicyRef

// Group is what policies can be made from besides their own configuration. A policy is built again when what it has asked for
// changes.
type Group interface {
	// Authorities returns the CA certificates of a name.
	Authorities(name string) ([]*x509.Certificate, error)
	// Certificate returns what a reference means: of a name the versions in use and next, of an id that version; with private
	// keys where they are known. There is at least one.
	Certificate(reference string) ([]*certs.Version, error)
	// Versions returns all versions of a certificate that a name means, the one in use first; of an id that version.
	Versions(reference string) ([]*certs.Version, error)
	// Egress says where the gateway's own calls may go.
	Egress() *hostsvc.EgressRules
	// Store returns the store of that name that the gateways of the group share.
	Store(name string) (*hostsvc.SharedStore, error)
}

// Deps is what a policy gets besides its config.
type Deps struct {
	Binding Identity
	Host    *hostsvc.Services
	// Group is asked while the policy is built, and not later.
	Group Group
	Log   *slog.Logger
}

// Factory builds policies of one type.
type Factory struct {
	Type  string
	Phase optionsv1.Phase
	// Message is the full name of the config message.
	Message protoreflect.FullName
	Build   func(cfg proto.Message, d Deps) (Policy, error)
	// Pure: what is built follows from the config alone, so bindings with the same one may share it.
	Pure bool
}

// OfPure is Of for policies that follow from their configuration and from nothing else.
func OfPure[C proto.Message](build func(cfg C) (Policy, error)) Factory {
	f := Of(func(cfg C, _ Deps) (Policy, error) { return build(cfg) })
	f.Pure = true
	return f
}

// Of makes a Factory from a typed build function; type and phase come from the options of the config message. It panics
// if the message is no policy config: that is a mistake in the registry, found by its test.
func Of[C proto.Message](build func(cfg C, d Deps) (Policy, error)) Factory {
	var zero C
	desc := zero.ProtoReflect().Descriptor()
	opts, ok := proto.GetExtension(desc.Options(), optionsv1.E_Policy).(*optionsv1.PolicyOptions)
	if !ok || opts.GetType() == "" {
		panic(fmt.Sprintf("policy: %s has no policy option", desc.FullName()))
	}
	return Factory{
		Type: opts.GetType(), Phase: opts.GetPhase(), Message: desc.FullName(),
		Build: func(cfg proto.Message, d Deps) (Policy, error) {
			typed, ok := cfg.(C)
			if !ok {
				return nil, fmt.Errorf("build %s: config is not a %s", opts.GetType(), desc.FullName())
			}
			p, err := build(typed, d)
			if err != nil {
				return nil, fmt.Errorf("build %s: %w", opts.GetType(), err)
			}
			return p, nil
		},
	}
}
