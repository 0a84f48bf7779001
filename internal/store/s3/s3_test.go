package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

var buckets atomic.Int64

// options leads to a new bucket on server.
func options(server *testbed.S3) s3.Options {
	return s3.Options{
		Endpoint: server.Endpoint, Region: server.Region, PathStyle: true, Bucket: fmt.Sprintf("bucket-%d", buckets.Add(1)),
		AccessKey: holdfast.NewSecret(server.AccessKey), SecretKey: holdfast.NewSecret(server.SecretKey),
		Retrier: store.NewRetrier(3, time.Millisecond), Now: time.Now,
	}
}

func open(t *testing.T, opt s3.Options) *s3.Driver {
	t.Helper()
	d, err := s3.Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("Open: %v (%s)", err, holdfast.Hint(err))
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// client is one of the test's own, to do what a driver would never do.
func client(server *testbed.S3) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: server.Region, BaseEndpoint: aws.String(server.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	})
}

// makeBucket makes a bucket without versions.
func makeBucket(t *testing.T, server *testbed.S3, name string) {
	t.Helper()
	if _, err := client(server).CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatal(err)
	}
}

// removeBucket takes an empty bucket away.
func removeBucket(t *testing.T, server *testbed.S3, name string) {
	t.Helper()
	if _, err := client(server).DeleteBucket(t.Context(), &awss3.DeleteBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatal(err)
	}
}

// create opens a new bucket.
func create(t *testing.T, opt s3.Options) *s3.Driver {
	t.Helper()
	opt.Create = true
	return open(t, opt)
}

// servers are the real ones that everything is tested on.
func servers() map[string]func(testing.TB) *testbed.S3 {
	return map[string]func(testing.TB) *testbed.S3{"versitygw": testbed.StartS3, "minio": testbed.StartMinIO}
}

func TestLaws(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			t.Run("versions", func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
					opt := options(server)
					// versitygw answers 500 to a listing while something is deleted.
					return store.New(create(t, opt), store.Options{Retrier: opt.Retrier}), func() { removeBucket(t, server, opt.Bucket) }
				})
			})
			t.Run("folder", func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
					opt := options(server)
					opt.Prefix = "some/folder"
					makeBucket(t, server, opt.Bucket)
					return open(t, opt), func() { removeBucket(t, server, opt.Bucket) }
				})
			})
		})
	}
}
