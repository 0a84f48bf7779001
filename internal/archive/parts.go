package archive

import (
	"context"
	"fmt"
	"io"
	"path"

	"holdfast"
	"holdfast/internal/store"
)

// partWriter stores what is written to it as one object, or as several when it grows beyond a limit. Every object is one
// Put that runs in a goroutine of its own, fed through a pipe; Close or abort waits for it.
type partWriter struct {
	ctx   context.Context // of the one put that the writer lives for
	store *store.Store
	name  string
	limit int64

	pipe   *io.PipeWriter
	done   chan error
	left   int64
	opened int
	failed error // of a Put
}

func newPartWriter(ctx context.Context, s *store.Store, name string, limit int64) *partWriter {
	return &partWriter{ctx: ctx, store: s, name: name, limit: limit}
}

func (p *partWriter) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		if p.pipe != nil && p.left == 0 {
			if err := p.finish(); err != nil {
				return written, err
			}
		}
		if p.pipe == nil {
			if p.opened == maxParts {
				return written, holdfast.WithHint(fmt.Errorf("%s is too big: it takes more than %d objects of %d bytes", path.Base(p.name), maxParts, p.limit),
					"split the source, or leave something out")
			}
			p.begin()
		}
		piece := data[:min(int64(len(data)), p.left)]
		n, err := p.pipe.Write(piece)
		written += n
		p.left -= int64(n)
		if err != nil {
			p.failed = err
			return written, err
		}
		data = data[n:]
	}
	return written, nil
}

func (p *partWriter) begin() {
	r, w := io.Pipe()
	name := partName(p.name, p.opened)
	p.opened++
	p.pipe, p.done, p.left = w, make(chan error, 1), p.limit
	go func() {
		err := p.store.Put(p.ctx, name, r)
		// A writer must not wait for a Put that has given up.
		r.CloseWithError(err)
		p.done <- err
	}()
}

func (p *partWriter) finish() error {
	p.pipe.Close()
	err := <-p.done
	p.pipe = nil
	if err != nil {
		p.failed = err
	}
	return err
}

// Close makes the last part durable. An item without bytes is one empty object.
func (p *partWriter) Close() error {
	if p.pipe == nil && p.opened == 0 {
		p.begin()
	}
	if p.pipe == nil {
		return nil
	}
	return p.finish()
}

// abort makes the running Put fail, so that its object never shows, and waits for it.
func (p *partWriter) abort(cause error) {
	if p.pipe != nil {
		p.pipe.CloseWithError(cause)
		<-p.done
		p.pipe = nil
	}
}

func (p *partWriter) count() int { return p.opened }
