package directory

import "maps"

// unreadable is what is there and cannot be read: of what type credentials are, by their uids.
type unreadable struct {
	types map[string]string
	// credentials counts them by type, and consumers those; who they are is not always known.
	credentials map[string]int
	consumers   int
}

const (
	// anyType is that of a credential of which not even the type can be read.
	anyType = ""
	// aConsumer is no type: what cannot be read is a consumer.
	aConsumer = "\x00"
)

// Complete implements exchange.Directory.
func (d *Directory) Complete(typ string) bool {
	u := &d.unreadable
	return !d.lost && u.consumers == 0 && (typ == "" || u.credentials[anyType]+u.credentials[typ] == 0)
}

// SetUnreadable says that there is a credential which cannot be read; the type is empty if that is not known either.
func (e *Editor) SetUnreadable(uid, typ string) {
	e.SetReadable(uid)
	e.ownUnreadable()
	u := &e.d.unreadable
	u.types[uid] = typ
	u.count(typ, 1)
}

// SetUnreadableConsumer says that there is a consumer who cannot be read.
func (e *Editor) SetUnreadableConsumer(uid string) { e.SetUnreadable(uid, aConsumer) }

// SetReadable takes that back; it is no matter if nobody has said it.
func (e *Editor) SetReadable(uid string) {
	typ, ok := e.d.unreadable.types[uid]
	if !ok {
		return
	}
	e.ownUnreadable()
	delete(e.d.unreadable.types, uid)
	e.d.unreadable.count(typ, -1)
}

func (u *unreadable) count(typ string, by int) {
	if typ == aConsumer {
		u.consumers += by
		return
	}
	u.credentials[typ] += by
}

// ownUnreadable makes it this editor's own copy.
func (e *Editor) ownUnreadable() {
	if e.owned.unreadable {
		return
	}
	e.owned.unreadable = true
	u := &e.d.unreadable
	if u.types, u.credentials = maps.Clone(u.types), maps.Clone(u.credentials); u.types == nil {
		u.types, u.credentials = map[string]string{}, map[string]int{}
	}
}
