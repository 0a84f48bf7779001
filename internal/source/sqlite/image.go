package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"holdfast/internal/source"
)

// imageFact names the fact that holds the whole image's size and digest.
const imageFact = "image"

func newImageFact(size int64, digest hash.Hash) source.Fact {
	return source.Fact{
		Class: imageFact, Name: "database", Rule: source.Exact,
		Bytes: size, Digest: hex.EncodeToString(digest.Sum(nil)),
	}
}

// imageReader streams the pages of the pinned view in their order, which is the database file as it would stand had
// everything been checkpointed at that moment.
type imageReader struct {
	ctx     context.Context
	capture *capture
	pages   *cursor
	row     [1]driver.Value
	rest    []byte // of the page read last
	read    int64  // pages read
	size    int64  // bytes handed out
	digest  hash.Hash
	err     error // first error of reading; io.EOF when whole
}

func (c *capture) open(ctx context.Context) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pages, err := c.view.query("SELECT data FROM sqlite_dbpage('main')")
	if err != nil {
		return nil, fmt.Errorf("read the pages of %s: %w", c.file.path, explain(err, c.file.path))
	}
	return &imageReader{ctx: ctx, capture: c, pages: pages, digest: sha256.New()}, nil
}

// Read implements io.Reader.
func (r *imageReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && r.err == nil {
		if len(r.rest) == 0 {
			r.err = r.nextPage()
			continue
		}
		copied := copy(p[n:], r.rest)
		r.rest = r.rest[copied:]
		n += copied
	}
	r.digest.Write(p[:n])
	r.size += int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

func (r *imageReader) nextPage() error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	err := r.pages.next(r.row[:])
	switch {
	case err == io.EOF && r.read != r.capture.pageCount:
		return fmt.Errorf("%s has %d pages and gave %d", r.capture.file.path, r.capture.pageCount, r.read)
	case err == io.EOF:
		return io.EOF
	case err != nil:
		return fmt.Errorf("read the pages of %s: %w", r.capture.file.path, explain(err, r.capture.file.path))
	}
	page, ok := r.row[0].([]byte)
	if !ok || int64(len(page)) != r.capture.pageSize {
		return fmt.Errorf("%s: a page has %d bytes instead of %d", r.capture.file.path, len(page), r.capture.pageSize)
	}
	r.rest = page
	r.read++
	return nil
}

// Close implements io.Closer. It fails unless the image was read to its end.
func (r *imageReader) Close() error {
	if err := r.pages.close(); err != nil {
		return fmt.Errorf("read the pages of %s: %w", r.capture.file.path, explain(err, r.capture.file.path))
	}
	if r.err == nil {
		r.err = fmt.Errorf("the image of %s was not read to its end", r.capture.file.path)
	}
	if !errors.Is(r.err, io.EOF) {
		return r.err
	}
	return r.capture.imageRead(newImageFact(r.size, r.digest))
}

// imageRead records what was read. Reading one view twice must give the same twice.
func (c *capture) imageRead(image source.Fact) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.image != nil && *c.image != image {
		err := fmt.Errorf("%s changed during the capture", c.file.path)
		c.view.fail(err)
		return err
	}
	c.image = &image
	return nil
}
