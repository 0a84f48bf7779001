package s3_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

// environment is what a Lookup finds.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	text, ok := e[name]
	return text, ok
}

func TestCredentials(t *testing.T) {
	server := testbed.StartS3(t)
	opt := options(server)
	makeBucket(t, server, opt.Bucket)
	home := t.TempDir()
	text := "# of a person\n[other]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n\n[default]\nregion=eu-west-1\nAWS_ACCESS_KEY_ID=" +
		server.AccessKey + "\naws_secret_access_key\t=  " + server.SecretKey + "\n[empty]\n"
	file := filepath.Join(home, ".aws", "credentials")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  environment
		want error
	}{
		{"environment", environment{"AWS_ACCESS_KEY_ID": server.AccessKey, "AWS_SECRET_ACCESS_KEY": server.SecretKey, "AWS_REGION": "us-east-1"}, nil},
		{"environment first", environment{"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong", "HOME": home}, fs.ErrPermission},
		{"shared file", environment{"HOME": home}, nil},
		{"shared file by name", environment{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "default"}, nil},
		{"other profile", environment{"HOME": home, "AWS_PROFILE": "other"}, fs.ErrPermission},
		{"empty profile", environment{"HOME": home, "AWS_PROFILE": "empty"}, fs.ErrPermission},
		{"no such file", environment{"AWS_SHARED_CREDENTIALS_FILE": file + "x", "AWS_PROFILE": "default"}, fs.ErrPermission},
		{"nothing", nil, fs.ErrPermission},
		{"nothing at home", environment{"HOME": t.TempDir()}, fs.ErrPermission},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := opt
			opt.AccessKey, opt.SecretKey, opt.Region, opt.Lookup = holdfast.Secret{}, holdfast.Secret{}, "", test.env.lookup
			d, err := s3.Open(t.Context(), opt)
			if d != nil {
				defer d.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("Open: %v, want %v", err, test.want)
			}
			if err != nil && !errors.Is(err, test.want) || err != nil && holdfast.Hint(err) == "" && test.name != "no such file" {
				t.Errorf("Open: %v has no hint", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	server := testbed.StartS3(t)
	for _, test := range []struct {
		name string
		set  func(*s3.Options)
		want error
	}{
		{"wrong secret", func(o *s3.Options) { o.SecretKey = holdfast.NewSecret("wrong-but-long") }, fs.ErrPermission},
		{"wrong key", func(o *s3.Options) { o.AccessKey = holdfast.NewSecret("nobody-knows-me") }, fs.ErrPermission},
		{"no bucket", func(*s3.Options) {}, store.ErrNoStore},
		{"wrong region", func(o *s3.Options) { o.Region = "eu-north-9" }, holdfast.ErrUsage},
		{"no server", func(o *s3.Options) { o.Endpoint = "http://127.0.0.1:1" }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := options(server)
			if test.want != store.ErrNoStore {
				makeBucket(t, server, opt.Bucket)
			}
			test.set(&opt)
			_, err := s3.Open(t.Context(), opt)
			if err == nil || test.want != nil && (!errors.Is(err, test.want) || holdfast.Hint(err) == "") {
				t.Fatalf("Open: %v (%q), want %v with a hint", err, holdfast.Hint(err), test.want)
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open: %v speaks of an object", err)
			}
			if text := err.Error(); strings.Contains(text, opt.AccessKey.Reveal()) || strings.Contains(text, opt.SecretKey.Reveal()) {
				t.Errorf("Open: %v shows a key", err)
			}
		})
	}
}

// TestBucketVanishes: a store that goes away while it is open is no missing object and no empty list.
func TestBucketVanishes(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	proxy.Fail(testbed.Fault{Times: -1, Request: func(r *http.Request) {
		r.URL.Path = strings.Replace(r.URL.Path, opt.Bucket, "no-such-bucket", 1)
		resign(t, server, r)
	}})
	storetest.Vanished(t, d)
}

func TestOwnAuthority(t *testing.T) {
	server := testbed.StartS3(t)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}})
	t.Cleanup(front.Close)
	opt := options(server)
	makeBucket(t, server, opt.Bucket)
	opt.Endpoint = front.URL
	if _, err := s3.Open(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Open of a server whom nobody vouches for: %v", err)
	}
	opt.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if _, err := s3.Open(t.Context(), opt); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("Open without the file: %v, want ErrUsage", err)
	}
	for _, text := range [][]byte{[]byte("no certificate"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})} {
		if err := os.WriteFile(opt.CAFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(text, []byte("no")) {
			if _, err := s3.Open(t.Context(), opt); !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("Open with a file without certificates: %v, want ErrUsage", err)
			}
		}
	}
	d := open(t, opt)
	put(t, d, "a", sample(100_000, 1))
	wantObject(t, d, "a", sample(100_000, 1))
}

func TestMistakes(t *testing.T) {
	good := s3.Options{
		Endpoint: "http://127.0.0.1:1", Bucket: "bucket", AccessKey: holdfast.NewSecret("key"), SecretKey: holdfast.NewSecret("secret"),
		Retrier: store.NewRetrier(1, 1), Now: time.Now,
	}
	for name, spoil := range map[string]func(*s3.Options){
		"bucket":         func(o *s3.Options) { o.Bucket = "" },
		"bucket's name":  func(o *s3.Options) { o.Bucket = "a/b" },
		"prefix":         func(o *s3.Options) { o.Prefix = "a/../b" },
		"endpoint":       func(o *s3.Options) { o.Endpoint = "s3.example.org" },
		"password":       func(o *s3.Options) { o.Endpoint = "https://me:hidden@s3.example.org" },
		"small parts":    func(o *s3.Options) { o.PartSize = 1 << 20 },
		"large parts":    func(o *s3.Options) { o.PartSize = 6 << 30 },
		"parts":          func(o *s3.Options) { o.Parts = -1 },
		"sse":            func(o *s3.Options) { o.SSE = "aes" },
		"key without":    func(o *s3.Options) { o.KMSKey = "key" },
		"lock":           func(o *s3.Options) { o.LockMode, o.LockFor = "for ever", 1 },
		"lock for":       func(o *s3.Options) { o.LockMode = "governance" },
		"for what":       func(o *s3.Options) { o.LockFor = 1 },
		"half of a pair": func(o *s3.Options) { o.SecretKey = holdfast.Secret{} },
	} {
		t.Run(name, func(t *testing.T) {
			opt := good
			spoil(&opt)
			_, err := s3.Open(t.Context(), opt)
			if !errors.Is(err, holdfast.ErrUsage) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("Open: %v, want ErrUsage", err)
			}
		})
	}
}
