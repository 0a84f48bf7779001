package survey

// Remembered is how many manifests and verdicts are remembered.
func (s *Surveyor) Remembered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.jobs {
		n += len(m.facts) + len(m.proofs)
	}
	return n
}
