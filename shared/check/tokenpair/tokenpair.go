// Package tokenpair says what pairs of tokens are that vault-auth knows callers by: which can be such, and what their keyed hashes
// are made of. The control plane hashes what it reads, gateways what they are shown. It is pure.
package tokenpair

import "encoding/binary"

// Kinds of the resources that say where pairs are, and of the system records with what was read there.
const (
	KindStore = "credential-stores"
	KindEntry = "stored-credentials"
	KindState = "credential-store-states"
)

// Type is the type of the policy, and of the credentials that it knows callers by.
const Type = "vault-auth"

// MaxToken is the most bytes of a token.
const MaxToken = 512

// Token reports whether a text can be a token: 1 to MaxToken visible ASCII characters.
func Token[T string | []byte](text T) bool {
	if len(text) == 0 || len(text) > MaxToken {
		return false
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// Size is at least how long what Append appends is.
func Size(store string, access, secret []byte) int {
	return 3 + len(store) + 8 + len(access) + len(secret)
}

// Append appends what the hash of a pair is made of. It is another one for each store, so that no pair of one counts in another,
// and for each way to divide the same characters between the tokens.
func Append(dst []byte, store string, access, secret []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, "2:"...), uint32(len(store)))
	dst = binary.BigEndian.AppendUint32(append(dst, store...), uint32(len(access)))
	return append(append(dst, access...), secret...)
}

// Access is what the hash of an access token alone is made of, and Entry that of the name of an entry. Neither is ever what that
// of a pair is made of.
func Access(store, access string) []byte { return one("1:", store, access) }

// Entry is told with Access.
func Entry(store, name string) []byte { return one("0:", store, name) }

func one(sort, store, text string) []byte {
	return append(append(binary.BigEndian.AppendUint32([]byte(sort), uint32(len(store))), store...), text...)
}
