package engine

import (
	"errors"
	"io"
	"sync"

	"holdfast"
)

// watchedReader tells how many bytes went through, and what went wrong.
type watchedReader struct {
	io.ReadCloser
	n     int64
	tell  func(int64)
	fault func(error)
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.n += int64(n)
	w.tell(w.n)
	if err != nil && err != io.EOF {
		w.fault(err)
	}
	return n, err
}

// readFaults remembers why items could not be read: a place may tell of it in words of its own. A store that is away is no
// fault of the backup, and damage of the stored bytes is one whatever a place makes of it. Safe for concurrent use.
type readFaults struct {
	mu     sync.Mutex // guards both
	damage error
	away   error
}

func (f *readFaults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, holdfast.ErrDifference) {
		f.damage = err
	} else {
		f.away = err
	}
}

func (f *readFaults) found() (damage, away error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.damage, f.away
}
