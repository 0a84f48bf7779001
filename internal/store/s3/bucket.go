package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast"
	"holdfast/internal/store"
)

// create makes the bucket and sets it up. When that fails the bucket is deleted again: the next call would find it there, and
// leave it as it is. What a server has no call for is left as the server has it, and doctor tells.
func (d *Driver) create(ctx context.Context) error {
	made, err := d.makeBucket(ctx)
	if err != nil {
		return fmt.Errorf("make the bucket: %w", err)
	}
	var unset []string
	var errs []error
	for _, setting := range d.settings() {
		err := d.opt.Retrier.Do(ctx, func() (bool, error) {
			err := setting.set(ctx)
			return !unsupported(err), err
		})
		if err != nil && !unsupported(err) {
			unset = append(unset, setting.what)
			errs = append(errs, fmt.Errorf("%s: %w", setting.what, err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	if made {
		err := d.removeBucket(ctx)
		if err == nil {
			return errors.Join(errs...)
		}
		errs = append(errs, fmt.Errorf("delete the bucket again: %w", err))
	}
	return holdfast.WithHint(errors.Join(errs...), fmt.Sprintf(
		"the bucket is there and lacks what failed (%s): set that at the server, or delete the bucket and try again", strings.Join(unset, ", ")))
}

// makeBucket reports whether it was this call that made the bucket, as far as the server tells.
func (d *Driver) makeBucket(ctx context.Context) (made bool, err error) {
	in := &s3.CreateBucketInput{Bucket: d.bucket}
	if d.opt.Region != defaultRegion { // AWS takes no constraint for that one
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(d.opt.Region)}
	}
	if d.opt.LockMode != "" {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	}
	err = d.opt.Retrier.Do(ctx, func() (bool, error) {
		_, err := do(ctx, d, d.client.CreateBucket, in)
		if code(err) == "BucketAlreadyOwnedByYou" {
			return false, nil // an attempt whose answer got lost, or another run
		}
		made = err == nil
		return true, err
	})
	return made, err
}

// removeBucket deletes the bucket, which the server does only when it is empty.
func (d *Driver) removeBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return d.opt.Retrier.Do(ctx, func() (bool, error) {
		_, err := do(ctx, d, d.client.DeleteBucket, &s3.DeleteBucketInput{Bucket: d.bucket})
		if errors.Is(err, store.ErrNoStore) {
			return false, nil
		}
		return true, err
	})
}

// setting is a property of a new bucket.
type setting struct {
	what string // as in "failed to …"
	set  func(ctx context.Context) error
}

func (d *Driver) settings() []setting {
	return []setting{
		{"keep it private", func(ctx context.Context) error {
			yes := aws.Bool(true)
			_, err := do(ctx, d, d.client.PutPublicAccessBlock, &s3.PutPublicAccessBlockInput{
				Bucket: d.bucket, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
					BlockPublicAcls: yes, BlockPublicPolicy: yes, IgnorePublicAcls: yes, RestrictPublicBuckets: yes,
				},
			})
			if code(err) == "MalformedXML" {
				return nil // MinIO takes it for another call. It has no public buckets unless a policy makes one.
			}
			return err
		}},
		{"keep versions", func(ctx context.Context) error {
			_, err := do(ctx, d, d.client.PutBucketVersioning, &s3.PutBucketVersioningInput{
				Bucket: d.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
			})
			return err
		}},
		{"encrypt by default", func(ctx context.Context) error {
			rule := &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAes256}
			if algorithm, key := d.encryption(); algorithm != "" {
				rule.SSEAlgorithm, rule.KMSMasterKeyID = algorithm, key
			}
			_, err := do(ctx, d, d.client.PutBucketEncryption, &s3.PutBucketEncryptionInput{
				Bucket: d.bucket, ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{
					Rules: []types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: rule}},
				},
			})
			return err
		}},
	}
}
