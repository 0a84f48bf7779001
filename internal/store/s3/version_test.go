package s3_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

// intruder writes and deletes as an attacker with the store's keys would.
type intruder struct {
	t      *testing.T
	client *awss3.Client
	bucket *string
}

func (i intruder) overwrite(name, content string) {
	i.t.Helper()
	_, err := i.client.PutObject(i.t.Context(), &awss3.PutObjectInput{Bucket: i.bucket, Key: aws.String(name), Body: strings.NewReader(content)})
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i intruder) delete(name string) {
	i.t.Helper()
	if _, err := i.client.DeleteObject(i.t.Context(), &awss3.DeleteObjectInput{Bucket: i.bucket, Key: aws.String(name)}); err != nil {
		i.t.Fatal(err)
	}
}

// history counts versions and delete markers in the bucket.
func (i intruder) history() (versions, markers int) {
	i.t.Helper()
	out, err := i.client.ListObjectVersions(i.t.Context(), &awss3.ListObjectVersionsInput{Bucket: i.bucket})
	if err != nil {
		i.t.Fatal(err)
	}
	return len(out.Versions), len(out.DeleteMarkers)
}

func (i intruder) wantHistory(versions, markers int) {
	i.t.Helper()
	if v, m := i.history(); v != versions || m != markers {
		i.t.Errorf("the bucket has %d versions and %d delete markers, want %d and %d", v, m, versions, markers)
	}
}

func wantOne(t *testing.T, d store.Driver, want store.Object) {
	t.Helper()
	all := objects(t, d)
	if len(all) != 1 {
		t.Fatalf("stored is %v, want one object", all)
	}
	if all[0].Modified.IsZero() {
		t.Error("an object has no time")
	}
	if all[0].Modified = (time.Time{}); all[0] != want {
		t.Errorf("listed is %+v, want %+v", all[0], want)
	}
}

// TestVersions: what somebody else does to a bucket with versions takes nothing away.
func TestVersions(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			opt := options(server)
			d := create(t, opt)
			i := intruder{t, client(server), aws.String(opt.Bucket)}
			first := []byte("what was put first")
			put(t, d, "a/b", first)
			wantOne(t, d, store.Object{Name: "a/b", Size: 18, Versions: 1})

			i.overwrite("a/b", "ransom")
			wantObject(t, d, "a/b", first)
			wantOne(t, d, store.Object{Name: "a/b", Size: 18, Versions: 2})
			put(t, d, "a/b", first)
			if err := d.Put(t.Context(), "a/b", strings.NewReader("ransom")); !errors.Is(err, store.ErrExists) {
				t.Errorf("Put of what was written over it: %v, want ErrExists", err)
			}

			i.delete("a/b")
			wantObject(t, d, "a/b", first)
			wantOne(t, d, store.Object{Name: "a/b", Size: 18, Versions: 2, Hidden: true})
			i.wantHistory(2, 1)

			// Behind a delete marker the server lets another one through.
			if err := d.Put(t.Context(), "a/b", strings.NewReader("other")); !errors.Is(err, store.ErrExists) {
				t.Errorf("Put of other bytes behind a delete marker: %v, want ErrExists", err)
			}
			i.wantHistory(2, 1)
			wantObject(t, d, "a/b", first)
			put(t, d, "a/b", first)
			wantObject(t, d, "a/b", first)
			if name == "minio" { // as AWS; to versitygw what is behind the marker is there
				i.wantHistory(3, 1)
				wantOne(t, d, store.Object{Name: "a/b", Size: 18, Versions: 2})
			}

			link, err := d.Link(t.Context(), "a/b", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			wantLink(t, link, first)

			i.overwrite("a/bc", "a name that goes on")
			if err := d.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			i.wantHistory(1, 0)
			if _, err := d.Open(t.Context(), "a/b", 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open of a deleted object: %v, want fs.ErrNotExist", err)
			}
			put(t, d, "a/b", []byte("new"))
			wantObject(t, d, "a/b", []byte("new"))
		})
	}
}

func wantLink(t *testing.T, link holdfast.Secret, want []byte) {
	t.Helper()
	answer, err := http.Get(link.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || string(got) != string(want) {
		t.Errorf("the link gives %d %q, want %q", answer.StatusCode, got, want)
	}
}

func TestLink(t *testing.T) {
	server := testbed.StartS3(t)
	opt := options(server)
	opt.Prefix = "folder"
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	put(t, d, "a", []byte("content"))
	link, err := d.Link(t.Context(), "a", 7*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	wantLink(t, link, []byte("content"))
	if strings.Contains(link.String(), "http") {
		t.Error("a link prints itself")
	}
	for _, expires := range []time.Duration{0, -1, 7*24*time.Hour + 1} {
		if _, err := d.Link(t.Context(), "a", expires); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("Link for %v: %v, want ErrUsage", expires, err)
		}
	}
	if _, err := d.Link(t.Context(), "b", time.Hour); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Link to nothing: %v, want fs.ErrNotExist", err)
	}
}

func TestManyVersions(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	i := intruder{t, client(server), aws.String(opt.Bucket)}
	for _, name := range []string{"a", "b", "c"} {
		put(t, d, name, []byte("first of "+name))
		for range 3 {
			i.overwrite(name, "over it")
			i.delete(name)
		}
	}
	// Pages so small that each name goes over several.
	proxy.Fail(testbed.Fault{
		Match: func(r *http.Request) bool { return r.URL.Query().Has("versions") }, Times: -1,
		Request: func(r *http.Request) {
			query := r.URL.Query()
			query.Set("max-keys", "2")
			r.URL.RawQuery = query.Encode()
			resign(t, server, r)
		},
	})
	all := objects(t, d)
	if len(all) != 3 {
		t.Fatalf("listed is %v, want three objects", all)
	}
	for n, object := range all {
		name := string(rune('a' + n))
		if object.Name != name || object.Size != 10 || object.Versions != 2 || !object.Hidden {
			t.Errorf("listed is %+v, want %s with 10 bytes, 2 contents, hidden", object, name)
		}
		wantObject(t, d, name, []byte("first of "+name))
		if err := d.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	i.wantHistory(0, 0)
}

func TestManyObjects(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	for _, name := range []string{"a", "b", "c/d", "e"} {
		put(t, d, name, []byte(name))
	}
	i := intruder{t, client(server), aws.String(opt.Bucket)}
	i.overwrite("c/with space & more", "of somebody else")
	i.overwrite(".hidden", "of somebody else")
	proxy.Fail(testbed.Fault{
		Match: func(r *http.Request) bool { return r.URL.Query().Get("list-type") == "2" }, Times: -1,
		Request: func(r *http.Request) {
			query := r.URL.Query()
			query.Set("max-keys", "1")
			r.URL.RawQuery = query.Encode()
			resign(t, server, r)
		},
	})
	if all := objects(t, d); len(all) != 4 || all[2].Name != "c/d" {
		t.Errorf("listed is %v, want four objects", all)
	}
}

// TestLock: what is locked cannot be deleted, and the error says until when.
func TestLock(t *testing.T) {
	for name, start := range servers() {
		for _, mode := range []string{"governance", "compliance"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				server := start(t)
				opt := options(server)
				opt.LockMode, opt.LockFor, opt.PartSize = mode, time.Hour, part
				d := create(t, opt)
				i := intruder{t, client(server), aws.String(opt.Bucket)}
				for _, size := range []int{10, part + 10} {
					name := map[bool]string{false: "whole", true: "parts"}[size > part]
					put(t, d, name, sample(size, 1))
					for what, err := range map[string]error{"Retained": d.Retained(t.Context(), name), "Delete": d.Delete(t.Context(), name)} {
						var retained *store.RetainedError
						if !errors.As(err, &retained) || (time.Until(retained.Until)-time.Hour).Abs() > 10*time.Minute {
							t.Errorf("%s of a locked object: %v, want a RetainedError of an hour", what, err)
						}
					}
					wantObject(t, d, name, sample(size, 1))
				}
				i.delete("whole")
				for what, err := range map[string]error{"Retained": d.Retained(t.Context(), "whole"), "Delete": d.Delete(t.Context(), "whole")} {
					if !errors.Is(err, store.ErrRetained) {
						t.Errorf("%s of a locked object behind a marker: %v, want ErrRetained", what, err)
					}
				}
				wantObject(t, d, "whole", sample(10, 1))
				_, err := i.client.PutObjectLegalHold(t.Context(), &awss3.PutObjectLegalHoldInput{
					Bucket: i.bucket, Key: aws.String("parts"), LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn},
				})
				if err != nil {
					t.Fatal(err)
				}
				for what, err := range map[string]error{"Retained": d.Retained(t.Context(), "parts"), "Delete": d.Delete(t.Context(), "parts")} {
					var retained *store.RetainedError
					if !errors.As(err, &retained) || !retained.Until.IsZero() {
						t.Errorf("%s under a legal hold: %v, want a RetainedError without an end", what, err)
					}
				}
				if err := d.Retained(t.Context(), "missing"); err == nil || errors.Is(err, store.ErrRetained) {
					t.Errorf("Retained of a missing object: %v", err)
				}
				opt.LockMode, opt.LockFor, opt.Prefix = "", 0, "free"
				free := open(t, opt)
				put(t, free, "object", sample(10, 1))
				if err := free.Retained(t.Context(), "object"); err != nil {
					t.Errorf("Retained of an object that nothing locks: %v", err)
				}
			})
		}
	}
}

func TestSweep(t *testing.T) {
	server := testbed.StartS3(t)
	opt := options(server)
	opt.Prefix = "ours"
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	for _, name := range []string{"ours/a", "ours/b", "theirs/a"} {
		if _, err := client(server).CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: aws.String(opt.Bucket), Key: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		age  time.Duration
		want int
	}{{time.Hour, 0}, {-time.Minute, 2}, {-time.Minute, 0}} {
		n, what, err := d.Sweep(t.Context(), test.age)
		if err != nil || n != test.want || what != "unfinished uploads" {
			t.Errorf("Sweep(%v) = %d %s, %v; want %d", test.age, n, what, err, test.want)
		}
	}
	if n := unfinished(t, server, opt.Bucket, "theirs/a"); n != 1 {
		t.Errorf("Sweep went beyond its folder: %d uploads are left there, want 1", n)
	}
}

func TestEncryptionAndClass(t *testing.T) {
	server := testbed.StartMinIO(t)
	for _, test := range []struct {
		name string
		set  func(*s3.Options)
		want func(*awss3.HeadObjectOutput) bool
	}{
		{"s3", func(o *s3.Options) { o.SSE = "s3" }, func(o *awss3.HeadObjectOutput) bool {
			return o.ServerSideEncryption == types.ServerSideEncryptionAes256
		}},
		{"kms", func(o *s3.Options) { o.SSE, o.KMSKey = "kms", server.KMSKey }, func(o *awss3.HeadObjectOutput) bool {
			return o.ServerSideEncryption == types.ServerSideEncryptionAwsKms && strings.HasSuffix(aws.ToString(o.SSEKMSKeyId), server.KMSKey)
		}},
		{"class", func(o *s3.Options) { o.StorageClass = "REDUCED_REDUNDANCY" }, func(o *awss3.HeadObjectOutput) bool {
			return o.StorageClass == types.StorageClassReducedRedundancy
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := options(server)
			opt.PartSize = part
			test.set(&opt)
			d := create(t, opt)
			for _, size := range []int{10, part + 10} {
				put(t, d, test.name, sample(size, 1))
				wantObject(t, d, test.name, sample(size, 1))
				out, err := client(server).HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: aws.String(opt.Bucket), Key: aws.String(test.name)})
				if err != nil || !test.want(out) {
					t.Errorf("the server has %+v, %v", out, err)
				}
				if err := d.Delete(t.Context(), test.name); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
