package admission

import (
	"crypto/fips140"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/password"
	"keyward.dev/shared/secret"
)

// passwordHash decides about a password that is given as its hash: by whoever knows no more of it, or by the write path, which
// has hashed it.
func (j *judge) passwordHash(f secret.Field, at string) {
	if f.Storage != optionsv1.Storage_STORAGE_PASSWORD_HASH {
		j.fail(at, "is no password: its hash cannot be given in its place")
		return
	}
	h, err := password.Parse(f.Get().GetPasswordHash().GetText())
	switch {
	case err != nil:
		j.fail(at, "%s", err)
	case fips140.Enabled() && !h.Approved():
		j.fail(at, notApproved, "this hash")
	default:
		f.Set(&configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: h.String()}}})
	}
}
