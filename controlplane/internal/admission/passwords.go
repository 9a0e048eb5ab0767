package admission

import (
	"fmt"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/password"
	"keyward.dev/shared/problem"
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
	if err != nil {
		j.fail(at, "%s", err)
		return
	}
	f.Set(&configv1.Secret{Value: &configv1.Secret_PasswordHash{PasswordHash: &configv1.PasswordHash{Text: h.String()}}})
}

// hashesNotApproved names the imported hashes of passwords that FIPS 140-3 does not approve of: gateways would not compute them.
func hashesNotApproved(m *configv1.Credential) (out []problem.Violation) {
	// A configuration that cannot be read is refused elsewhere.
	_ = secret.Walk(m, func(f secret.Field) {
		h, err := password.Parse(f.Get().GetPasswordHash().GetText())
		if err == nil && !h.Approved() {
			out = append(out, problem.Violation{Path: f.Path, Reason: fmt.Sprintf(notApproved, "this hash")})
		}
	})
	return out
}
