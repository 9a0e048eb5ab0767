package credentials

import (
	"keyward.dev/dataplane/internal/policy/directory"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/tokenpair"
)

// Stored is Read for what was read in a credential store. One that is nobody's, or does not count now, has no consumer.
func Stored(m *systemv1.StoredCredential) (c directory.Credential, reason string) {
	if m.GetConsumer() == "" || m.GetPair() == nil {
		return c, ""
	}
	c = directory.Credential{Type: tokenpair.Type, Consumer: m.GetConsumer(), Expires: moment(m.GetExpires())}
	return c, keyed(&c, m.GetPair())
}
