// Package sealer joins keyring, key-encryption key and store: it makes, loads and caches the keyring of each group and of
// the system, and hands out a Group that seals, opens and authenticates what belongs to it. The write path, the snapshot,
// the audit chain and the authorities use it. It never falls back to plain text: what cannot be sealed is not written,
// and what does not open is refused by name.
package sealer
