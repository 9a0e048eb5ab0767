package credentialstore

import (
	"encoding/hex"
	"slices"
	"strconv"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

// hashes are keyed hashes of one thing under every live term of the pepper, the newest first.
type hashes []*configv1.KeyedHash

// keep answers the one that is stored already if it is among them, so that reading the same changes nothing, else the newest.
func (hs hashes) keep(stored *configv1.KeyedHash) *configv1.KeyedHash {
	for _, h := range hs {
		if key(h) == key(stored) {
			return h
		}
	}
	return hs[0]
}

// key is equal for equal hashes.
func key(h *configv1.KeyedHash) string {
	return strconv.FormatUint(uint64(h.GetTerm()), 10) + " " + string(h.GetHash())
}

// hasher hashes for a store.
type hasher struct {
	store string
	hash  func(plaintext []byte) []*configv1.KeyedHash
	terms []uint32
	// named are what records answered before; one goroutine uses it.
	named map[string][]string
}

func newHasher(view *snapshot.View, store string) (*hasher, error) {
	hash, err := configsvc.Hasher(view)
	if err != nil {
		return nil, err
	}
	h := &hasher{store: store, hash: hash, named: map[string][]string{}}
	for _, one := range hash(nil) {
		h.terms = append(h.terms, one.GetTerm())
	}
	return h, nil
}

// same reports whether a view has the same terms.
func (h *hasher) same(view *snapshot.View) bool {
	other, err := newHasher(view, h.store)
	return err == nil && slices.Equal(h.terms, other.terms)
}

// records are the names that the record of an entry may have, one for each term.
func (h *hasher) records(name string) []string {
	out, ok := h.named[name]
	if ok {
		return out
	}
	for _, one := range h.hash(tokenpair.Entry(h.store, name)) {
		out = append(out, prefixOf(h.store)+hex.EncodeToString(one.GetHash()[:12]))
	}
	h.named[name] = out
	return out
}

// prefixOf is how the names of records of a store begin. What follows is of one length, so that no store has those of another.
func prefixOf(store string) string { return store + "." }

const recordSuffix = 24

func (h *hasher) access(p pair) hashes { return h.hash(tokenpair.Access(h.store, p.access)) }

func (h *hasher) pair(p pair) hashes {
	return h.hash(tokenpair.Append(nil, h.store, []byte(p.access), []byte(p.secret)))
}
