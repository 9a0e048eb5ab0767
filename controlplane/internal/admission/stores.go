package admission

import (
	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/problem"
)

// maxStores bounds how many folders the control plane reads for a group.
const maxStores = 16

// stores checks that credential stores can be read from where they say, whatever is there.
func (j *judge) stores() {
	total := 0
	for _, e := range j.entries {
		s, ok := e.msg.(*configv1.CredentialStore)
		if !ok {
			continue
		}
		if total == 0 {
			for range j.set.all(e.kind.Name) {
				total++
			}
		}
		switch reason := j.elsewhere(secretplace.InFolder(s.GetProvider(), s.GetPath())); {
		case e.stored == nil && total > maxStores:
			j.fail(e.path, "the group would have %d credential stores; it may have %d", total, maxStores)
			return
		case s.GetPath() != "" && !secretplace.Path(s.GetPath()):
			j.fail(problem.Join(e.path, "path"), "must be a path of letters, digits and . _ @ : + = , - /, without slashes at its ends")
		case s.GetProvider() != "" && reason != "":
			j.fail(problem.Join(e.path, "provider"), "gives no KV engine of Vault: %s", reason)
		}
	}
}
