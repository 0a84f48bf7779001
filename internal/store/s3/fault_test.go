package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

// through returns options that lead through a proxy to server.
func through(t *testing.T, server *testbed.S3) (*testbed.Proxy, s3.Options) {
	t.Helper()
	proxy := testbed.NewProxy(t, server.Endpoint)
	opt := options(server)
	opt.Endpoint = proxy.URL()
	return proxy, opt
}

func method(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == name }
}

// complete matches the request that makes an object of parts.
func complete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func xmlError(code, message string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func kept(t *testing.T, d store.Driver, name string, data []byte) {
	t.Helper()
	wantObject(t, d, name, data)
	all := objects(t, d)
	if len(all) != 1 || all[0].Versions > 1 || all[0].Hidden {
		t.Errorf("stored is %v, want one object with one content", all)
	}
}

// TestEveryRequestMayFail: whichever one request of a Put fails, in whatever way, the Put succeeds, and the object is there once.
func TestEveryRequestMayFail(t *testing.T) {
	server := testbed.StartS3(t)
	faults := map[string]testbed.Fault{
		"reset before":       {Failure: testbed.ResetBefore},
		"reset amid":         {Failure: testbed.ResetAmid},
		"reset after":        {Failure: testbed.ResetAfter},
		"429":                {Failure: testbed.Answer, Status: 429, Body: xmlError("TooManyRequests", "slow")},
		"503 with a time":    {Failure: testbed.Answer, Status: 503, Body: xmlError("SlowDown", "slow"), Header: http.Header{"Retry-After": {"0"}}},
		"500 without words":  {Failure: testbed.Answer, Status: 500},
		"502 with a page":    {Failure: testbed.Answer, Status: 502, Body: "<html><body>Bad Gateway</body></html>"},
		"conflict":           {Failure: testbed.Answer, Status: 409, Body: xmlError("ConditionalRequestConflict", "try again")},
		"200 with an error":  {Failure: testbed.Answer, Status: 200, Body: xmlError("InternalError", "we are sorry"), Match: complete},
		"500 after the fact": {Response: func(r *http.Response) { r.StatusCode = 500 }},
	}
	for name, fault := range faults {
		for kind, size := range map[string]int{"whole": 70_000, "parts": part + 10} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				fault := fault // each has its own Nth
				for nth := 1; ; nth++ {
					proxy, opt := through(t, server)
					opt.PartSize, opt.Create = part, true
					d := open(t, opt)
					direct := opt
					direct.Endpoint = server.Endpoint
					proxy.Requests()
					fault.Nth = nth
					proxy.Fail(fault)
					data := sample(size, 1)
					// A store.Store, since a failure before a byte was taken is left to the caller.
					err := store.New(d, store.Options{Retrier: opt.Retrier}).Put(t.Context(), "a/b", stream(data))
					if err != nil {
						t.Fatalf("Put with request %d failing: %v\n%s", nth, err, strings.Join(proxy.Requests(), "\n"))
					}
					kept(t, open(t, direct), "a/b", data)
					if requests := proxy.Requests(); len(requests) < nth || fault.Match != nil {
						return
					}
				}
			})
		}
	}
}

// TestAttemptsDoNotMultiply: what was put as often as it may is not begun again because it can be read again.
func TestAttemptsDoNotMultiply(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.PartSize, opt.Retrier = part, store.NewRetrier(4, time.Millisecond)
	d := create(t, opt)
	for name, c := range map[string]struct {
		size  int
		match func(*http.Request) bool
	}{
		"whole":    {5, method(http.MethodPut)},
		"part":     {part + 10, func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "1" }},
		"complete": {part + 10, complete},
		"verify":   {5, method(http.MethodHead)},
	} {
		asked := 0
		proxy.Fail(testbed.Fault{Match: func(r *http.Request) bool {
			if !c.match(r) {
				return false
			}
			asked++
			return true
		}, Failure: testbed.Answer, Status: 503, Body: xmlError("SlowDown", "slow"), Times: -1})
		err := store.New(d, store.Options{Retrier: opt.Retrier}).Put(t.Context(), name, bytes.NewReader(sample(c.size, 1)))
		proxy.Heal()
		if err == nil || asked != 4 {
			t.Errorf("%s: asked %d times, want 4; error %v", name, asked, err)
		}
	}
}

// TestEveryRequestFails: what fails for good leaves nothing.
func TestEveryRequestFails(t *testing.T) {
	server := testbed.StartS3(t)
	for name, fault := range map[string]testbed.Fault{
		"parts":             {Match: func(r *http.Request) bool { return r.URL.Query().Has("partNumber") }, Failure: testbed.Answer, Status: 500},
		"completion":        {Match: complete, Failure: testbed.Answer, Status: 503},
		"200 with an error": {Match: complete, Failure: testbed.Answer, Status: 200, Body: xmlError("InternalError", "we are sorry")},
		"full":              {Match: complete, Failure: testbed.Answer, Status: 507, Body: xmlError("XMinioStorageFull", "no room")},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, opt := through(t, server)
			opt.PartSize = part
			d := create(t, opt)
			fault.Times = -1
			proxy.Fail(fault)
			err := d.Put(t.Context(), "a/b", stream(sample(part+10, 1)))
			if err == nil {
				t.Error("Put succeeded")
			}
			if name == "full" && !errors.Is(err, store.ErrFull) {
				t.Errorf("Put: %v, want ErrFull", err)
			}
			wantNothing(t, server, opt.Bucket, d, "a/b")
		})
	}
}

// TestDenied: who has put something is not believed to be denied at the first word, as MinIO errs; at the second it is.
func TestDenied(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.PartSize = part
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	denial := func(match func(*http.Request) bool, times int) {
		proxy.Heal()
		proxy.Fail(testbed.Fault{Match: match, Failure: testbed.Answer, Status: 403, Body: xmlError("AccessDenied", "no"), Times: times})
	}
	for _, test := range []struct {
		name  string
		size  int
		match func(*http.Request) bool
		times int
		want  error
	}{
		{"at first", 10, method(http.MethodPut), 1, fs.ErrPermission},
		{"none", 10, method(http.MethodPatch), 1, nil},
		{"once", 10, method(http.MethodPut), 1, nil},
		{"twice", 10, method(http.MethodPut), 2, fs.ErrPermission},
		{"completion once", part + 10, complete, 1, nil},
		{"completion twice", part + 10, complete, 2, fs.ErrPermission},
	} {
		denial(test.match, test.times)
		name := strings.ReplaceAll(test.name, " ", "-")
		err := d.Put(t.Context(), name, stream(sample(test.size, 1)))
		if !errors.Is(err, test.want) || err != nil && holdfast.Hint(err) == "" {
			t.Errorf("%s: Put: %v, want %v", test.name, err, test.want)
		}
		if err == nil {
			wantObject(t, d, name, sample(test.size, 1))
		}
	}
}

// TestLostBytes: a server that says yes and keeps less is found out, and what it kept does not block the name.
func TestLostBytes(t *testing.T) {
	server := testbed.StartS3(t)
	for kind, make := range map[string]func(*testing.T, s3.Options) *s3.Driver{
		"versions": create,
		"plain": func(t *testing.T, opt s3.Options) *s3.Driver {
			makeBucket(t, server, opt.Bucket)
			return open(t, opt)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			proxy, opt := through(t, server)
			d := make(t, opt)
			nth := 2 // the first one looks for the name
			if kind == "versions" {
				nth = 1 // the probe has shown that this is not needed
			}
			proxy.Fail(testbed.Fault{Match: method(http.MethodHead), Nth: nth, Response: func(r *http.Response) {
				r.Header.Set("Content-Length", "9")
			}})
			err := d.Put(t.Context(), "a", strings.NewReader("0123456789"))
			if err == nil || !strings.Contains(err.Error(), "9 of 10 bytes") {
				t.Errorf("Put to a server that lost a byte: %v", err)
			}
			wantNothing(t, server, opt.Bucket, d, "a")
		})
	}
}

// TestHalfOpen: a server that takes everything and says nothing ends in an error that may be tried again.
func TestHalfOpen(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.Stall = 200 * time.Millisecond
	d := create(t, opt)
	proxy.Fail(testbed.Fault{Match: method(http.MethodPut), Failure: testbed.HalfOpen})
	put(t, d, "a", []byte("x"))
	kept(t, d, "a", []byte("x"))
	proxy.Heal()
	proxy.Fail(testbed.Fault{Match: method(http.MethodPut), Failure: testbed.HalfOpen, Times: -1})
	err := d.Put(t.Context(), "b", strings.NewReader("x"))
	if err == nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.DeadlineExceeded) && t.Context().Err() != nil {
		t.Errorf("Put to a server that says nothing: %v", err)
	}
}

// TestCancelled: a call ends with its context, whatever the server does.
func TestCancelled(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.PartSize = part
	d := create(t, opt)
	put(t, d, "there", []byte("x"))
	for name, call := range map[string]func(ctx context.Context) error{
		"put":       func(ctx context.Context) error { return d.Put(ctx, "a", strings.NewReader("x")) },
		"put parts": func(ctx context.Context) error { return d.Put(ctx, "b", stream(sample(2*part, 1))) },
		"open": func(ctx context.Context) error {
			_, err := d.Open(ctx, "there", 0, -1)
			return err
		},
		"delete": func(ctx context.Context) error { return d.Delete(ctx, "there") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		proxy.Fail(testbed.Fault{Failure: testbed.HalfOpen, Match: func(*http.Request) bool {
			cancel() // the request has come, and will not be answered
			return true
		}})
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
		proxy.Heal()
	}
	kept(t, d, "there", []byte("x"))
}

// TestDrip: a server that sends next to nothing is given up, and another connection brings the rest.
func TestDrip(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	data := sample(50_000, 1)
	put(t, d, "a", data)
	get := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a") }
	proxy.Fail(testbed.Fault{Match: get, Failure: testbed.Drip})
	wantObject(t, store.New(d, store.Options{Retrier: opt.Retrier, Drip: 200 * time.Millisecond}), "a", data)
	gets := 0
	for _, request := range proxy.Requests() {
		if strings.HasPrefix(request, "GET /"+opt.Bucket+"/a?") {
			gets++
		}
	}
	if gets != 2 {
		t.Errorf("the object was asked for %d times, want twice", gets)
	}
}

// TestCutAnswer: an answer that breaks off is an error of Read, after which reading goes on where it stopped.
func TestCutAnswer(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	data := sample(300_000, 1)
	put(t, d, "a", data)
	proxy.Fail(testbed.Fault{Match: func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a") },
		Failure: testbed.CutAnswer, Times: 2})
	r, err := d.Open(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err == nil || len(got) >= len(data) || !bytes.HasPrefix(data, got) {
		t.Errorf("read %d bytes of a cut answer, error %v", len(got), err)
	}
	r.Close()
	wantObject(t, store.New(d, store.Options{Retrier: opt.Retrier}), "a", data)

	proxy.Heal()
	proxy.Fail(testbed.Fault{Match: method(http.MethodGet), Times: -1, Response: func(r *http.Response) { r.Header.Del("Content-Range") }})
	if r, err := d.Open(t.Context(), "a", 10, 10); err == nil {
		r.Close()
		t.Error("Open took another range than it asked for")
	}
}

// forgetful leads to server through a proxy that takes If-None-Match away, as some servers do.
func forgetful(t *testing.T, server *testbed.S3) (*testbed.Proxy, s3.Options) {
	t.Helper()
	proxy, opt := through(t, server)
	forget(t, server, proxy)
	return proxy, opt
}

func forget(t *testing.T, server *testbed.S3, proxy *testbed.Proxy) {
	proxy.Fail(testbed.Fault{
		Match: func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }, Times: -1,
		Request: func(r *http.Request) {
			r.Header.Del("If-None-Match")
			resign(t, server, r)
		},
	})
}

// resign makes a changed request valid again.
func resign(t *testing.T, server *testbed.S3, r *http.Request) {
	r.Header.Del("Authorization")
	keys := aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}
	sum := r.Header.Get("X-Amz-Content-Sha256")
	// A goroutine of the proxy runs this, which must not end the test.
	if err := v4.NewSigner().SignHTTP(r.Context(), keys, r, sum, "s3", server.Region, time.Now()); err != nil {
		t.Error(err)
	}
}

// TestIgnoredCondition: on a server that ignores If-None-Match names are write-once all the same, and it is told.
func TestIgnoredCondition(t *testing.T) {
	server := testbed.StartS3(t)
	_, opt := forgetful(t, server)
	opt.PartSize = part
	makeBucket(t, server, opt.Bucket)
	for _, probed := range []bool{false, true} {
		d := open(t, opt)
		if probed {
			if err := d.Probe(t.Context()); !errors.Is(err, s3.ErrIgnored) || holdfast.Hint(err) == "" {
				t.Errorf("Probe: %v, want ErrIgnored with a hint", err)
			}
		}
		for _, size := range []int{10, part + 10} {
			name, data := fmt.Sprintf("%v/%d", probed, size), sample(size, 1)
			put(t, d, name, data)
			put(t, d, name, data)
			if err := d.Put(t.Context(), name, stream(sample(size, 2))); !errors.Is(err, store.ErrExists) {
				t.Errorf("Put of other bytes: %v, want ErrExists", err)
			}
			wantObject(t, d, name, data)
		}
	}
	if all := objects(t, open(t, opt)); len(all) != 4 {
		t.Errorf("stored is %v, want four objects", all)
	}
}

// TestOverwrittenMeanwhile: on such a server another run can put the name at the same moment. Who is overwritten is told.
func TestOverwrittenMeanwhile(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := forgetful(t, server)
	opt.PartSize = part
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	raw := client(server)
	for _, size := range []int{10, part + 10} {
		for name, content := range map[string][]byte{"other": sample(size, 2), "same": sample(size, 1)} {
			name := fmt.Sprintf("%s/%d", name, size)
			// Between what was put and the question for its size.
			looks := 0
			proxy.Fail(testbed.Fault{Times: -1, Match: method(http.MethodHead), Request: func(r *http.Request) {
				looks++
				if looks < 2 || size > part && looks < 3 {
					return
				}
				_, err := raw.PutObject(context.WithoutCancel(t.Context()), &awss3.PutObjectInput{
					Bucket: aws.String(opt.Bucket), Key: aws.String(name), Body: bytes.NewReader(content),
				})
				if err != nil {
					t.Error(err)
				}
			}})
			err := d.Put(t.Context(), name, stream(sample(size, 1)))
			if same := strings.HasPrefix(name, "same"); same && err != nil || !same && !errors.Is(err, store.ErrExists) {
				t.Errorf("Put of %s, overwritten with the same bytes: %v: %v", name, same, err)
			}
			wantObject(t, d, name, content)
			proxy.Heal()
			forget(t, server, proxy)
		}
	}
}

// TestRefusedCondition: the same for a server that takes no such header.
func TestRefusedCondition(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	proxy.Fail(testbed.Fault{
		Match:   func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" },
		Failure: testbed.Answer, Status: 501, Body: xmlError("NotImplemented", "A header you provided implies functionality that is not implemented"), Times: -1,
	})
	opt.PartSize, opt.Retrier = part, store.NewRetrier(1, 1)
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	for _, size := range []int{10, part + 10} {
		name, data := fmt.Sprintf("a/%d", size), sample(size, 1)
		put(t, d, name, data)
		put(t, d, name, data)
		if err := d.Put(t.Context(), name, stream(sample(size, 2))); !errors.Is(err, store.ErrExists) {
			t.Errorf("Put of other bytes: %v, want ErrExists", err)
		}
		wantObject(t, d, name, data)
	}
	if err := open(t, opt).Probe(t.Context()); !errors.Is(err, s3.ErrIgnored) {
		t.Errorf("Probe: %v, want ErrIgnored", err)
	}
}

// TestRefusedChecksums: a server that takes no checksums gets none.
func TestRefusedChecksums(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	proxy.Fail(testbed.Fault{
		Match: func(r *http.Request) bool {
			return r.Header.Get("X-Amz-Checksum-Crc32c") != "" || r.Header.Get("X-Amz-Checksum-Algorithm") != ""
		},
		Failure: testbed.Answer, Status: 400, Body: xmlError("InvalidArgument", "Unsupported header 'x-amz-checksum-crc32c' received for this API call."), Times: -1,
	})
	opt.PartSize, opt.Retrier = part, store.NewRetrier(1, 1)
	d := create(t, opt)
	for _, size := range []int{10, part + 10} {
		name, data := fmt.Sprintf("a/%d", size), sample(size, 1)
		put(t, d, name, data)
		wantObject(t, d, name, data)
	}
}

func TestErrors(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	put(t, d, "there", []byte("x"))
	plain := errors.New("none of them")
	sentinels := []error{store.ErrExists, store.ErrFull, store.ErrReadOnly, store.ErrRetained, store.ErrNoStore, fs.ErrNotExist, fs.ErrPermission, holdfast.ErrUsage}
	for _, test := range []struct {
		status int
		code   string
		want   error
		hint   string
	}{
		{403, "AccessDenied", fs.ErrPermission, "rights"},
		{403, "InvalidAccessKeyId", fs.ErrPermission, "access_key"},
		{403, "SignatureDoesNotMatch", fs.ErrPermission, "secret_key"},
		{400, "ExpiredToken", fs.ErrPermission, "expired"},
		{403, "ExpiredToken", fs.ErrPermission, "expired"},
		{400, "InvalidToken", fs.ErrPermission, "session_token"},
		{403, "RequestTimeTooSkewed", fs.ErrPermission, "set the clock"},
		{403, "InvalidObjectState", fs.ErrPermission, "archive"},
		{404, "NoSuchBucket", store.ErrNoStore, ""},
		{404, "NoSuchKey", fs.ErrNotExist, ""},
		{404, "NoSuchVersion", fs.ErrNotExist, ""},
		{507, "XMinioStorageFull", store.ErrFull, "quota"},
		{403, "QuotaExceeded", store.ErrFull, "quota"},
		{507, "", store.ErrFull, "quota"},
		{409, "BucketAlreadyExists", holdfast.ErrUsage, "choose another"},
		{301, "PermanentRedirect", holdfast.ErrUsage, "region"},
		{400, "AuthorizationHeaderMalformed", holdfast.ErrUsage, "region"},
		{500, "InternalError", plain, ""},
		{503, "SlowDown", plain, ""},
		{503, "", plain, ""},
		{429, "TooManyRequests", plain, ""},
		{400, "RequestTimeout", plain, ""},
		{409, "ConditionalRequestConflict", plain, ""},
		{409, "OperationAborted", plain, ""},
		{502, "<html>", plain, ""},
	} {
		t.Run(fmt.Sprintf("%d %s", test.status, test.code), func(t *testing.T) {
			proxy.Heal()
			fault := testbed.Fault{Failure: testbed.Answer, Status: test.status, Times: -1}
			if test.code != "" {
				// As chatty as the worst servers are.
				fault.Body = xmlError(test.code, "key "+server.AccessKey+" secret "+server.SecretKey+" at /x?X-Amz-Credential=AKIDX%2F1&amp;X-Amz-Signature=0abc1def Signature=0abc2def")
			}
			proxy.Fail(fault)
			_, err := d.Open(t.Context(), "there", 0, -1)
			if err == nil {
				t.Fatal("Open succeeded")
			}
			for _, sentinel := range sentinels {
				if errors.Is(err, sentinel) != (sentinel == test.want) {
					t.Errorf("%v: is %v: %v", err, sentinel, errors.Is(err, sentinel))
				}
			}
			if hint := holdfast.Hint(err); !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
				t.Errorf("%v: hint %q, want one with %q", err, hint, test.hint)
			}
			for one := err; one != nil; one = errors.Unwrap(one) {
				for _, secret := range []string{server.AccessKey, server.SecretKey, "AKIDX", "0abc1def", "0abc2def"} {
					if strings.Contains(fmt.Sprintf("%v %+v", one, one), secret) {
						t.Errorf("%v shows %s", one, secret)
					}
				}
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	for _, test := range []struct {
		text string
		want time.Duration
	}{
		{"7", 7 * time.Second},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), time.Hour},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0},
	} {
		proxy.Heal()
		proxy.Fail(testbed.Fault{Failure: testbed.Answer, Status: 503, Header: http.Header{"Retry-After": {test.text}}})
		_, err := d.Open(t.Context(), "a", 0, -1)
		var later *store.LaterError
		if !errors.As(err, &later) || (later.After-test.want).Abs() > time.Minute {
			t.Errorf("Retry-After %q: %v asks for %v, want %v", test.text, err, later, test.want)
		}
	}
	for _, text := range []string{"", "-1", "soon"} {
		proxy.Heal()
		proxy.Fail(testbed.Fault{Failure: testbed.Answer, Status: 503, Header: http.Header{"Retry-After": {text}}})
		_, err := d.Open(t.Context(), "a", 0, -1)
		var later *store.LaterError
		if err == nil || errors.As(err, &later) {
			t.Errorf("Retry-After %q: %v, want a plain error", text, err)
		}
	}
}
