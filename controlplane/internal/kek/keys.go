package kek

import "fmt"

// Keys are the keys that a process has.
type Keys struct {
	// Current wraps what is new.
	Current Wrapper
	// Retired were current before: they unwrap, and what they wrapped is to be wrapped by the current one.
	Retired []Wrapper
	// Next unwrap only. Another process may have made one of them current already.
	Next []Wrapper
}

// Role is what a key is to a process.
type Role string

// Roles of keys.
const (
	RoleCurrent Role = "current"
	RoleRetired Role = "retired"
	RoleNext    Role = "next"
	RoleMissing Role = "missing"
)

// Check says whether each key is there once.
func (k Keys) Check() error {
	seen := map[string]bool{}
	for _, w := range k.all() {
		if seen[w.ID()] {
			return fmt.Errorf("key-encryption key %s is given twice: one of a name can be told from another only by its name", w.ID())
		}
		seen[w.ID()] = true
	}
	return nil
}

// Find answers the key of a name and its role; nil and RoleMissing if there is none.
func (k Keys) Find(id string) (Wrapper, Role) {
	for i, w := range k.all() {
		switch {
		case w.ID() != id:
		case i == 0:
			return w, RoleCurrent
		case i <= len(k.Retired):
			return w, RoleRetired
		default:
			return w, RoleNext
		}
	}
	return nil, RoleMissing
}

// IDs are the names of all keys, the current one first.
func (k Keys) IDs() []string {
	var ids []string
	for _, w := range k.all() {
		ids = append(ids, w.ID())
	}
	return ids
}

func (k Keys) all() []Wrapper {
	return append(append([]Wrapper{k.Current}, k.Retired...), k.Next...)
}
