package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

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

// create opens a new bucket.
func create(t *testing.T, opt s3.Options) *s3.Driver {
	t.Helper()
	opt.Create = true
	return open(t, opt)
}

func TestLaws(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *testbed.S3{"versitygw": testbed.StartS3, "minio": testbed.StartMinIO} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			t.Run("versions", func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) store.Driver { return create(t, options(server)) })
			})
		})
	}
}
