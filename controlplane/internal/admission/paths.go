package admission

import (
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// certificatePaths refuses files of the control plane that the group may not name. Also of what comes back from the past: which it
// may name counts now. What gateways may read their own settings say.
func (j *judge) certificatePaths(e *entry) {
	c, ok := e.msg.(*configv1.Certificate)
	if !ok {
		return
	}
	for _, slot := range certs.Slots(c) {
		j.file(problem.Join(e.path, slot.Name+".chain"), slot.Version.GetChain())
		j.file(problem.Join(e.path, slot.Name+".private_key"), certs.Reference(slot.Version))
	}
}

// file refuses a file of the control plane that the group may not name; text that names none is not looked at.
func (j *judge) file(at, text string) {
	p, ok := secret.ParsePath(text)
	if !ok || p.Gateway {
		return
	}
	reason := secretplace.NoFile
	if j.req.Secrets != nil {
		reason = j.req.Secrets.Check(p.Reference())
	}
	if reason != "" {
		j.fail(at, "%s", reason)
	}
}
