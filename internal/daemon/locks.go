package daemon

import (
	"context"
	"sync"
)

// locks keep apart what must not run at once.
type locks interface {
	// try takes all the locks, or none when somebody else has one of them: nil.
	try(ctx context.Context, names ...string) (*grip, error)
}

// grip is a hold of locks.
type grip struct {
	release func()
	lost    <-chan struct{} // closed when they are held no longer; nil: that cannot be
}

// watch calls gone when the hold is lost. The function that it returns ends that, and returns when it has.
func (g *grip) watch(gone func()) (end func()) {
	if g.lost == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-g.lost:
			gone()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// ownLocks are those of a queue that one process has for itself.
type ownLocks struct {
	mu   sync.Mutex // guards what follows
	held map[string]bool
}

func newOwnLocks() *ownLocks { return &ownLocks{held: map[string]bool{}} }

func (l *ownLocks) try(_ context.Context, names ...string) (*grip, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if l.held[name] {
			return nil, nil
		}
	}
	for _, name := range names {
		l.held[name] = true
	}
	return &grip{release: func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, name := range names {
			delete(l.held, name)
		}
	}}, nil
}
