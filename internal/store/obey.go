package store

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Obey makes r end with ctx.
func Obey(ctx context.Context, r io.Reader) io.Reader { return obedient{ctx, r} }

type obedient struct {
	ctx context.Context
	r   io.Reader
}

func (o obedient) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	return o.r.Read(p)
}

// CheckRange refuses what is no range of an object: length -1 reads to the end.
func CheckRange(offset, length int64) error {
	if offset < 0 || length < -1 {
		return fmt.Errorf("range %d+%d is not valid", offset, length)
	}
	return nil
}

// FileRange reads length bytes of an open file from offset, as a Driver's Open does, and ends with ctx. It owns f from then on,
// also when it fails.
func FileRange(ctx context.Context, f io.ReadSeekCloser, offset, length int64) (io.ReadCloser, error) {
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var r io.Reader = f
	if length >= 0 {
		r = io.LimitReader(f, length)
	}
	return fileRange{Obey(ctx, r), f}, nil
}

type fileRange struct {
	io.Reader
	io.Closer
}
