package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

// modelled is one name as it must look: its contents since it was put first, and whether the newest entry deletes it.
type modelled struct {
	contents []string
	hidden   bool
}

// TestVersionsModel: random puts, overwrites and deletions, by the store and by somebody else, against a map.
func TestVersionsModel(t *testing.T) {
	server := testbed.StartMinIO(t)
	opt := options(server)
	create(t, opt)
	raw := client(server)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		opt := opt
		opt.Prefix = fmt.Sprintf("run-%d", run)
		ctx := context.Background()
		d, err := s3.Open(ctx, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		model := map[string]*modelled{}
		name := rapid.SampledFrom([]string{"a", "a-b", "c/b", "a.b"}) // MinIO lists no name below an object
		content := rapid.SampledFrom([]string{"", "one", "two"})
		key := func(name string) *string { return aws.String(opt.Prefix + "/" + name) }
		actions := map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				name, content := name.Draw(t, "name"), content.Draw(t, "content")
				err := d.Put(ctx, name, strings.NewReader(content))
				m := model[name]
				switch {
				case m == nil:
					model[name] = &modelled{contents: []string{content}}
				case m.contents[0] != content:
					if !errors.Is(err, store.ErrExists) {
						t.Fatalf("Put of other bytes: %v, want ErrExists", err)
					}
					return
				case m.hidden:
					m.contents, m.hidden = append(m.contents, content), false
				}
				if err != nil {
					t.Fatalf("Put: %v", err)
				}
			},
			"overwrite": func(t *rapid.T) {
				name, content := name.Draw(t, "name"), content.Draw(t, "content")
				if _, err := raw.PutObject(ctx, &awss3.PutObjectInput{Bucket: aws.String(opt.Bucket), Key: key(name), Body: strings.NewReader(content)}); err != nil {
					t.Fatal(err)
				}
				if model[name] == nil {
					model[name] = &modelled{}
				}
				model[name].contents, model[name].hidden = append(model[name].contents, content), false
			},
			"hide": func(t *rapid.T) {
				name := name.Draw(t, "name")
				if _, err := raw.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: aws.String(opt.Bucket), Key: key(name)}); err != nil {
					t.Fatal(err)
				}
				if model[name] != nil {
					model[name].hidden = true
				}
			},
			"delete": func(t *rapid.T) {
				name := name.Draw(t, "name")
				if err := d.Delete(ctx, name); err != nil {
					t.Fatal(err)
				}
				delete(model, name)
			},
		}
		// Few steps: every one of them is a dozen requests.
		for _, action := range rapid.SliceOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(actions))), 1, 12).Draw(t, "actions") {
			actions[action](t)
			compare(ctx, t, d, model)
		}
	})
}

func compare(ctx context.Context, t *rapid.T, d *s3.Driver, model map[string]*modelled) {
	var names []string
	for object, err := range d.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, object.Name)
		m := model[object.Name]
		if m == nil {
			t.Fatalf("listed is %+v, which is not there", object)
		}
		different := map[string]bool{}
		for _, content := range m.contents {
			different[content] = true
		}
		if object.Size != int64(len(m.contents[0])) || object.Hidden != m.hidden || object.Versions != len(different) {
			t.Fatalf("listed is %+v, want %+v", object, m)
		}
	}
	if want := slices.Sorted(maps.Keys(model)); !slices.Equal(names, want) {
		t.Fatalf("listed are %q, want %q", names, want)
	}
	for _, name := range []string{"a", "a-b"} {
		r, err := d.Open(ctx, name, 0, -1)
		if model[name] == nil {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Open(%q): %v, want fs.ErrNotExist", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(got) != model[name].contents[0] {
			t.Fatalf("Open(%q) gives %q, %v; want %q", name, got, err, model[name].contents[0])
		}
	}
}

// FuzzAnswers: whatever a server answers, List yields valid names in order or an error, and no error shows a key.
func FuzzAnswers(f *testing.F) {
	f.Add(200, "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>")
	f.Add(200, "<ListVersionsResult><Version><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><Size>1</Size></Version>"+
		"<DeleteMarker><Key>b</Key><VersionId>2</VersionId></DeleteMarker></ListVersionsResult>")
	f.Add(200, "<ListVersionsResult><IsTruncated>true</IsTruncated><Version><Key>%41+b</Key></Version><EncodingType>url</EncodingType></ListVersionsResult>")
	f.Add(403, xmlError("AccessDenied", "fuzzedaccess fuzzedsecret"))
	f.Add(503, "<html>")
	var mu sync.Mutex // guards status, body and asked
	var status, asked int
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch asked++; {
		case r.URL.Query().Has("versioning"):
			_, _ = io.WriteString(w, map[bool]string{
				true:  "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
				false: "<VersioningConfiguration></VersioningConfiguration>",
			}[strings.Contains(r.URL.Path, "versions")])
		case asked > 5:
			w.WriteHeader(500) // else a list without an end goes on for ever
		default:
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the client may have gone
		}
	}))
	f.Cleanup(server.Close)
	var drivers []*s3.Driver
	for _, bucket := range []string{"plain", "versions"} {
		d, err := s3.Open(f.Context(), s3.Options{
			Endpoint: server.URL, Bucket: bucket, PathStyle: true,
			AccessKey: holdfast.NewSecret("fuzzedaccess"), SecretKey: holdfast.NewSecret("fuzzedsecret"),
			Retrier: store.NewRetrier(1, time.Nanosecond), Now: time.Now,
		})
		if err != nil {
			f.Fatal(err)
		}
		drivers = append(drivers, d)
	}
	f.Fuzz(func(t *testing.T, fuzzedStatus int, fuzzedBody string) {
		if fuzzedStatus < 200 || fuzzedStatus > 599 {
			return
		}
		for _, d := range drivers {
			mu.Lock()
			status, body, asked = fuzzedStatus, fuzzedBody, 0
			mu.Unlock()
			last := ""
			for object, err := range d.List(t.Context(), "") {
				if err != nil {
					if text := err.Error(); strings.Contains(text, "fuzzedaccess") || strings.Contains(text, "fuzzedsecret") {
						t.Errorf("%v shows a key", err)
					}
					break
				}
				if store.CheckName(object.Name) != nil || object.Name <= last {
					t.Errorf("listed is %q after %q", object.Name, last)
				}
				last = object.Name
			}
		}
	})
}
