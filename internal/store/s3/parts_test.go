package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

const part = 5 << 20 // the smallest

func sample(size int, seed uint64) []byte {
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = random.Read(data) // it never fails
	return data
}

// stream hides that data could be read again.
func stream(data []byte) io.Reader {
	return iotest.DataErrReader(struct{ io.Reader }{bytes.NewReader(data)})
}

func put(t *testing.T, d store.Driver, name string, data []byte) {
	t.Helper()
	if err := d.Put(t.Context(), name, stream(data)); err != nil {
		t.Fatalf("Put(%q): %v", name, err)
	}
}

func wantObject(t *testing.T, d store.Driver, name string, want []byte) {
	t.Helper()
	r, err := d.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that are not the %d that were put", name, len(got), len(want))
	}
}

func objects(t *testing.T, d store.Driver) []store.Object {
	t.Helper()
	var all []store.Object
	for object, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
	return all
}

// wantNothing: no object, no unfinished upload.
func wantNothing(t *testing.T, server *testbed.S3, bucket string, d store.Driver, name string) {
	t.Helper()
	if all := objects(t, d); len(all) > 0 {
		t.Errorf("stored is %v, want nothing", all)
	}
	if n := unfinished(t, server, bucket, name); n > 0 {
		t.Errorf("%d uploads are unfinished, want none", n)
	}
}

// unfinished counts uploads. The name is the whole one, since MinIO lists no uploads otherwise.
func unfinished(t *testing.T, server *testbed.S3, bucket, name string) int {
	t.Helper()
	out, err := client(server).ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(name)})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

// wantNothingSoon is wantNothing after parts were cut off: a server that is still busy with one of them may make the upload
// anew after it was given up, which is what Sweep is for.
func wantNothingSoon(t *testing.T, server *testbed.S3, bucket string, d *s3.Driver, name string) {
	t.Helper()
	for unfinished(t, server, bucket, name) > 0 && t.Context().Err() == nil {
		if _, _, err := d.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	wantNothing(t, server, bucket, d, name)
}

func TestParts(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			for kind, open := range map[string]func(*testing.T, s3.Options) *s3.Driver{
				"versions": create,
				"plain": func(t *testing.T, opt s3.Options) *s3.Driver {
					makeBucket(t, server, opt.Bucket)
					return open(t, opt)
				},
			} {
				t.Run(kind, func(t *testing.T) {
					opt := options(server)
					opt.PartSize = part
					testParts(t, server, opt, open(t, opt))
				})
			}
		})
	}
}

func testParts(t *testing.T, server *testbed.S3, opt s3.Options, d *s3.Driver) {
	broken := errors.New("the source broke")
	r := io.MultiReader(stream(sample(2*part+7, 1)), iotest.ErrReader(broken))
	if err := d.Put(t.Context(), "a/b", r); !errors.Is(err, broken) {
		t.Errorf("Put of a failing reader: %v, want its error", err)
	}
	wantNothingSoon(t, server, opt.Bucket, d, "a/b")

	ctx, cancel := context.WithCancel(t.Context())
	left := 2*part + 7
	ending := readerFunc(func(p []byte) (int, error) {
		if left -= len(p); left <= 0 {
			cancel()
		}
		return len(p), nil
	})
	if err := d.Put(ctx, "a/b", ending); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a context that ends: %v, want context.Canceled", err)
	}
	wantNothingSoon(t, server, opt.Bucket, d, "a/b")

	if err := s3.FewParts(d, 2).Put(t.Context(), "a/b", stream(sample(2*part+1, 1))); !errors.Is(err, holdfast.ErrUsage) ||
		!strings.Contains(holdfast.Hint(err), "part_size") {
		t.Errorf("Put of more parts than there may be: %v (%s), want a usage error", err, holdfast.Hint(err))
	}
	wantNothingSoon(t, server, opt.Bucket, d, "a/b")
	put(t, s3.FewParts(d, 2), "limit", sample(2*part, 1))
	wantObject(t, d, "limit", sample(2*part, 1))
	s3.FewParts(d, 10_000)

	for _, size := range []int{part - 1, part, part + 1, 2*part + 7} {
		name := "size/" + strings.Repeat("x", 1+size%9)
		data := sample(size, 1)
		put(t, d, name, data)
		put(t, d, name, data)
		wantObject(t, d, name, data)
		other := bytes.Clone(data)
		other[size-1] ^= 1
		for _, other := range [][]byte{other, data[:size-1], append(bytes.Clone(data), 0), nil} {
			if err := d.Put(t.Context(), name, stream(other)); !errors.Is(err, store.ErrExists) {
				t.Errorf("Put of %d other bytes: %v, want ErrExists", len(other), err)
			}
		}
		wantObject(t, d, name, data)
		if err := d.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if all := objects(t, d); len(all) != 1 {
		t.Errorf("stored is %v, want one object", all)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMemory: a stream many times larger than what a Put may hold leaves the heap within the bound of the documentation.
func TestMemory(t *testing.T) {
	server := testbed.StartS3(t)
	opt := options(server)
	d := create(t, opt)
	const size, partSize, parts = 300_000_000, 16 << 20, 4
	var highest atomic.Uint64
	sampled := func() {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		highest.Store(max(highest.Load(), stats.HeapInuse))
	}
	runtime.GC()
	sampled()
	before := highest.Load()
	block := sample(1<<20, 1)
	left := size
	r := readerFunc(func(p []byte) (int, error) {
		if left == 0 {
			return 0, io.EOF
		}
		n := copy(p, block[:min(len(block), left)])
		if left%(4<<20) < n {
			sampled()
		}
		left -= n
		return n, nil
	})
	if err := d.Put(t.Context(), "large", r); err != nil {
		t.Fatal(err)
	}
	sampled()
	const bound = (parts+1)*partSize + 24<<20 // some MiB: connections, and what the collector has not freed yet
	if used := highest.Load() - before; used > bound {
		t.Errorf("Put of %d bytes used %d MiB of heap, want at most %d", size, used>>20, bound>>20)
	}
	if all := objects(t, d); len(all) != 1 || all[0].Size != size {
		t.Errorf("stored is %v, want one object of %d bytes", all, size)
	}
}
