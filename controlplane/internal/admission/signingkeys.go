package admission

import (
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/shared/check/signingkey"
	"keyward.dev/shared/problem"
)

// signingKey checks that a credential of hmac-auth has one key, now that what is kept of it is there. Kept or not: a secret has
// to be long enough for what else the credential says now.
func (j *judge) signingKey(e *entry) {
	c, ok := e.msg.(*configv1.Credential)
	if !ok {
		return
	}
	cfg, err := c.GetConfig().UnmarshalNew()
	m, ok := cfg.(*credentialv1.HmacAuth)
	if err != nil || !ok {
		return
	}
	at := func(field string) string { return problem.Join(e.path, "config."+field) }
	secret := m.GetSecret()
	switch {
	case secret != nil && m.GetPublicKey() != "":
		j.fail(at("public_key"), "goes without a secret, and one is stored: write secret: null beside it")
	case secret == nil && m.GetPublicKey() == "":
		j.fail(at("secret"), "required, unless there is a public_key")
	case secret.GetPlaintext() != "":
		if _, fault := signingkey.Secret(m, secret.GetPlaintext()); fault != nil {
			j.fail(at(fault.Field), "%s", fault.Reason)
			return
		}
		strict := proto.CloneOf(m)
		strict.AllowWeak = false
		if _, fault := signingkey.Secret(strict, secret.GetPlaintext()); fault != nil {
			j.weak(e, at("secret"), "secret", "a weak secret, let in by allow_weak")
		}
	case secret.GetRef() != "" && m.GetAllowWeak():
		j.weak(e, at("secret"), "secret", "what it refers to may be a weak secret: allow_weak lets it in")
	}
}
