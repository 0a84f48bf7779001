package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast/internal/store"
)

// Put stores what r has under name. What is smaller than Options.PartSize is one request, all else an upload in parts,
// which is given up when r fails or ctx ends.
func (d *Driver) Put(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.put(ctx, d.key(name), r); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

func (d *Driver) put(ctx context.Context, key string, r io.Reader) error {
	// Before a byte is taken: until then the caller may try again.
	taken, err := d.taken(ctx, &d.putCondition, key)
	if err != nil {
		return err
	}
	from := &source{ctx: ctx, r: r, sent: newSent()}
	if taken {
		if _, err := io.Copy(io.Discard, from); err != nil {
			return err
		}
		return d.opt.Retrier.Do(ctx, func() (bool, error) { return true, d.confirm(ctx, key, from.sent) })
	}
	first, ended, err := from.first(d.opt.PartSize)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	u := &upload{d: d, key: key, from: from}
	if ended {
		err = u.whole(ctx, first)
	} else {
		err = u.inParts(ctx, first)
	}
	if err != nil {
		return err
	}
	d.stored.Store(true)
	if u.confirmed {
		return nil
	}
	return d.opt.Retrier.Do(ctx, func() (bool, error) { return u.verify(ctx) })
}

// upload is one Put.
type upload struct {
	d    *Driver
	key  string
	from *source
	// unlocked: without a lock of its own, so that it can be deleted again.
	unlocked bool

	version   *string // of what was stored, where there are versions
	etag      string  // of what was stored, to know it again
	confirmed bool    // what is stored was read and is the same
	doubted   bool    // a denial was tried again
}

// errGone: the name was taken, and is not any more.
var errGone = errors.New("the name was taken while it was put, and then deleted")

// confirm succeeds when the stored object has the bytes that were sent.
func (d *Driver) confirm(ctx context.Context, key string, s *sent) error {
	r, err := d.read(ctx, key, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("read what has the name: %w", err)
	}
	same, err := s.is(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read what has the name: %w", err)
	}
	if !same {
		return store.ErrExists
	}
	return nil
}

// settle ends an attempt that made an object, or was refused because there is one.
func (u *upload) settle(ctx context.Context, err error) error {
	if !exists(err) {
		return err
	}
	if err := u.d.confirm(ctx, u.key, u.from.sent); err != nil {
		return err
	}
	u.confirmed = true
	return nil
}

// whole puts data in one request.
func (u *upload) whole(ctx context.Context, data []byte) error {
	c := &u.d.putCondition
	lost := false
	return u.d.opt.Retrier.Do(ctx, func() (bool, error) {
		// The first look was before the bytes were taken, which may be long ago.
		if taken, err := u.takenBy(ctx, c, lost, c.is() != unknown); taken || err != nil {
			return true, err
		}
		err := u.settle(ctx, u.once(ctx, data))
		lost = lost || err != nil && status(err) == 0
		return true, u.doubt(err)
	})
}

// doubt makes the first denial of a Put one that may be tried again, when these credentials have put something before. MinIO
// denies access when somebody deletes the last object of a folder at the moment in which another one is put there.
func (u *upload) doubt(err error) error {
	if code(err) != "AccessDenied" || u.doubted || !u.d.stored.Load() {
		return err
	}
	u.doubted = true
	return errors.New(err.Error())
}

// takenBy looks whether the name is taken, and confirms what has it. An attempt without an answer may have made the object, or
// have been cut off because there is one: after that it is looked for whatever the server obeys.
func (u *upload) takenBy(ctx context.Context, c *condition, lost, ask bool) (taken bool, err error) {
	switch {
	case lost:
		taken, err = u.d.look(ctx, u.key)
		if errors.Is(err, fs.ErrPermission) {
			err = nil // as in taken
		}
	case ask:
		taken, err = u.d.taken(ctx, c, u.key)
	}
	if err != nil || !taken {
		return false, err
	}
	if err := u.d.confirm(ctx, u.key, u.from.sent); err != nil {
		return true, err
	}
	u.confirmed = true
	return true, nil
}

// once makes one PutObject; what the server does not know at all is left out and does not count as an attempt.
func (u *upload) once(ctx context.Context, data []byte) error {
	d := u.d
	for {
		body := newAttempt(data)
		in := &s3.PutObjectInput{
			Bucket: d.bucket, Key: aws.String(u.key), Body: body, ContentLength: aws.Int64(int64(len(data))),
			ContentType: aws.String(contentType), IfNoneMatch: d.putCondition.header(), StorageClass: types.StorageClass(d.opt.StorageClass),
		}
		in.ServerSideEncryption, in.SSEKMSKeyId = d.encryption()
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = u.lock()
		if !d.plain.Load() {
			in.ChecksumCRC32C = aws.String(crcText(u.from.crc.Sum32()))
		}
		out, err := do(ctx, d, d.client.PutObject, in)
		body.end()
		if err == nil {
			u.version, u.etag = out.VersionId, aws.ToString(out.ETag)
			return nil
		}
		if !d.learnChecksums(err) && !d.putCondition.learn(err) {
			return err
		}
	}
}

const contentType = "application/octet-stream"

// learnChecksums sends none from now on when the server has refused them, and reports whether that is new.
func (d *Driver) learnChecksums(err error) bool {
	if status(err) != http.StatusBadRequest && status(err) != http.StatusNotImplemented {
		return false
	}
	text := strings.ToLower(err.Error())
	if !strings.Contains(text, "checksum") || strings.Contains(text, "match") || code(err) == "BadDigest" {
		return false
	}
	return d.plain.CompareAndSwap(false, true)
}

func (d *Driver) encryption() (types.ServerSideEncryption, *string) {
	switch d.opt.SSE {
	case "s3":
		return types.ServerSideEncryptionAes256, nil
	case "kms":
		if d.opt.KMSKey != "" {
			return types.ServerSideEncryptionAwsKms, aws.String(d.opt.KMSKey)
		}
		return types.ServerSideEncryptionAwsKms, nil
	}
	return "", nil
}

func (u *upload) lock() (types.ObjectLockMode, *time.Time) {
	opt := u.d.opt
	if opt.LockMode == "" || u.unlocked {
		return "", nil
	}
	until := opt.Now().Add(opt.LockFor).UTC()
	return types.ObjectLockMode(strings.ToUpper(opt.LockMode)), &until
}

// verify asks the server for the size of what was stored, and in a bucket with versions whether it is the first of its
// name: behind a delete marker the condition lets a second one through.
func (u *upload) verify(ctx context.Context) (again bool, err error) {
	d := u.d
	if d.versioned {
		versions, err := d.history(ctx, u.key)
		switch {
		case errors.Is(err, fs.ErrPermission): // these credentials may not look into history
		case err != nil:
			return true, fmt.Errorf("ask for what was stored: %w", err)
		default:
			if first, ok := oldest(versions); ok && u.version != nil && first.id != *u.version {
				return u.second(ctx)
			}
		}
	}
	out, err := do(ctx, d, d.client.HeadObject, &s3.HeadObjectInput{Bucket: d.bucket, Key: aws.String(u.key), VersionId: u.version})
	if errors.Is(err, fs.ErrNotExist) {
		return true, errors.New("the server does not show what it has just stored")
	}
	if err != nil {
		return true, fmt.Errorf("ask for what was stored: %w", err)
	}
	if u.version == nil && aws.ToString(out.ETag) != u.etag {
		return true, d.confirm(ctx, u.key, u.from.sent) // something has overwritten it meanwhile, or ETags are not kept
	}
	if size := aws.ToInt64(out.ContentLength); size != u.from.size {
		// It was made by this call, so that nothing else is lost with it. Where it cannot be deleted the name stays taken.
		return false, errors.Join(fmt.Errorf("the server has stored %d of %d bytes", size, u.from.size), u.undo(ctx))
	}
	return false, nil
}

// second ends a Put that made another version of a name: with the same bytes it has brought the name back, with others it
// is taken back.
func (u *upload) second(ctx context.Context) (again bool, err error) {
	err = u.d.confirm(ctx, u.key, u.from.sent)
	if errors.Is(err, store.ErrExists) {
		err = errors.Join(err, u.undo(ctx))
	}
	return true, err
}

// undo removes what this upload has stored.
func (u *upload) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := u.d.deleteVersion(ctx, u.key, u.version); err != nil {
		return fmt.Errorf("take it back: %w", err)
	}
	return nil
}

// undoTime is for what is tidied up after the caller's ctx has ended.
const undoTime = 30 * time.Second
