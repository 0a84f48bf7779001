package daemon

import (
	"context"
	"sync"
)

// locks keep tasks apart that must not run at once.
type locks interface {
	// try takes a lock if it is free. It is released with the function that is returned; nil: somebody else has it.
	try(ctx context.Context, name string) (release func(), err error)
}

// ownLocks are those of a queue that one process has for itself.
type ownLocks struct {
	mu   sync.Mutex // guards what follows
	held map[string]bool
}

func newOwnLocks() *ownLocks { return &ownLocks{held: map[string]bool{}} }

func (l *ownLocks) try(_ context.Context, name string) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] {
		return nil, nil
	}
	l.held[name] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
	}, nil
}
