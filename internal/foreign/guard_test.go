package foreign_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/foreign"
)

// TestArchiveTarMustBeWhole: pg_restore takes a cut one for a short one.
func TestArchiveTarMustBeWhole(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"toc.dat": "PGDMP" + strings.Repeat("x", 3000), "3000.dat": strings.Repeat("1\ttext\n", 5000) + "\\.\n\n\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole := stock(t, nil, "tar", "--blocking-factor=1", "-C", dir, "-c", "toc.dat", "3000.dat")
	f, content, err := read(t, file(t, whole), foreign.Options{})
	if err != nil || f.Content != foreign.PgTar || !bytes.Equal(content, whole) {
		t.Fatalf("whole: %v, %d of %d bytes, error %v", f, len(content), len(whole), err)
	}
	for _, n := range []int{1024, 5000, len(whole) - 10000, len(whole) - 2000, len(whole) - 1024} {
		if _, _, err := read(t, file(t, whole[:n]), foreign.Options{}); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "the tar is cut short or damaged") {
			t.Errorf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestArchiveFolder(t *testing.T) {
	rows := []byte(strings.Repeat("1\ttext\n", 5000) + "\\.\n\n\n")
	gz := stock(t, rows, "gzip")
	for name, c := range map[string]struct {
		name    string
		content []byte
		want    string
	}{
		"rows":              {"3000.dat", rows, ""},
		"no rows":           {"3000.dat", nil, ""},
		"inserts":           {"3000.dat", []byte("INSERT INTO t VALUES (1);\n\n"), ""},
		"compressed":        {"3000.dat.gz", gz, ""},
		"compressed anew":   {"3000.dat.zst", stock(t, rows, "zstd", "-q"), ""},
		"a large object":    {"blob_900.dat", []byte("anything"), ""},
		"rows, cut":         {"3000.dat", rows[:len(rows)-20], "file 3000.dat: its rows have no end"},
		"compressed, cut":   {"3000.dat.gz", gz[:len(gz)-20], "file 3000.dat.gz: the gzip layer ends too early"},
		"compressed by lz4": {"3000.dat.lz4", []byte("\x04\x22\x4d\x18...."), "compressed with lz4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string][]byte{"toc.dat": []byte("PGDMP..."), c.name: c.content} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := foreign.Open(t.Context(), dir, foreign.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			walk := func() error {
				names = nil
				return f.Walk(t.Context(), func(m foreign.Member, r io.Reader) error {
					names = append(names, m.Name)
					content, err := io.ReadAll(r)
					if err == nil && m.Name == c.name && !bytes.Equal(content, c.content) {
						t.Errorf("%d bytes of %d", len(content), len(c.content))
					}
					return err
				})
			}
			err = walk()
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				return
			}
			want := sum([]byte(sum(c.content) + "  " + names[0] + "\n" + sum([]byte("PGDMP...")) + "  toc.dat\n"))
			sums, read := f.Sums()
			if err != nil || !read || sums.SHA256 != want || sums.Size != int64(len(c.content)+8) {
				t.Errorf("sums %v, want %s; error %v", sums, want, err)
			}
			if err := os.WriteFile(filepath.Join(dir, "toc.dat"), []byte("PGDMP,,,"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := walk(); err == nil || !strings.Contains(err.Error(), "it changed while it was read") {
				t.Errorf("another content: %v", err)
			}
			if err := os.Symlink("/etc/passwd", filepath.Join(dir, "x")); err != nil {
				t.Fatal(err)
			}
			if err := walk(); !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("a link: %v", err)
			}
		})
	}
}
