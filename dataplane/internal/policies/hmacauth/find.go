package hmacauth

import (
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
	"keyward.dev/dataplane/internal/policy"
)

// find reads the signature that counts into w.chosen, and whose key it names into w.credential; nil is nobody's.
func (h *hmacAuth) find(x *exchange.Exchange, w *scratch) *exchange.Refusal {
	var text []byte
	var hmac bool
	drafts := 0
	if h.cavage {
		text, hmac, drafts = httpsig.Cavage(&w.message)
	}
	if h.rfc9421 {
		switch found, r := h.labelled(x, w); {
		case r != nil:
			return r
		case found && drafts > 0:
			return refuseSeveral
		case found:
			return nil
		}
	}
	switch {
	case drafts == 0:
		return refuseMissing
	case drafts > 1:
		return refuseSeveral
	}
	if err := httpsig.ParseCavage(text, hmac, &w.chosen, x); err != nil {
		return refusalOf(err)
	}
	w.credential = w.lookup(x, w.chosen.KeyID)
	return nil
}

// labelled reads the signatures of RFC 9421, of which a request may have several: proxies add theirs. The one that counts is
// that whose key is known here. Of two such nobody can tell which is meant, and neither counts.
func (h *hmacAuth) labelled(x *exchange.Exchange, w *scratch) (found bool, _ *exchange.Refusal) {
	if !w.inputs.Begin(&w.message, x) {
		return false, nil
	}
	several := false
	for s := &w.signature; w.inputs.Next(s); {
		if h.tag != "" && string(s.Tag) != h.tag {
			continue
		}
		c := w.lookup(x, s.KeyID)
		several = several || c != nil && w.credential != nil
		if !found || c != nil {
			w.chosen = *s
		}
		if c != nil {
			w.credential = c
		}
		found = true
	}
	if err := w.inputs.Err(); err != nil {
		return false, refusalOf(err)
	}
	if several {
		w.credential = nil
	}
	if found {
		if err := w.inputs.Value(&w.chosen); err != nil {
			return false, refusalOf(err)
		}
	}
	return found, nil
}

// lookup returns the credential of that key id, nil if there is none.
func (w *scratch) lookup(x *exchange.Exchange, id []byte) *exchange.Credential {
	if x.Directory == nil || len(id) == 0 || len(id) > maxKeyID {
		return nil
	}
	w.hash = exchange.NameHash(credentialType, id)
	c, several := x.Directory.Identified(credentialType, &w.hash)
	if several {
		return nil
	}
	return c
}

// Hide implements policy.Hider. Of the signatures of RFC 9421 those are removed that are meant for the gateway: others are for
// who comes after it.
func (h *hmacAuth) Hide(x *exchange.Exchange) {
	if !h.hide {
		return
	}
	fields := &x.Request.Header
	labelled := fields.Has("Signature-Input")
	if h.cavage {
		for i := len(*fields) - 1; i >= 0; i-- {
			if httpsig.IsCavage(&(*fields)[i], !labelled) {
				fields.DelAt(i)
			}
		}
	}
	if h.rfc9421 && labelled {
		h.hideLabelled(x)
	}
}

func (h *hmacAuth) hideLabelled(x *exchange.Exchange) {
	w, ok := h.scratch.Get().(*scratch)
	if !ok {
		return
	}
	w.message = message(x)
	w.inputs.Begin(&w.message, x)
	var hidden [httpsig.MaxSignatures][]byte
	n, all := 0, 0
	for s := &w.signature; w.inputs.Next(s); all++ {
		if (h.tag == "" || string(s.Tag) == h.tag) && w.lookup(x, s.KeyID) != nil {
			hidden[n] = s.Label
			n++
		}
	}
	fields := &x.Request.Header
	for _, name := range [...]string{"Signature-Input", "Signature"} {
		if w.inputs.Err() != nil || n == 0 {
			break
		}
		var rest []byte
		if n < all {
			rest = httpsig.Without(&w.message, name, hidden[:n], x)
		}
		if i := fields.Index(name, 0); i >= 0 && len(rest) > 0 {
			fields.Set(exchange.Header{Name: (*fields)[i].Name, Value: rest})
		} else {
			fields.Del(name)
		}
	}
	*w = scratch{}
	h.scratch.Put(w)
}

// Interfaces of authentication.
var (
	_ policy.Hider      = (*hmacAuth)(nil)
	_ policy.Bearer     = (*hmacAuth)(nil)
	_ policy.Uniform    = (*hmacAuth)(nil)
	_ policy.Challenger = (*hmacAuth)(nil)
)
