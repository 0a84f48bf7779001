package foreign_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/foreign"
)

// TestPackedFolder: a folder of pg_dump -Fd that a script put into a tar is one, however it was put there, and nothing else is.
func TestPackedFolder(t *testing.T) {
	dir := t.TempDir()
	rows := strings.Repeat("1\ttext\n", 5000) + "\\.\n\n\n"
	toc := "PGDMP\x01\x10\x00\x04\x08\x03\x01" + strings.Repeat("x", 700)
	gz := string(stock(t, []byte(rows), "gzip"))
	write := func(folder string, files map[string]string) {
		for name, content := range files {
			path := filepath.Join(dir, folder, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("app.dir", map[string]string{"toc.dat": toc, "3000.dat.gz": gz, "blobs_16.toc": "900 blob_900.dat\n", "blob_900.dat.gz": gz})
	write("old.dir", map[string]string{"toc.dat": "PGDMP\x01\x0e\x00\x04\x08\x03\x00\xff\xff\xff\xff" + strings.Repeat("x", 700), "3000.dat.gz": gz})
	write("plain.dir", map[string]string{"toc.dat": toc, "3000.dat": rows})
	write("empty.dir", map[string]string{"toc.dat": toc, "3000.dat.gz": ""})
	write("with.dir", map[string]string{"toc.dat": toc, "3000.dat.gz": gz, "README": "so"})
	write("two/a", map[string]string{"toc.dat": toc, "3000.dat.gz": gz})
	write("two/b", map[string]string{"toc.dat": toc, "3000.dat.gz": gz})
	write("like.dir", map[string]string{"toc.dat": "a table of contents", "3000.dat": rows})
	write("none.dir", map[string]string{"3000.dat": rows})
	pack := func(args ...string) []byte {
		return stock(t, nil, "tar", append([]string{"-C", dir, "--blocking-factor=1", "--sort=name", "-c"}, args...)...)
	}
	for name, c := range map[string]struct {
		data  []byte
		want  string
		dumps []string // for a tar
		err   string
	}{
		"a folder":                  {pack("app.dir"), "pg_dump -Fd, tar", nil, ""},
		"a folder, compressed":      {stock(t, pack("app.dir"), "gzip"), "pg_dump -Fd, tar, gzip", nil, ""},
		"what is in it":             {stock(t, nil, "tar", "-C", filepath.Join(dir, "app.dir"), "-c", "."), "pg_dump -Fd, tar", nil, ""},
		"its files":                 {pack("app.dir/3000.dat.gz", "app.dir/blobs_16.toc", "app.dir/blob_900.dat.gz", "app.dir/toc.dat"), "pg_dump -Fd, tar", nil, ""},
		"its contents first":        {stock(t, nil, "tar", "-C", filepath.Join(dir, "app.dir"), "-c", "toc.dat", "3000.dat.gz"), "pg_dump -Fd, tar", nil, ""},
		"its contents first, of 14": {stock(t, nil, "tar", "-C", filepath.Join(dir, "old.dir"), "-c", "toc.dat", "3000.dat.gz"), "pg_dump -Fd, tar", nil, ""},
		"not compressed":            {pack("plain.dir"), "pg_dump -Fd, tar", nil, ""},
		"a file that is empty":      {pack("empty.dir"), "pg_dump -Fd, tar", nil, "file 3000.dat.gz: there is nothing in it"},
		"with another file":         {pack("with.dir"), "tar", []string{"with.dir"}, ""},
		"two":                       {pack("two"), "tar", []string{"two/a", "two/b"}, ""},
		"among others":              {pack("none.dir", "app.dir"), "tar", []string{"app.dir"}, ""},
		"no dump":                   {pack("like.dir"), "tar", nil, ""},
		"no contents":               {pack("none.dir"), "tar", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.data)
			f, err := foreign.Open(t.Context(), path, foreign.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.String() != c.want {
				t.Fatalf("recognised as %s, want %s", f, c.want)
			}
			if f.Content == foreign.Tar {
				if r, err := f.Reader(t.Context()); err != nil {
					t.Fatal(err)
				} else if content, err := io.ReadAll(r); err != nil || !bytes.Equal(content, c.data) || r.Close() != nil {
					t.Errorf("%d of %d bytes, error %v", len(content), len(c.data), err)
				}
				if got := f.Dumps(); !slices.Equal(got, c.dumps) {
					t.Errorf("dumps in it: %q, want %q", got, c.dumps)
				}
				return
			}
			members, err := f.Members()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := map[string]string{}
				err := f.Walk(t.Context(), func(m foreign.Member, r io.Reader) error {
					content, err := io.ReadAll(r)
					got[m.Name] = string(content)
					return err
				})
				if c.err != "" {
					if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), c.err) {
						t.Errorf("error %v, want %q", err, c.err)
					}
					continue
				}
				if err != nil || len(got) != len(members) || !strings.HasPrefix(got["toc.dat"], "PGDMP") || got["3000.dat.gz"]+got["3000.dat"] != gz && got["3000.dat"] != rows {
					t.Errorf("%d of %d files, error %v", len(got), len(members), err)
				}
			}
			if sums, whole := f.Sums(); c.err == "" && (!whole || sums.SHA256 != sum(c.data)) {
				t.Errorf("sums %v", sums)
			}
			if len(f.Dumps()) > 0 || f.Folder() {
				t.Errorf("it is said to hold %q", f.Dumps())
			}
		})
	}
	whole := pack("app.dir")
	for n := len(whole) - 1025; n > 1024; n -= 700 {
		f, err := foreign.Open(t.Context(), file(t, whole[:n]), foreign.Options{})
		if err != nil {
			t.Fatalf("cut to %d of %d bytes: %v, error %v", n, len(whole), f, err)
		}
		// Where the files are whole the end of the tar alone is missing.
		if f.Content != foreign.Tar && !errors.Is(f.Walk(t.Context(), func(foreign.Member, io.Reader) error { return nil }), holdfast.ErrDifference) {
			t.Errorf("cut to %d of %d bytes it passes for whole", n, len(whole))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	path := file(t, whole)
	f, err := foreign.Open(t.Context(), path, foreign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(whole, []byte("xxxx"), []byte("yyyy"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Walk(t.Context(), func(foreign.Member, io.Reader) error { return nil }); err == nil || !strings.Contains(fmt.Sprint(err), "it changed while it was read") {
		t.Errorf("another content: %v", err)
	}
}
