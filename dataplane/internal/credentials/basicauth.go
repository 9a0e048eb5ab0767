package credentials

import (
	"crypto/fips140"

	"google.golang.org/protobuf/proto"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/password"
)

// passwordHash is the material of basic-auth: a *password.Hash.
func passwordHash(cfg proto.Message) (_ any, reason string) {
	m, ok := cfg.(*credentialv1.BasicAuth)
	if !ok {
		return nil, unknown
	}
	h, err := password.Parse(m.GetPassword().GetPasswordHash().GetText())
	if err != nil {
		return nil, "the hash of its password " + err.Error()
	}
	if fips140.Enforced() && !h.Approved() {
		return nil, "FIPS 140-3 does not approve of the hash of its password"
	}
	return h, ""
}
