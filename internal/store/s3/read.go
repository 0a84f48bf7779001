package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast/internal/store"
)

// Open reads length bytes of name from offset; length -1 reads to the end. In a bucket with versions it reads the oldest
// one, which costs a second request.
func (d *Driver) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	r, err := d.read(ctx, d.key(name), offset, length)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return r, nil
}

func (d *Driver) read(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckRange(offset, length); err != nil {
		return nil, err
	}
	id, err := d.object(ctx, key)
	if err != nil {
		return nil, err
	}
	if length == 0 {
		return http.NoBody, d.there(ctx, key, id)
	}
	in := &s3.GetObjectInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := do(ctx, d, d.client.GetObject, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return http.NoBody, nil // at or beyond the end
	}
	if err != nil {
		return nil, err
	}
	if in.Range != nil && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", offset)) {
		return nil, errors.Join(errors.New("the server did not send the range that was asked for"), out.Body.Close())
	}
	return &body{ctx: ctx, d: d, ReadCloser: out.Body}, nil
}

// there returns nil when key is there, without reading it.
func (d *Driver) there(ctx context.Context, key string, id *string) error {
	_, err := do(ctx, d, d.client.HeadObject, &s3.HeadObjectInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id})
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// An answer to HEAD does not say what is missing.
	_, bucket := do(ctx, d, d.client.GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: d.bucket})
	if errors.Is(bucket, store.ErrNoStore) {
		return bucket
	}
	return err
}

// body is what a server sends, with its errors classified.
type body struct {
	io.ReadCloser
	ctx context.Context // of Open; io.Reader has no place for one
	d   *Driver
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read: %w", b.d.classify(b.ctx, err))
	}
	return n, err
}
