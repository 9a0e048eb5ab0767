package hmacauth

import (
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
)

// verify says whether the signature was made with the key that it names. An answer that is no takes as long for a key that is
// not there as for one that is: for each algorithm whose signatures are as long as this one, something is verified.
func (h *hmacAuth) verify(x *exchange.Exchange, w *scratch, base []byte) *exchange.Refusal {
	s, c := &w.chosen, w.credential
	var key *httpsig.Key
	if c != nil {
		var ok bool
		if key, ok = c.Material.(*httpsig.Key); !ok {
			return refuseUnavailable // it is known to be there, and not how to check it
		}
		if !h.algorithms[key.Algorithm()] {
			key = nil
		}
	}
	if key != nil && key.Verify(base, s.Value) && key.Algorithm().Admits(s) && c.ValidAt(x.Timings.Received) {
		return nil
	}
	for _, d := range h.strangers {
		if d.Size() == len(s.Value) && h.algorithms[d.Algorithm()] && (key == nil || key.Algorithm() != d.Algorithm()) {
			d.Verify(base, s.Value)
		}
	}
	if c == nil && !x.Directory.Complete(credentialType) {
		return refuseUnavailable // not to know is not to refuse
	}
	return refuseInvalid
}
