package foreign

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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

var (
	// rowsName is how pg_dump -Fd calls the file of a table's rows, compressed or not; blobsName the list of large objects.
	rowsName  = regexp.MustCompile(`^[0-9]+\.dat(\.gz|\.zst|\.lz4)?$`)
	blobsName = regexp.MustCompile(`^blobs(_[0-9]+)?\.toc$`)
)

// memberLayer tells by its name how pg_dump -Fd compressed a file, as pg_restore does.
func memberLayer(name string) (layer Layer, compressed bool) {
	switch filepath.Ext(name) {
	case ".gz":
		return Gzip, true
	case ".zst":
		return Zstd, true
	case ".lz4":
		return "lz4", true
	}
	return "", false
}

// guardMember demands that a file of pg_dump -Fd is whole: that a compressed one unpacks, and that rows end as they must. A full
// disk leaves files of no bytes at all, which pg_restore takes for tables without rows.
func guardMember(name string, r io.Reader) io.ReadCloser {
	return newGuard(io.NopCloser(r), func(r io.Reader) error {
		plain := &peeker{bufio.NewReaderSize(r, headSize), io.NopCloser(nil)}
		head, err := plain.Peek(headSize)
		if err != nil && err != io.EOF {
			return err
		}
		content := io.Reader(plain)
		if layer, compressed := memberLayer(name); compressed {
			if content, err = memberContent(name, layer, head, plain); err != nil {
				return err
			}
		}
		last := &tail{}
		size, err := io.Copy(last, content)
		if err != nil {
			return err
		}
		whole := true
		switch {
		case rowsName.MatchString(name):
			// Rows of COPY end with a line of their own, INSERT with a semicolon; a table without rows has none of these.
			end := bytes.TrimRight(last.kept, "\n")
			whole = bytes.HasSuffix(end, []byte(`\.`)) || bytes.HasSuffix(end, []byte(";")) || string(last.kept) == noInserts
		case blobsName.MatchString(name):
			whole = bytes.HasSuffix(last.kept, []byte("\n"))
		}
		switch {
		case whole:
			return nil
		case size == 0:
			return holdfast.WithHint(damaged(errors.New("there is nothing in it, and pg_dump writes an end even where there are no rows")), hintCut)
		}
		return holdfast.WithHint(damaged(errors.New("its rows have no end: it is cut short")), hintCut)
	})
}

// noInserts is what pg_dump -Fd --inserts writes of a table without rows.
const noInserts = "\n\n"

// emptyBlob is a large object that pg_dump may write as a file of no bytes; gzip always writes some.
var emptyBlob = regexp.MustCompile(`^blob_[0-9]+\.dat\.(?:zst|lz4)$`)

// memberContent unpacks a file of pg_dump -Fd that is compressed as its name says.
func memberContent(name string, layer Layer, head []byte, plain *peeker) (io.Reader, error) {
	switch found, is := layerOf(head); {
	case len(head) == 0 && emptyBlob.MatchString(name):
		return plain, nil
	case len(head) == 0:
		return nil, holdfast.WithHint(damaged(errors.New("there is nothing in it: whoever wrote it had no room, or was stopped")), hintCut)
	case layer == "lz4" && bytes.HasPrefix(head, []byte("\x04\x22\x4d\x18")):
		return nil, holdfast.WithHint(fmt.Errorf("%w: it is compressed with lz4, and nothing here tells whether it is whole", holdfast.ErrCannotTest),
			"turn the folder into SQL with pg_restore --file, and give that")
	case !is || found != layer:
		return nil, holdfast.WithHint(damaged(fmt.Errorf("it does not begin as a file of %s, which its name says it is", layer)), hintCut)
	}
	return decompress(layer, plain)
}

// tail keeps the last bytes that are written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 64
	t.kept = append(t.kept, p[max(0, len(p)-keep):]...)
	t.kept = append(t.kept[:0], t.kept[max(0, len(t.kept)-keep):]...)
	return len(p), nil
}
