package directory

import "keyward.dev/dataplane/internal/lastuse"

// Parts is into how many parts Marks divides the credentials.
func (d *Directory) Parts() int { return shardCount }

// Marks calls yield with the credentials of a part whose uses are noted, by uid, while it wants more. They need not belong to a
// consumer that is there.
func (d *Directory) Marks(part int, yield func(uid string, m *lastuse.Mark) bool) {
	for uid, e := range d.byUID[part] {
		if e.noted && !yield(uid, &e.used) {
			return
		}
	}
}

// Mark is that of a credential, nil if it has none or is not there.
func (d *Directory) Mark(uid string) *lastuse.Mark {
	if e := d.byUID[nameShard(uid)][uid]; e != nil {
		return e.principal.Used
	}
	return nil
}
