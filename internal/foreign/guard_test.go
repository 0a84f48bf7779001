package foreign_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/foreign"
	"holdfast/internal/testbed"
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
		"no rows":           {"3000.dat", []byte("\\.\n\n\n"), ""},
		"no inserts":        {"3000.dat", []byte("\n\n"), ""},
		"inserts":           {"3000.dat", []byte("INSERT INTO t VALUES (1);\n\n"), ""},
		"compressed":        {"3000.dat.gz", gz, ""},
		"compressed anew":   {"3000.dat.zst", stock(t, rows, "zstd", "-q"), ""},
		"a large object":    {"blob_900.dat", []byte("anything"), ""},
		"rows, cut":         {"3000.dat", rows[:len(rows)-20], "file 3000.dat: its rows have no end"},
		"compressed, cut":   {"3000.dat.gz", gz[:len(gz)-20], "file 3000.dat.gz: the gzip layer ends too early"},
		"compressed by lz4": {"3000.dat.lz4", []byte("\x04\x22\x4d\x18...."), "compressed with lz4"},
		// What a full disk leaves, in every compression, and what only looks like one.
		"nothing":                    {"3000.dat", nil, "file 3000.dat: there is nothing in it"},
		"nothing by gzip":            {"3000.dat.gz", nil, "file 3000.dat.gz: there is nothing in it"},
		"nothing by zstd":            {"3000.dat.zst", nil, "file 3000.dat.zst: there is nothing in it"},
		"nothing by lz4":             {"3000.dat.lz4", nil, "file 3000.dat.lz4: there is nothing in it"},
		"nothing within gzip":        {"3000.dat.gz", stock(t, nil, "gzip"), "file 3000.dat.gz: there is nothing in it"},
		"one line end":               {"3000.dat", []byte("\n"), "its rows have no end"},
		"no gzip":                    {"3000.dat.gz", rows, "it does not begin as a file of gzip"},
		"no lz4":                     {"3000.dat.lz4", rows, "it does not begin as a file of lz4"},
		"zstd by the name of gzip":   {"3000.dat.gz", stock(t, rows, "zstd", "-q"), "it does not begin as a file of gzip"},
		"an empty large object":      {"blob_900.dat", nil, ""},
		"a large object of gzip":     {"blob_900.dat", append(bytes.Clone(gz), "more"...), ""},
		"nothing of a large object":  {"blob_900.dat.gz", nil, "file blob_900.dat.gz: there is nothing in it"},
		"large objects":              {"blobs_16.toc", []byte("900 blob_900.dat\n"), ""},
		"large objects, cut":         {"blobs.toc", []byte("900 blob_9"), "its rows have no end"},
		"nothing of a list of blobs": {"blobs.toc", nil, "file blobs.toc: there is nothing in it"},
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

// TestFolderOfEveryVersion: what pg_dump -Fd writes is whole, and no file of it may be emptied unnoticed.
func TestFolderOfEveryVersion(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			server.Exec(t, "postgres", "CREATE TABLE full_one AS SELECT n FROM generate_series(1, 9) n", "CREATE TABLE hollow (a int)", "CREATE TABLE without ()",
				"SELECT lo_from_bytea(900, 'large')", "SELECT lo_create(901)")
			forms := map[string][]string{"as it is": nil, "not compressed": {"-Z0"}, "by inserts": {"--inserts", "-Z0"}}
			if major >= 16 {
				forms["by zstd"] = []string{"-Zzstd"}
			}
			for name, args := range forms {
				dir := filepath.Join(t.TempDir(), "app.dir")
				stock(t, nil, filepath.Join(testbed.ClientDir(t, major), "pg_dump"), append(args, "-Fd", "-f", dir, server.URL("postgres"))...)
				walk := func() error {
					f, err := foreign.Open(t.Context(), dir, foreign.Options{})
					if err != nil {
						return err
					}
					return f.Walk(t.Context(), func(foreign.Member, io.Reader) error { return nil })
				}
				if err := walk(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) < 6 {
					t.Fatalf("%s: %d files, error %v", name, len(entries), err)
				}
				for _, entry := range entries {
					path := filepath.Join(dir, entry.Name())
					content, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if len(content) == 0 || entry.Name() == "blob_900.dat" || entry.Name() == "blob_900.dat.zst" {
						continue // an empty large object, and one that could be
					}
					if err := os.WriteFile(path, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					if err := walk(); err == nil {
						t.Errorf("%s: without the content of %s it passes for whole", name, entry.Name())
					}
					if err := os.WriteFile(path, content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
