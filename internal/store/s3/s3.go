// Package s3 keeps a store in a bucket of an S3 server, or in a folder of one.
//
// It hides requests and signatures, uploads in parts, versions and delete markers, object lock, and what servers call
// their errors. Beside the laws of store.Driver it has these:
//
//   - An object is made by one conditional request (If-None-Match: *). As long as a server has not shown that it obeys
//     the condition, the name is looked for first, so that an existing name is refused there too.
//   - Whether a name that exists has the bytes that were sent is found by reading it, never by an ETag. An answer that
//     got lost is therefore a success.
//   - What was stored is asked for its size before Put succeeds.
//   - In a bucket with versions the oldest version of a name is the object. A delete marker hides nothing, and what was
//     written over it changes nothing.
//   - The memory of a Put is at most (Options.Parts+1)*Options.PartSize and some MiB, whatever the size of the stream.
//   - No error holds a key, a signature or an address with one.
//
// It is not its job to retry (the Retrier that it is given does), to limit bandwidth, or to know what a backup is. It
// uses no proxy.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast"
	"holdfast/internal/store"
)

const (
	defaultPartSize = 16 << 20
	smallestPart    = 5 << 20 // of S3, but for the last part
	largestPart     = 5 << 30 // of S3, for a single PutObject as well
	defaultParts    = 4
	mostParts       = 10_000 // of one upload
	mostAtScaleway  = 1_000  // says its documentation
	defaultRegion   = "us-east-1"
)

// Options says where the bucket is and how objects are put into it.
type Options struct {
	// Endpoint is the server's URL. "": AWS's for Region.
	Endpoint string
	// Region is part of every signature. "": AWS_REGION or AWS_DEFAULT_REGION of Lookup, else us-east-1, which most
	// other servers take.
	Region string
	Bucket string
	// Prefix is the folder inside the bucket that is the store, without slashes around it. "": the bucket itself.
	Prefix string
	// PathStyle puts the bucket into the path instead of the host name.
	PathStyle bool
	// CAFile has certificates of further authorities, in PEM, beside the system's.
	CAFile string
	// AccessKey, SecretKey and SessionToken sign the requests. Without them credentials are taken, in this order, from
	// the AWS_ variables of Lookup, the shared credentials file and, for AWS alone, the role of the task or machine.
	AccessKey, SecretKey, SessionToken holdfast.Secret
	// Lookup reads an environment variable. nil: there are none.
	Lookup func(string) (string, bool)
	// SSE asks the server to encrypt: "" as the bucket says, "s3" with its own key (AES256), "kms" with KMSKey, which
	// may be "" for the account's default key.
	SSE    string
	KMSKey string
	// StorageClass of the objects. "": the bucket's default.
	StorageClass string
	// LockMode is "governance" or "compliance": every object that is put cannot be deleted for LockFor. "": no lock but
	// the bucket's own default.
	LockMode string
	LockFor  time.Duration
	// PartSize is in bytes, 5 MiB to 5 GiB. 0: 16 MiB. What is smaller goes in one request; a stream may have 10,000
	// parts (1,000 at Scaleway), which are 156 GiB at 16 MiB, and fails with a hint at the one after: larger parts would
	// take more memory than was asked for.
	PartSize int64
	// Parts is how many parts of a stream are under way at once. 0: 4. The memory of one Put is (Parts+1)*PartSize.
	Parts int
	// Stall is how long a connection may move no byte while it is waited for. 0: store.DefaultStall.
	Stall time.Duration
	// Retrier repeats parts, and the calls of a Put that come after its bytes were taken. Required.
	Retrier *store.Retrier
	// Create makes the bucket when it is missing: private, with versions and encryption, and with object lock when
	// LockMode is set. It also makes Open probe for conditional writes; see [Driver.Probe].
	Create bool
	// Warn is told, before Open returns, what a store that is made lacks at this server and can do without. nil: nobody is.
	Warn func(store.Finding)
	// Now is the time of day. Required.
	Now func() time.Time
}

// check refuses what cannot work and fills in the defaults.
func (opt Options) check() (Options, error) {
	if opt.Retrier == nil || opt.Now == nil {
		panic("s3: Options without Retrier or Now")
	}
	if opt.Lookup == nil {
		opt.Lookup = func(string) (string, bool) { return "", false }
	}
	if opt.Warn == nil {
		opt.Warn = func(store.Finding) {}
	}
	if opt.Bucket == "" || strings.ContainsAny(opt.Bucket, "/?# ") {
		return opt, fmt.Errorf("%w: bucket %q is not a name of a bucket", holdfast.ErrUsage, opt.Bucket)
	}
	if opt.Prefix = strings.Trim(opt.Prefix, "/"); opt.Prefix != "" {
		if err := store.CheckName(opt.Prefix); err != nil {
			return opt, fmt.Errorf("%w: prefix %q: use letters, digits, \"._-\" and slashes", holdfast.ErrUsage, opt.Prefix)
		}
		opt.Prefix += "/"
	}
	if opt.Endpoint != "" {
		address, err := url.Parse(opt.Endpoint)
		if err != nil || address.Scheme != "https" && address.Scheme != "http" || address.Host == "" ||
			address.User != nil || address.RawQuery != "" {
			return opt, fmt.Errorf("%w: the endpoint must be like https://s3.example.org", holdfast.ErrUsage)
		}
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if opt.Region == "" {
			opt.Region, _ = opt.Lookup(name)
		}
	}
	if opt.Region == "" {
		opt.Region = defaultRegion
	}
	if opt.PartSize == 0 {
		opt.PartSize = defaultPartSize
	}
	if opt.PartSize < smallestPart || opt.PartSize > largestPart {
		return opt, fmt.Errorf("%w: part_size must be 5 MiB to 5 GiB", holdfast.ErrUsage)
	}
	if opt.Parts == 0 {
		opt.Parts = defaultParts
	}
	if opt.Parts < 0 {
		return opt, fmt.Errorf("%w: parts must be 1 or more", holdfast.ErrUsage)
	}
	if opt.Stall <= 0 {
		opt.Stall = store.DefaultStall
	}
	return opt, opt.checkModes()
}

func (opt Options) checkModes() error {
	switch {
	case opt.SSE != "" && opt.SSE != "s3" && opt.SSE != "kms":
		return fmt.Errorf("%w: sse is none, s3 or kms", holdfast.ErrUsage)
	case opt.KMSKey != "" && opt.SSE != "kms":
		return fmt.Errorf("%w: kms_key needs sse: kms", holdfast.ErrUsage)
	case opt.LockMode != "" && opt.LockMode != "governance" && opt.LockMode != "compliance":
		return fmt.Errorf("%w: lock is none, governance or compliance", holdfast.ErrUsage)
	case (opt.LockMode == "") != (opt.LockFor == 0) || opt.LockFor < 0:
		return fmt.Errorf("%w: lock and lock_for need each other", holdfast.ErrUsage)
	case opt.AccessKey.IsZero() != opt.SecretKey.IsZero():
		return fmt.Errorf("%w: access_key and secret_key need each other", holdfast.ErrUsage)
	}
	return nil
}

// Driver is a store in a bucket. It is safe for concurrent use.
type Driver struct {
	opt    Options
	client *s3.Client
	keys   *keys
	close  func()
	parts  int32 // the most of one upload; a test lowers it
	bucket *string

	// versioned: the bucket keeps, or once kept, versions. Asked once: a bucket never loses the ones it has. Where it cannot
	// be asked it counts as not versioned, and doctor tells.
	versioned bool

	putCondition      condition // of PutObject
	completeCondition condition // of CompleteMultipartUpload
	// plain: the server does not take checksums of objects.
	plain atomic.Bool
	// stored: these credentials have put something.
	stored atomic.Bool
}

var (
	_ store.Driver    = (*Driver)(nil)
	_ store.Linker    = (*Driver)(nil)
	_ store.Inspector = (*Driver)(nil)
	_ store.Janitor   = (*Driver)(nil)
)

// Open finds credentials and asks the bucket whether it keeps versions. A missing bucket is store.ErrNoStore, refused
// credentials are fs.ErrPermission, a mistake in opt is holdfast.ErrUsage. The caller closes the Driver.
func Open(ctx context.Context, opt Options) (*Driver, error) {
	opt, err := opt.check()
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", opt.Bucket, err)
	}
	d := &Driver{opt: opt, parts: mostParts, bucket: aws.String(opt.Bucket)}
	if strings.HasSuffix(hostOf(opt.Endpoint), ".scw.cloud") {
		d.parts = mostAtScaleway // told here, since there it would be told only after the bytes were sent
	}
	if err := d.open(ctx); err != nil {
		if d.close != nil {
			d.close()
		}
		return nil, fmt.Errorf("open bucket %s: %w", opt.Bucket, err)
	}
	return d, nil
}

func (d *Driver) open(ctx context.Context) error {
	if err := d.connect(ctx); err != nil {
		return err
	}
	err := d.askVersioning(ctx)
	if errors.Is(err, store.ErrNoStore) && d.opt.Create {
		if err := d.create(ctx); err != nil {
			return fmt.Errorf("create it: %w", err)
		}
		err = d.askVersioning(ctx)
	}
	if errors.Is(err, store.ErrNoStore) {
		return holdfast.WithHint(err, "correct bucket, endpoint or region, or make the bucket with `holdfast backup --create-store`")
	}
	if err == nil && d.opt.Create {
		err = d.Probe(ctx)
		if errors.Is(err, ErrIgnored) {
			d.opt.Warn(ignoredFinding())
			err = nil // names are looked for first
		}
	}
	return err
}

// Close closes idle connections. Readers that are still open stay usable.
func (d *Driver) Close() error {
	d.close()
	return nil
}

// key is where the object name lies in the bucket.
func (d *Driver) key(name string) string { return d.opt.Prefix + name }
