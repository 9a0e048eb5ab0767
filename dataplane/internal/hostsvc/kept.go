package hostsvc

import (
	"runtime"
	"sync"
	"weak"
)

// Kept holds things by what they are about, as long as somebody uses them: whoever asks for the same thing meanwhile gets the
// very one. A runtime that is compiled while the one before serves so finds what that one uses; what no runtime uses any more
// is gone with it.
type Kept struct {
	mu   sync.Mutex
	held map[string]any // weak pointers
}

// Keep returns what is held for the key, or holds what make makes. Keys say what type they are for: the same key for another
// type replaces what is held.
func Keep[T any](k *Kept, key string, make func() *T) *T {
	k.mu.Lock()
	defer k.mu.Unlock()
	if held, ok := k.held[key].(weak.Pointer[T]); ok {
		if p := held.Value(); p != nil {
			return p
		}
	}
	p := make()
	w := weak.Make(p)
	if k.held == nil {
		k.held = map[string]any{}
	}
	k.held[key] = w
	runtime.AddCleanup(p, func(w weak.Pointer[T]) { k.drop(key, w) }, w)
	return p
}

// drop forgets what nobody uses, unless something new is held in its place.
func (k *Kept) drop(key string, w any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[key] == w {
		delete(k.held, key)
	}
}

// Held returns what is held of a type, in no order.
func Held[T any](k *Kept) []*T {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*T
	for _, held := range k.held {
		if w, ok := held.(weak.Pointer[T]); ok {
			if p := w.Value(); p != nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// Len returns how many things are held.
func (k *Kept) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}
