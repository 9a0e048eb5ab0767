// Package keyring seals and opens with the data keys of one gateway group, or of the system. A Ring is an immutable
// value; changing it gives another one. It does no I/O: package sealer loads, wraps and replaces rings, and is the only
// caller together with tests.
//
// # Sealing
//
// A ring has numbered terms. The newest seals, all open. Every ciphertext has a key of its own,
//
//	key = HKDF-SHA-256(secret: key of the term, salt: 32 random bytes, info: "keyward/seal/v1")
//
// so that no number of ciphertexts under one term comes near the bound of AES-GCM with random nonces; two salts are equal
// with probability 2^-128 after 2^64 ciphertexts. The nonce is random all the same: in FIPS mode the standard library
// seals only with a nonce it drew itself, and 12 bytes are no price. A ciphertext is
//
//	format (1 byte) | term (4, big endian) | salt (32) | nonce (12) | AES-256-GCM ciphertext | tag (16)
//
// and the additional data are format, term and salt followed by the Place, each part with its length in front. So a
// ciphertext opens only in the table, group, kind, uid and revision it was sealed for. What a row says in the clear beside
// them (name, labels) is sealed with the content and compared on opening: SealRow, OpenRow.
//
// # Authenticating
//
// Each term also has a MAC key, which stays when the term's sealing key is removed: audit rows are never written again and
// must verify as long as they are kept.
package keyring
