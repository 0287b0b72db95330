package transfer

// Lent returns the bytes of buffers that are in use.
func (e *Engine) Lent() int64 {
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	return e.memory.lent
}
