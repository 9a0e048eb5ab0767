package hostsvc

import (
	"runtime"
	"time"
)

// The times that count for keys of whom nobody says otherwise.
const (
	defaultKeyRefresh = 5 * time.Minute
	defaultKeyStale   = time.Hour
	defaultKeyTimeout = 5 * time.Second
)

// KeysAt is the source of a set of keys at a URL, kept as one of which nothing else is said.
func KeysAt(url string) KeySource {
	return KeySource{URL: url, Refresh: defaultKeyRefresh, Stale: defaultKeyStale, Timeout: defaultKeyTimeout}
}

// HeldKeys keeps a set fetched as long as somebody has it.
type HeldKeys struct{ set *KeySet }

// Hold has a set fetched, and again whenever that is due, although nobody may have asked for it yet: those who must not wait
// find it there. In a full table sets go all the same.
func (t *KeySets) Hold(s KeySource) *HeldKeys {
	k := t.Open(s)
	k.holders.Add(1)
	h := &HeldKeys{set: k}
	runtime.AddCleanup(h, func(k *KeySet) { k.holders.Add(-1) }, k)
	return h
}
