package basicauth

import (
	"encoding/binary"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/password"
)

// sampler is a directory that can tell what its credentials are like.
type sampler interface {
	Sample(typ string) []*exchange.Credential
}

// decoy returns the hash to be computed for a user who does not exist, known by what stands for the name in this process. It is
// that of somebody who does: whatever the group's hashes cost, and however many of them cost what, a name that nobody has
// costs the same as some name that somebody has, and the same each time. That it may verify lets nobody in. If nobody has a
// password it is the fallback.
func decoy(dir exchange.Directory, name *hostsvc.Proof, fallback *password.Hash) *password.Hash {
	from, ok := dir.(sampler)
	if !ok {
		return fallback
	}
	best, score := fallback, uint64(0)
	for _, c := range from.Sample(credentialType) { // the one that gets most of this name: others that come and go do not change it
		h, ok := c.Material.(*password.Hash)
		if !ok {
			continue
		}
		if v := weight(name, h.Bytes()); v >= score {
			best, score = h, v
		}
	}
	return best
}

// weight is FNV-1a over both, which the name's keyed hash makes unforeseeable.
func weight(name *hostsvc.Proof, hash []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	v := uint64(offset) ^ binary.LittleEndian.Uint64(name[:])
	for _, c := range hash {
		v = (v ^ uint64(c)) * prime
	}
	v ^= binary.LittleEndian.Uint64(name[8:])
	v *= prime
	return v ^ v>>32
}
