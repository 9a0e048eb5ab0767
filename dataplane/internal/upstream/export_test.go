package upstream

// Workers returns how many goroutines wait for a body to send.
func Workers(m *Manager) int {
	m.workers.mu.Lock()
	defer m.workers.mu.Unlock()
	return len(m.workers.idle)
}

// Waiting returns how many calls wait for a connection.
func Waiting(m *Manager) (n int) {
	for _, s := range m.all() {
		for _, t := range s.all() {
			t.pool.mu.Lock()
			n += t.pool.queue.n
			t.pool.mu.Unlock()
		}
	}
	return n
}

// Reusable returns how many idle connections over plain TCP would be used again.
func Reusable(m *Manager) (n int) {
	for _, s := range m.all() {
		for _, t := range s.all() {
			t.pool.mu.Lock()
			for _, l := range t.pool.idle {
				if l.quiet() {
					n++
				}
			}
			t.pool.mu.Unlock()
		}
	}
	return n
}

// Arrived returns nil when something can be read from every idle connection, below TLS if there is any.
func Arrived(m *Manager) error {
	for _, s := range m.all() {
		for _, t := range s.all() {
			t.pool.mu.Lock()
			for _, l := range t.pool.idle {
				if err := l.socket.raw.Read(l.socket.look.try); err == nil && isNothing(l.socket.look.err) {
					t.pool.mu.Unlock()
					return errNothing{}
				}
			}
			t.pool.mu.Unlock()
		}
	}
	return nil
}

// Active returns how many requests are counted as under way.
func Active(m *Manager) (n int64) {
	for _, s := range m.all() {
		for _, t := range s.all() {
			n += t.Active()
		}
	}
	return n
}
