package admission

import (
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/problem"
)

// shown refuses certificates between which gateways could not choose: for one server name with one kind of key.
func (j *judge) shown() {
	held := map[string]*entry{}
	for _, e := range j.entries {
		c, ok := e.msg.(*configv1.Certificate)
		if !ok {
			continue
		}
		for i, sni := range c.GetSnis() {
			for claim := range claims.Shown(c, sni) {
				if other := j.placeHolder(e, claim, held); other != "" {
					kind := claim[strings.LastIndexByte(claim, ' ')+1:]
					j.failWith(problem.Conflict, problem.Join(e.path, problem.Index("snis", i)),
						"%s is presented for %s with a key of the same kind, %s: gateways could not choose", other, sni, kind)
				}
			}
		}
	}
}
