package conn

// Holds returns how much memory the buffer holds.
func (b *Buffer) Holds() int {
	n := len(b.mem)
	for _, mem := range b.old {
		n += len(mem)
	}
	return n
}

// Sweep looks at all connections once.
func (s *Sweeper) Sweep() { s.sweep(nil) }
