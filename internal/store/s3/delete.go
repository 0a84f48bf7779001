package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast/internal/store"
)

// Delete removes name with all its versions and delete markers; a missing name is a success. What a lock protects is a
// *store.RetainedError.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.delete(ctx, d.key(name)); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, key string) error {
	if !d.versioned {
		return d.deleteVersion(ctx, key, nil)
	}
	versions, err := d.history(ctx, key)
	if err != nil {
		return err
	}
	// The oldest content goes last, and markers after all content: a deletion that is cut short must neither show the
	// name again nor let another content stand for it.
	first, _ := oldest(versions)
	for _, pass := range []func(version) bool{
		func(v version) bool { return !v.marker && v.id != first.id },
		func(v version) bool { return !v.marker && v.id == first.id },
		func(v version) bool { return v.marker },
	} {
		for _, v := range versions {
			if !pass(v) {
				continue
			}
			if err := d.deleteVersion(ctx, key, aws.String(v.id)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Driver) deleteVersion(ctx context.Context, key string, id *string) error {
	_, err := do(ctx, d, d.client.DeleteObject, &s3.DeleteObjectInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id})
	if err == nil || code(err) == "NoSuchKey" || code(err) == "NoSuchVersion" {
		return nil
	}
	if retained := d.retained(ctx, key, id, err); retained != nil {
		return retained
	}
	return err
}

// retained tells a lock from other refusals: servers name it by different codes, so that the object itself is asked.
func (d *Driver) retained(ctx context.Context, key string, id *string, refusal error) error {
	if !declined(refusal) {
		return nil
	}
	// What cannot be asked is no lock: then the refusal is all that is known.
	if err := d.lock(ctx, key, id); errors.Is(err, store.ErrRetained) {
		return err
	}
	return nil
}

// declined reports whether the server answered that it will not.
func declined(err error) bool { return status(err) >= 400 && status(err) < 500 }

// lock is the store.RetainedError of a version that a lock or a legal hold protects now.
func (d *Driver) lock(ctx context.Context, key string, id *string) error {
	head, err := do(ctx, d, d.client.HeadObject, &s3.HeadObjectInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id})
	if err == nil && head.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn {
		return &store.RetainedError{}
	}
	var until *time.Time
	if err == nil {
		until = head.ObjectLockRetainUntilDate
	}
	if until == nil { // versitygw tells of old versions only so
		in := &s3.GetObjectRetentionInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id}
		var lock *s3.GetObjectRetentionOutput
		if lock, err = do(ctx, d, d.client.GetObjectRetention, in); err == nil && lock.Retention != nil {
			until = lock.Retention.RetainUntilDate
		}
	}
	if err != nil && !declined(err) && !unsupported(err) {
		return err
	}
	if until != nil && until.After(d.opt.Now()) {
		return &store.RetainedError{Until: *until}
	}
	return nil
}

// Retained asks for the lock of the version that name stands for. Buckets without versions have no locks.
func (d *Driver) Retained(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	id, err := d.object(ctx, d.key(name))
	if err == nil && id != nil {
		err = d.lock(ctx, d.key(name), id)
	}
	if err != nil && !errors.Is(err, store.ErrRetained) {
		return fmt.Errorf("ask for the lock of %s: %w", name, err)
	}
	return err
}

// Sweep gives up uploads in parts that were begun longer ago than age and never completed.
func (d *Driver) Sweep(ctx context.Context, age time.Duration) (n int, what string, err error) {
	what = "unfinished uploads"
	in := &s3.ListMultipartUploadsInput{Bucket: d.bucket, Prefix: aws.String(d.opt.Prefix)}
	for {
		out, err := do(ctx, d, d.client.ListMultipartUploads, in)
		if err != nil {
			return n, what, fmt.Errorf("list unfinished uploads: %w", err)
		}
		for _, upload := range out.Uploads {
			if aws.ToTime(upload.Initiated).After(d.opt.Now().Add(-age)) {
				continue
			}
			if err := d.abort(ctx, aws.ToString(upload.Key), aws.ToString(upload.UploadId)); err != nil {
				return n, what, fmt.Errorf("give up an upload of %s: %w", aws.ToString(upload.Key), err)
			}
			n++
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, what, nil
		}
		if out.NextKeyMarker == nil {
			return n, what, errors.New("list unfinished uploads: the server's list ends before its end")
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// abort gives up one upload; one that is not there is a success.
func (d *Driver) abort(ctx context.Context, key, id string) error {
	in := &s3.AbortMultipartUploadInput{Bucket: d.bucket, Key: aws.String(key), UploadId: aws.String(id)}
	_, err := do(ctx, d, d.client.AbortMultipartUpload, in)
	if code(err) == "NoSuchUpload" {
		return nil
	}
	return err
}
