package migration

// Trapped is the link whose operations are told before they are done, on a file system that can exchange names or cannot.
func (l Link) Trapped(trap func(op string), exchange bool) Link {
	l.trap, l.noExchange = trap, !exchange
	return l
}
