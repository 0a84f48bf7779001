package s3_test

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

// setting matches the request that sets a property of a bucket.
func setting(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Has(name) }
}

func denied(match func(*http.Request) bool) testbed.Fault {
	return testbed.Fault{Match: match, Failure: testbed.Answer, Status: 403, Body: xmlError("AccessDenied", "no"), Times: -1}
}

// TestBucketIsMadeWholeOrNotAtAll: a bucket that could not be set up does not stay, so that the next try makes a good one.
func TestBucketIsMadeWholeOrNotAtAll(t *testing.T) {
	server := testbed.StartS3(t)
	raw := client(server)
	versions := func(bucket string) types.BucketVersioningStatus {
		t.Helper()
		out, err := raw.GetBucketVersioning(t.Context(), &awss3.GetBucketVersioningInput{Bucket: aws.String(bucket)})
		if err != nil {
			return "no bucket"
		}
		return out.Status
	}
	proxy, opt := through(t, server)
	opt.Create = true
	proxy.Fail(denied(setting("publicAccessBlock")))
	proxy.Fail(denied(setting("encryption")))
	_, err := s3.Open(t.Context(), opt)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "keep it private: ") || !strings.Contains(err.Error(), "encrypt by default: ") {
		t.Errorf("Open: %v, want both that were denied", err)
	}
	if got := versions(opt.Bucket); got != "no bucket" {
		t.Errorf("a bucket with versions %q stayed", got)
	}
	proxy.Heal()
	open(t, opt)
	if got := versions(opt.Bucket); got != types.BucketVersioningStatusEnabled {
		t.Errorf("the second try made a bucket with versions %q", got)
	}

	proxy, opt = through(t, server)
	opt.Create = true
	proxy.Fail(denied(setting("versioning")))
	proxy.Fail(denied(method(http.MethodDelete)))
	_, err = s3.Open(t.Context(), opt)
	if hint := holdfast.Hint(err); !errors.Is(err, fs.ErrPermission) || !strings.Contains(hint, "(keep versions)") || !strings.Contains(hint, "delete the bucket") {
		t.Errorf("Open: %v with hint %q, want what is unset", err, hint)
	}
	if got := versions(opt.Bucket); got != "" {
		t.Errorf("the bucket that could not be deleted has versions %q", got)
	}
}

// TestBucketOfThisAccountStays: one that the server had already, or that was made by an attempt without an answer, is not deleted.
func TestBucketOfThisAccountStays(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.Create = true
	proxy.Fail(testbed.Fault{Match: method(http.MethodPut), Failure: testbed.ResetAfter})
	proxy.Fail(denied(setting("versioning")))
	_, err := s3.Open(t.Context(), opt)
	if hint := holdfast.Hint(err); !errors.Is(err, fs.ErrPermission) || !strings.Contains(hint, "(keep versions)") {
		t.Errorf("Open: %v with hint %q, want what is unset", err, hint)
	}
	if slices.ContainsFunc(proxy.Requests(), func(request string) bool { return strings.HasPrefix(request, "DELETE ") }) {
		t.Error("it was deleted")
	}
}

// TestBucketOfSomebodyElse: a name that is taken is not asked for again.
func TestBucketOfSomebodyElse(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	opt.Create = true
	proxy.Fail(testbed.Fault{Match: method(http.MethodPut), Failure: testbed.Answer, Status: 409, Body: xmlError("BucketAlreadyExists", "not available"), Times: -1})
	_, err := s3.Open(t.Context(), opt)
	if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "choose another bucket name") {
		t.Errorf("Open: %v with hint %q", err, holdfast.Hint(err))
	}
	puts := slices.DeleteFunc(proxy.Requests(), func(request string) bool { return !strings.HasPrefix(request, "PUT ") })
	if len(puts) != 1 {
		t.Errorf("it was asked for with %q, want once", puts)
	}
}

// TestCreationTellsOfIgnoredConditions: a store can be made where nothing keeps two runs apart, and that is said.
func TestCreationTellsOfIgnoredConditions(t *testing.T) {
	server := testbed.StartS3(t)
	_, ignoring := forgetful(t, server)
	for name, c := range map[string]struct {
		opt  s3.Options
		want int
	}{"ignored": {ignoring, 1}, "obeyed": {options(server), 0}} {
		var warnings []store.Finding
		c.opt.Warn = func(f store.Finding) { warnings = append(warnings, f) }
		create(t, c.opt)
		if len(warnings) != c.want {
			t.Errorf("%s: %d warnings, want %d: %+v", name, len(warnings), c.want, warnings)
		}
		if c.want > 0 {
			wantFindings(t, warnings, store.Warns, "does not obey If-None-Match")
		}
	}
}

// TestProbeEncryptsAsPutDoes: a bucket whose policy takes nothing without encryption takes the probe.
func TestProbeEncryptsAsPutDoes(t *testing.T) {
	server := testbed.StartMinIO(t)
	for mode, header := range map[string]string{"s3": "AES256", "kms": "aws:kms"} {
		proxy, opt := through(t, server)
		if opt.SSE = mode; mode == "kms" {
			opt.KMSKey = server.KMSKey
		}
		proxy.Fail(denied(func(r *http.Request) bool {
			object := strings.Count(r.URL.Path, "/") > 1 && r.Method == http.MethodPut && !r.URL.Query().Has("uploadId")
			return object && r.Header.Get("X-Amz-Server-Side-Encryption") != header
		}))
		d := create(t, opt)
		if err := d.Probe(t.Context()); err != nil {
			t.Errorf("%s: Probe: %v", mode, err)
		}
		wantFindings(t, inspect(t, d, store.Inspection{}), store.Fine, "writes a name once")
	}
}
