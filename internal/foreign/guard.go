package foreign

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"holdfast"
)

// pg_restore takes the end of a tar, and of a file in a folder, for the end of what is in it, wherever that comes, and exits
// with status 0. So what goes to it is looked at here as well.

// guard passes bytes on and lets check read them too. It returns io.EOF only when check found nothing wrong.
type guard struct {
	inner   io.ReadCloser
	feed    *io.PipeWriter
	checked chan error // holds what check came to
	over    bool       // checked was received from
	err     error
}

func newGuard(inner io.ReadCloser, check func(io.Reader) error) *guard {
	r, w := io.Pipe()
	g := &guard{inner: inner, feed: w, checked: make(chan error, 1)}
	go func() {
		err := check(r)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		r.CloseWithError(errChecked) // whoever still writes need not wait
		g.checked <- err
	}()
	return g
}

// errChecked is what is written to a check that has seen enough; what it came to is told apart.
var errChecked = errors.New("the check has ended")

func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.inner.Read(p)
	stopped := false
	if n > 0 {
		_, writeErr := g.feed.Write(p[:n])
		stopped = writeErr != nil
	}
	if err == io.EOF || stopped && err == nil {
		if failed := g.finish(nil); failed != nil {
			err = failed
		}
	}
	g.err = err
	if err != nil && err != io.EOF {
		return 0, err
	}
	return n, err
}

// finish ends the check and returns its error.
func (g *guard) finish(cause error) error {
	g.feed.CloseWithError(cause) // nil is io.EOF
	if g.over {
		return nil
	}
	g.over = true
	return <-g.checked
}

func (g *guard) Close() error {
	_ = g.finish(io.ErrClosedPipe) // what a check of half a stream comes to tells nothing
	if g.err == nil {
		g.err = io.ErrClosedPipe
	}
	return g.inner.Close()
}

const hintCut = "the archive was not finished, or not copied to its end: take another copy, or an older one"

// guardTar demands that a tar is whole, up to the blocks of zeros that end it.
func guardTar(inner io.ReadCloser) io.ReadCloser {
	return newGuard(inner, func(r io.Reader) error {
		ending := &ending{Reader: r}
		archive := tar.NewReader(ending)
		for {
			_, err := archive.Next()
			if err == io.EOF && !ending.reached {
				return nil
			}
			if err == nil {
				_, err = io.Copy(io.Discard, archive)
			}
			if err != nil {
				return holdfast.WithHint(damaged(fmt.Errorf("the tar is cut short or damaged: %w", noEOF(err))), hintCut)
			}
		}
	})
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ending notices whether the end of the bytes was reached, which archive/tar does not tell from the end of the archive.
type ending struct {
	io.Reader
	reached bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if n == 0 && err == io.EOF {
		e.reached = true
	}
	return n, err
}

// rowsName is how pg_dump -Fd calls the file of a table's rows, compressed or not.
var rowsName = regexp.MustCompile(`^[0-9]+\.dat(\.gz|\.zst|\.lz4)?$`)

// guardMember demands that a file of pg_dump -Fd is whole: that a compressed one unpacks, and that rows end as they must.
func guardMember(name string, r io.Reader) io.ReadCloser {
	return newGuard(io.NopCloser(r), func(r io.Reader) error {
		plain := &peeker{bufio.NewReaderSize(r, headSize), io.NopCloser(nil)}
		head, err := plain.Peek(headSize)
		if err != nil && err != io.EOF {
			return err
		}
		if bytes.HasPrefix(head, []byte("\x04\x22\x4d\x18")) {
			return holdfast.WithHint(fmt.Errorf("%w: it is compressed with lz4, and nothing here tells whether it is whole", holdfast.ErrCannotTest),
				"turn the folder into SQL with pg_restore --file, and give that")
		}
		content := io.Reader(plain)
		if layer, is := layerOf(head); is && !layer.Seals() {
			opened, err := decompress(layer, plain)
			if err != nil {
				return err
			}
			defer opened.Close()
			content = opened
		}
		last := &tail{}
		if _, err := io.Copy(last, content); err != nil {
			return err
		}
		// Rows of COPY end with a line of their own, INSERT with a semicolon.
		end := bytes.TrimRight(last.kept, "\n")
		if rowsName.MatchString(name) && !bytes.HasSuffix(end, []byte(`\.`)) && !bytes.HasSuffix(end, []byte(";")) && len(end) > 0 {
			return holdfast.WithHint(damaged(errors.New("its rows have no end: it is cut short")), hintCut)
		}
		return nil
	})
}

// tail keeps the last bytes that are written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 64
	t.kept = append(t.kept, p[max(0, len(p)-keep):]...)
	t.kept = append(t.kept[:0], t.kept[max(0, len(t.kept)-keep):]...)
	return len(p), nil
}
