package credentials

import (
	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/httpsig"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check/signingkey"
)

// signingKey is the *httpsig.Key of a credential.
func signingKey(cfg proto.Message) (any, string) {
	m, ok := cfg.(*credentialv1.HmacAuth)
	if !ok {
		return nil, unknown
	}
	secret := m.GetSecret().GetPlaintext()
	if (secret != "") == (m.GetPublicKey() != "") {
		return nil, "it has no key, or two"
	}
	k, fault := signingkey.Public(m)
	if secret != "" {
		k, fault = signingkey.Secret(m, secret)
	}
	if fault != nil {
		return nil, "its " + fault.Field + " " + fault.Reason
	}
	key, err := verifier(k)
	if err != nil {
		return nil, "its key and algorithm do not go together"
	}
	return key, ""
}

func verifier(k signingkey.Key) (*httpsig.Key, error) {
	a := httpsig.AlgorithmOf(k.Algorithm)
	if k.Secret != nil {
		return httpsig.NewSecret(a, k.Secret)
	}
	return httpsig.NewPublic(a, k.Public)
}
