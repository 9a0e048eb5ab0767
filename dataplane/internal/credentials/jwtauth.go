package credentials

import (
	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/token"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/jwk"
)

// jwtAuth reads the key that a consumer signs its tokens with.
func jwtAuth(cfg proto.Message) (any, string) {
	m, ok := cfg.(*credentialv1.JwtAuth)
	if !ok {
		return nil, unknown
	}
	own := &token.OwnKey{Algorithm: jwk.Algorithm(m.GetAlgorithm())}
	var key *jwk.Key
	var err error
	switch {
	case m.GetKey() != nil:
		key, err = check.SecretKey(m)
	case m.GetPublicKey() != "":
		key, err = check.PublicKey(m)
	case check.KeyURL(m.GetJwksUri()) == "":
		own.URL = m.GetJwksUri()
		return own, ""
	default:
		return nil, "it has no key"
	}
	if err != nil {
		return nil, "its key " + err.Error()
	}
	own.Keys = []*jwk.Key{key}
	return own, ""
}
