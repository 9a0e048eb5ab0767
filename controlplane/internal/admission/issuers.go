package admission

import (
	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/problem"
)

func isIssuer(m proto.Message) bool {
	_, ok := m.(*configv1.AcmeIssuer)
	return ok
}

// issuers refuses external accounts without a key, now that it is known which keys are kept: an authority that wants one would
// refuse the account.
func (j *judge) issuers() {
	for _, e := range j.entries {
		issuer, ok := e.msg.(*configv1.AcmeIssuer)
		if !ok || issuer.GetExternalAccount() == nil {
			continue
		}
		if issuer.GetExternalAccount().GetKey().GetValue() == nil {
			j.fail(problem.Join(e.path, "external_account.key"), "required")
		}
	}
}
