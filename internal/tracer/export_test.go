package tracer

// Held tells how many connections an assembler knows, and how many bytes wait in it.
func Held(a *Assembler) (connections, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.streams), a.held
}
