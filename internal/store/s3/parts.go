package s3

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"holdfast"
)

// inParts puts a stream that begins with first, which has the size of a part.
func (u *upload) inParts(ctx context.Context, first []byte) error {
	id, checked, err := u.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin an upload: %w", err)
	}
	done, err := u.sendParts(ctx, id, checked, first)
	if err == nil {
		err = u.complete(ctx, id, checked, done)
	}
	if err != nil || u.confirmed {
		// What is left of it would be paid for. Where this fails Sweep finds it later.
		if aborted := u.giveUp(ctx, id); err != nil && aborted != nil {
			err = errors.Join(err, fmt.Errorf("give up the upload: %w", aborted))
		}
	}
	return err
}

// giveUp aborts the upload. A server that is still busy with a part which nobody waits for any more may make the upload
// anew, so that it is asked.
func (u *upload) giveUp(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return u.d.opt.Retrier.Do(ctx, func() (bool, error) {
		if err := u.d.abort(ctx, u.key, id); err != nil {
			return true, err
		}
		in := &s3.ListPartsInput{Bucket: u.d.bucket, Key: aws.String(u.key), UploadId: aws.String(id)}
		_, err := do(ctx, u.d, u.d.client.ListParts, in)
		if err == nil {
			return true, errors.New("it is still there")
		}
		return false, nil // gone, or not to be seen
	})
}

// begin asks for an upload, and says whether it has checksums.
func (u *upload) begin(ctx context.Context) (id string, checked bool, err error) {
	d := u.d
	err = d.opt.Retrier.Do(ctx, func() (bool, error) {
		in := &s3.CreateMultipartUploadInput{
			Bucket: d.bucket, Key: aws.String(u.key), ContentType: aws.String(contentType),
			StorageClass: types.StorageClass(d.opt.StorageClass),
		}
		in.ServerSideEncryption, in.SSEKMSKeyId = d.encryption()
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = u.lock()
		if checked = !d.plain.Load(); checked {
			in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
		}
		out, err := do(ctx, d, d.client.CreateMultipartUpload, in)
		if err != nil && d.learnChecksums(err) {
			in.ChecksumAlgorithm, in.ChecksumType, checked = "", "", false
			out, err = do(ctx, d, d.client.CreateMultipartUpload, in)
		}
		if err != nil {
			return true, err
		}
		if id = aws.ToString(out.UploadId); id == "" {
			return true, errors.New("the server gave no id")
		}
		return false, nil
	})
	return id, checked, err
}

var errStopped = errors.New("the upload was stopped")

// sendParts reads the stream and sends its parts, several at once. It returns when all are there, or none is under way.
func (u *upload) sendParts(ctx context.Context, id string, checked bool, first []byte) ([]types.CompletedPart, error) {
	d := u.d
	stoppable, stop := context.WithCancel(ctx)
	defer stop()
	group, sending := errgroup.WithContext(stoppable)
	free := make(chan []byte, d.opt.Parts+1)
	for range d.opt.Parts {
		free <- nil // made when it is wanted
	}
	var done []*types.CompletedPart
	send := func(buf []byte, n int) {
		part := &types.CompletedPart{PartNumber: aws.Int32(int32(len(done) + 1))}
		done = append(done, part)
		group.Go(func() error {
			if err := u.sendPart(sending, id, checked, part, buf[:n]); err != nil {
				return fmt.Errorf("part %d: %w", *part.PartNumber, err)
			}
			free <- buf
			return nil
		})
	}
	send(first, len(first))
	read := func() error {
		for ended := false; !ended; {
			var buf []byte
			select {
			case buf = <-free:
			case <-sending.Done():
				return errStopped
			}
			if buf == nil {
				buf = make([]byte, d.opt.PartSize)
			}
			var n int
			var err error
			if n, ended, err = u.from.fill(buf); err != nil {
				return err
			}
			if n == 0 {
				return nil
			}
			if int32(len(done)) == d.parts {
				err := fmt.Errorf("%w: the stream has more than %d parts of %d bytes", holdfast.ErrUsage, d.parts, d.opt.PartSize)
				return holdfast.WithHint(err, "raise part_size of this store: a server takes no more parts than that")
			}
			send(buf, n)
		}
		return nil
	}
	broken := read()
	if broken != nil {
		stop()
	}
	failed := group.Wait()
	switch {
	case broken != nil && !errors.Is(broken, errStopped):
		return nil, broken // what the parts say is only that they were stopped
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case failed != nil:
		return nil, failed
	case broken != nil:
		return nil, broken
	}
	parts := make([]types.CompletedPart, len(done))
	for i, part := range done {
		parts[i] = *part
	}
	return parts, nil
}

// sendPart sends one part until it is there.
func (u *upload) sendPart(ctx context.Context, id string, checked bool, part *types.CompletedPart, data []byte) error {
	d := u.d
	if checked {
		crc := newCRC()
		_, _ = crc.Write(data) // a hash never fails
		part.ChecksumCRC32C = aws.String(crcText(crc.Sum32()))
	}
	return d.opt.Retrier.Do(ctx, func() (bool, error) {
		body := newAttempt(data)
		defer body.end()
		out, err := do(ctx, d, d.client.UploadPart, &s3.UploadPartInput{
			Bucket: d.bucket, Key: aws.String(u.key), UploadId: aws.String(id), PartNumber: part.PartNumber,
			Body: body, ContentLength: aws.Int64(int64(len(data))), ChecksumCRC32C: part.ChecksumCRC32C,
		})
		if err != nil {
			return code(err) != "NoSuchUpload", err
		}
		part.ETag = out.ETag
		return false, nil
	})
}

// complete makes the object of its parts, if there is none of its name.
func (u *upload) complete(ctx context.Context, id string, checked bool, parts []types.CompletedPart) error {
	d := u.d
	in := &s3.CompleteMultipartUploadInput{
		Bucket: d.bucket, Key: aws.String(u.key), UploadId: aws.String(id),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if checked {
		in.ChecksumCRC32C, in.ChecksumType = aws.String(crcText(u.from.crc.Sum32())), types.ChecksumTypeFullObject
	}
	lost := false
	err := d.opt.Retrier.Do(ctx, func() (bool, error) {
		if taken, err := u.takenBy(ctx, &d.completeCondition, lost, true); taken || err != nil {
			return true, err
		}
		in.IfNoneMatch = d.completeCondition.header()
		out, err := do(ctx, d, d.client.CompleteMultipartUpload, in)
		if d.completeCondition.learn(err) {
			in.IfNoneMatch = nil
			out, err = do(ctx, d, d.client.CompleteMultipartUpload, in)
		}
		if err == nil {
			u.version, u.etag = out.VersionId, aws.ToString(out.ETag)
			return false, nil
		}
		if code(err) == "NoSuchUpload" {
			// An attempt whose answer got lost has completed it; or somebody has given it up.
			if there := d.confirm(ctx, u.key, u.from.sent); there != nil {
				return false, errors.Join(there, err)
			}
			u.confirmed = true
			return false, nil
		}
		lost = lost || status(err) == 0
		return true, u.doubt(u.settle(ctx, err))
	})
	if err != nil {
		return fmt.Errorf("complete the upload: %w", err)
	}
	return nil
}
