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
