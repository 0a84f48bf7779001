package engine

import "io"

type readCloser = io.ReadCloser

// watchedReader tells how many bytes went through.
type watchedReader struct {
	readCloser
	n    int64
	tell func(int64)
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.readCloser.Read(p)
	w.n += int64(n)
	w.tell(w.n)
	return n, err
}
