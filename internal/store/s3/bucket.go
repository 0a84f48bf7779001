package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// create makes the bucket. What a server has no call for is left as the server has it, and doctor tells.
func (d *Driver) create(ctx context.Context) error {
	in := &s3.CreateBucketInput{Bucket: d.bucket}
	if d.opt.Region != defaultRegion { // AWS takes no constraint for that one
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(d.opt.Region)}
	}
	if d.opt.LockMode != "" {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"make the bucket", func() error {
			_, err := do(ctx, d, d.client.CreateBucket, in)
			if code(err) == "BucketAlreadyOwnedByYou" {
				return nil // an attempt whose answer got lost, or another run
			}
			return err
		}},
		{"keep it private", func() error {
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
		{"keep versions", func() error {
			_, err := do(ctx, d, d.client.PutBucketVersioning, &s3.PutBucketVersioningInput{
				Bucket: d.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
			})
			return err
		}},
		{"encrypt by default", func() error {
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
	for _, step := range steps {
		err := d.opt.Retrier.Do(ctx, func() (bool, error) {
			err := step.do()
			return !unsupported(err), err
		})
		if err != nil && !unsupported(err) {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
