package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// condition is what is known of how the server takes If-None-Match in one operation. What is not known to be obeyed is
// not relied upon.
type condition struct{ state atomic.Int32 }

const (
	unknown = iota // it is sent, and the name looked for before
	obeyed         // it is sent, and is enough
	ignored        // it is sent, and the name looked for before
	refused        // the server takes no such header: the name is looked for before
)

func (c *condition) is() int      { return int(c.state.Load()) }
func (c *condition) found(is int) { c.state.Store(int32(is)) }

// header is what to send.
func (c *condition) header() *string {
	if c.is() == refused {
		return nil
	}
	return aws.String("*")
}

// learn takes in how a call that carried the condition ended, and reports whether the same call may succeed now because it
// goes without. The name was looked for before, since nothing was known.
func (c *condition) learn(err error) (without bool) {
	switch {
	case exists(err):
		c.found(obeyed)
	case status(err) == http.StatusNotImplemented:
		return c.state.CompareAndSwap(unknown, refused)
	}
	return false
}

// taken reports whether key is there. Only where the condition is not relied upon it is asked.
func (d *Driver) taken(ctx context.Context, c *condition, key string) (bool, error) {
	if c.is() == obeyed {
		return false, nil
	}
	there, err := d.look(ctx, key)
	if errors.Is(err, fs.ErrPermission) && c.is() == unknown {
		// Credentials that may not list get this for a missing name as well. The condition is sent all the same.
		return false, nil
	}
	return there, err
}

// look asks whether key is there.
func (d *Driver) look(ctx context.Context, key string) (bool, error) {
	_, err := do(ctx, d, d.client.HeadObject, &s3.HeadObjectInput{Bucket: d.bucket, Key: aws.String(key)})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the name: %w", err)
	}
	return true, nil
}

// exists reports whether err is the server's word that the name is taken.
func exists(err error) bool { return status(err) == http.StatusPreconditionFailed }
