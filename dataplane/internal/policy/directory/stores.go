package directory

// Knows implements exchange.Directory.
func (d *Directory) Knows(store string) bool { return d.stores[store] }

// SetStores says of which credential stores everything is known.
func (e *Editor) SetStores(known map[string]bool) { e.d.stores = known }
