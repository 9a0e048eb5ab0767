// Package credentials reads stored credentials for the directory: by what each is found, and what presented proof is
// compared with. Called by compile, and by the tests of policies. A type is one line in the table and one function.
package credentials

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy/directory"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certname"
)

// unknown is why a credential of a newer version does not count.
const unknown = "this gateway does not know its type"

// material says what proof is compared with, or why the configuration is none. Its secrets are in the clear.
type material func(cfg proto.Message) (_ any, reason string)

// known are the types that are found by the name that their configuration has as an identifier.
func known(typ string) material {
	switch typ {
	case "basic-auth":
		return passwordHash
	case "jwt-auth":
		return jwtAuth
	case "hmac-auth":
		return signingKey
	default:
		return nil
	}
}

// Read returns the credential for the directory, but for its UID and what it is bound to. The reason says why it does not
// count. What a secret refers to is in its place; while it is not resolved, the credential is known and proves nothing.
func Read(m *configv1.Credential, cfg proto.Message, resolved bool) (c directory.Credential, reason string) {
	c = directory.Credential{
		Name: m.GetName(), Type: m.GetType(), Consumer: m.GetConsumer(),
		NotBefore: moment(m.GetNotBefore()), Expires: moment(m.GetExpires()),
	}
	if check.CredentialType(cfg) != c.Type {
		return c, unknown
	}
	switch cfg := cfg.(type) {
	case *credentialv1.KeyAuth:
		return c, keyed(&c, cfg.GetKey().GetKeyedHash())
	case *credentialv1.MtlsAuth:
		return c, certified(&c, cfg)
	}
	make := known(c.Type)
	if make == nil {
		return c, unknown
	}
	_, name := check.Identifier(cfg)
	if name == "" {
		return c, "it has no name to be known by"
	}
	c.Hash, c.Subject = exchange.NameHash(c.Type, []byte(name)), name
	if resolved {
		c.Material, reason = make(cfg)
	}
	return c, reason
}

func keyed(c *directory.Credential, h *configv1.KeyedHash) (reason string) {
	c.Term = h.GetTerm()
	if copy(c.Hash[:], h.GetHash()) != len(c.Hash) || len(h.GetHash()) != len(c.Hash) || c.Term == 0 {
		return "it has no keyed hash"
	}
	return ""
}

func certified(c *directory.Credential, m *credentialv1.MtlsAuth) (reason string) {
	n := certname.OfCredential(m)
	if n.Text == "" {
		return "it names no certificate"
	}
	c.Hash = n.Hash()
	return ""
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Kind says as what a consumer calls.
func Kind(k configv1.ConsumerKind) exchange.PrincipalKind {
	if k == configv1.ConsumerKind_CONSUMER_KIND_MACHINE {
		return exchange.KindMachine
	}
	return exchange.KindUser
}
