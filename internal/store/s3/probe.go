package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast"
	"holdfast/internal/store"
)

// ErrIgnored is what [Driver.Probe] returns for a server that makes an object although its name is taken and
// If-None-Match forbids that.
var ErrIgnored = errors.New(
	"the server does not obey If-None-Match: two runs that put one name at the same moment can overwrite each other")

// probeName begins the names of objects that only try something out. List leaves them out: where nothing may be deleted
// one of them stays.
const probeName = "holdfast-probe"

func isProbe(name string) bool { return name == probeName || strings.HasPrefix(name, probeName+"-") }

// Probe finds out whether the server obeys If-None-Match, by putting a small object below the prefix twice and deleting
// it. It returns ErrIgnored, with a hint, when the server does not; Put then looks for a name before it puts, as it does
// as long as nothing is known. What it found holds for this Driver.
func (d *Driver) Probe(ctx context.Context) error {
	found, err := d.probe(ctx)
	if err != nil {
		return fmt.Errorf("probe for conditional writes: %w", err)
	}
	if !found.obeyed() {
		return holdfast.WithHint(fmt.Errorf("probe for conditional writes: %w", ErrIgnored), ignoredFix)
	}
	return nil
}

// ignoredFinding is ErrIgnored for a person.
func ignoredFinding() store.Finding {
	return store.Finding{Severity: store.Warns, Message: ErrIgnored.Error(), Fix: ignoredFix}
}

const ignoredFix = "let one run at a time write to this store, or use a server that has conditional writes"

// probed is what a probe found.
type probed struct {
	put, complete int   // states of a condition
	deleted       error // why the probe could not be deleted for good, or nil
}

func (p probed) obeyed() bool { return p.put == obeyed && p.complete == obeyed }

func (d *Driver) probe(ctx context.Context) (probed, error) {
	found, err := d.probeAs(ctx, probeName)
	if err == nil && !found.obeyed() {
		// Another probe may have deleted the object in between. Nobody else has this name.
		found, err = d.probeAs(ctx, probeName+"-"+strings.ToLower(rand.Text()))
	}
	if err != nil {
		return found, err
	}
	d.putCondition.found(found.put)
	d.completeCondition.found(found.complete)
	return found, nil
}

func (d *Driver) probeAs(ctx context.Context, name string) (probed, error) {
	key := d.key(name)
	var found probed
	var err error
	found.put, err = d.probePut(ctx, key)
	if err == nil {
		found.complete, err = d.probeComplete(ctx, key)
	}
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	found.deleted = d.opt.Retrier.Do(tidy, func() (bool, error) { return true, d.delete(tidy, key) })
	if err == nil && !errors.Is(found.deleted, fs.ErrPermission) && !errors.Is(found.deleted, store.ErrRetained) {
		err = found.deleted
	}
	return found, err
}

// probePut puts an object and then another one of its name. An object that is there already answers at once.
func (d *Driver) probePut(ctx context.Context, key string) (int, error) {
	for _, content := range []string{"This tells whether the server writes once.\n", "It does not.\n"} {
		err := d.opt.Retrier.Do(ctx, func() (bool, error) {
			in := &s3.PutObjectInput{Bucket: d.bucket, Key: aws.String(key), Body: strings.NewReader(content), IfNoneMatch: aws.String("*")}
			in.ServerSideEncryption, in.SSEKMSKeyId = d.encryption() // a bucket's policy may take nothing without
			// A bucket with a lock takes nothing without.
			if !d.plain.Load() {
				in.ChecksumCRC32C = aws.String(crcOf(content))
			}
			_, err := do(ctx, d, d.client.PutObject, in)
			if d.learnChecksums(err) {
				in.ChecksumCRC32C = nil
				in.Body = strings.NewReader(content)
				_, err = do(ctx, d, d.client.PutObject, in)
			}
			return !exists(err) && !unsupported(err), err
		})
		switch {
		case exists(err):
			return obeyed, nil
		case unsupported(err):
			return refused, nil
		case err != nil:
			return unknown, err
		}
	}
	return ignored, nil
}

// probeComplete completes an upload over the object of probePut.
func (d *Driver) probeComplete(ctx context.Context, key string) (int, error) {
	u := &upload{d: d, key: key, unlocked: true}
	id, checked, err := u.begin(ctx)
	if err != nil {
		return unknown, err
	}
	part := types.CompletedPart{PartNumber: aws.Int32(1)}
	completed := false
	defer func() {
		if !completed {
			_ = u.giveUp(ctx, id) // what a probe leaves is what Sweep is for
		}
	}()
	if err := u.sendPart(ctx, id, checked, &part, []byte("It does not.\n")); err != nil {
		return unknown, err
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: d.bucket, Key: aws.String(key), UploadId: aws.String(id), IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{part}},
	}
	if checked {
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	err = d.opt.Retrier.Do(ctx, func() (bool, error) {
		_, err := do(ctx, d, d.client.CompleteMultipartUpload, in)
		return !exists(err) && !unsupported(err), err
	})
	switch {
	case err == nil:
		completed = true
		return ignored, nil
	case exists(err):
		return obeyed, nil
	case unsupported(err):
		return refused, nil
	}
	return unknown, err
}
