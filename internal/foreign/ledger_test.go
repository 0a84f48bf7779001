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
	"time"

	"holdfast"
	"holdfast/internal/foreign"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

var importedAt = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func newSigner(t testing.TB) *seal.Signer {
	t.Helper()
	text, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(text)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func put(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// listed tells name, what it is and its time, a line each.
func listed(files []foreign.Imported) string {
	var lines []string
	for _, f := range files {
		lines = append(lines, fmt.Sprintf("%s: %s, %s", f.Name, f.What(), f.Time.Format("2006-01-02 15:04:05")))
	}
	return strings.Join(lines, "\n")
}

func TestImport(t *testing.T) {
	dir := t.TempDir()
	gz := stock(t, dump, "gzip")
	put(t, dir, "app_20261101_020000.sql.gz", gz)
	put(t, dir, "20261102/auth.db.backup", []byte("SQLite format 3\x00..."))
	put(t, dir, "20261102/MANIFEST.txt", []byte("made by hand\n"))
	put(t, dir, "backup-2026-11-03-01-02-03.sql.enc", append([]byte("Salted__12345678"), make([]byte, 64)...))
	put(t, dir, "20261104.dir/toc.dat", []byte("PGDMP..."))
	put(t, dir, "20261104.dir/3000.dat", []byte("1\n\\.\n\n\n"))
	put(t, dir, "empty-20261105.sql", nil)
	put(t, dir, "broken-20261106.gz", []byte("\x1f\x8b\x08\x00broken"))
	put(t, dir, ".hidden.sql", dump)
	put(t, dir, "store/.holdfast-store", nil)
	put(t, dir, "store/x.sql", dump)
	put(t, dir, "skipped/x.sql", dump)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.sql")); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	s := store.New(storetest.NewMemory(t), store.Options{})
	signer := newSigner(t)
	in := foreign.Import{Folder: dir, Job: "old", Host: "h", Now: importedAt, Signer: signer, Skip: []string{filepath.Join(dir, "skipped")}}
	result, err := foreign.NewLedger(s, nil).Import(t.Context(), in, nil)
	if err != nil || len(result.Unreadable) > 0 {
		t.Fatalf("%v, %v", err, result.Unreadable)
	}
	if !slices.Equal(result.Strange, []string{"20261102/MANIFEST.txt"}) || result.Known != 0 {
		t.Errorf("not recognised: %q, known: %d", result.Strange, result.Known)
	}
	trusting := foreign.NewLedger(s, []seal.PublicKey{signer.PublicKey()})
	files, err := trusting.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := `app_20261101_020000.sql.gz: SQL, gzip, 2026-11-01 02:00:00
20261102/auth.db.backup: SQLite image, 2026-11-02 00:00:00
backup-2026-11-03-01-02-03.sql.enc: openssl, 2026-11-03 01:02:03
20261104.dir: pg_dump -Fd, 2026-11-04 00:00:00
empty-20261105.sql: empty, 2026-11-05 00:00:00
broken-20261106.gz: broken, gzip, 2026-11-06 00:00:00`
	if got := listed(files); got != want {
		t.Errorf("listed\n%s\nwant\n%s", got, want)
	}
	if files[0].SHA256 != sum(gz) || files[0].Size != int64(len(gz)) || !files[0].Trusted || files[0].Path() != filepath.Join(dir, files[0].Name) {
		t.Errorf("recorded as %+v", files[0])
	}
	if snapshot(t, dir) != before {
		t.Error("the folder was changed")
	}

	// Once more, nothing is new; then one file comes, one changes, and one is only touched.
	again := func(wantNew string, wantKnown int) {
		t.Helper()
		in.Now = in.Now.Add(time.Hour)
		result, err := foreign.NewLedger(s, nil).Import(t.Context(), in, nil)
		var names []string
		for _, f := range result.New {
			names = append(names, f.Name)
		}
		if err != nil || strings.Join(names, " ") != wantNew || result.Known != wantKnown {
			t.Errorf("new %q, %d known, error %v; want %q and %d", names, result.Known, err, wantNew, wantKnown)
		}
	}
	again("", 6)
	put(t, dir, "app_20261107_020000.sql.gz", gz)
	put(t, dir, "app_20261101_020000.sql.gz", append(bytes.Clone(gz), gz...))
	touched := filepath.Join(dir, "empty-20261105.sql")
	if err := os.Chtimes(touched, importedAt, importedAt); err != nil {
		t.Fatal(err)
	}
	again("app_20261101_020000.sql.gz app_20261107_020000.sql.gz", 5)
	again("", 7)
	if files, err = trusting.List(t.Context(), "old"); err != nil || len(files) != 8 {
		t.Errorf("%d files, error %v", len(files), err)
	}
	if others, err := trusting.List(t.Context(), "other"); err != nil || len(others) != 0 {
		t.Errorf("another job has %d files, error %v", len(others), err)
	}
}

// snapshot tells every name, size, mode and time of a folder.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			lines = append(lines, fmt.Sprint(path, info.Size(), info.Mode(), info.ModTime().UnixNano()))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestImportTwice makes two records of the same files, as two machines at once do: the older one counts.
func TestImportTwice(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.sql", dump)
	memory := storetest.NewMemory(t)
	signer := newSigner(t)
	other := storetest.NewMemory(t)
	for i, m := range []*storetest.Memory{memory, other} {
		in := foreign.Import{Folder: dir, Job: "old", Host: "h", Now: importedAt.Add(time.Duration(i) * time.Hour), Signer: signer}
		if _, err := foreign.NewLedger(store.New(m, store.Options{}), nil).Import(t.Context(), in, nil); err != nil {
			t.Fatal(err)
		}
	}
	for object, err := range other.List(t.Context(), "imports/") {
		if err != nil {
			t.Fatal(err)
		}
		copyObject(t, other, memory, object.Name, nil)
	}
	files, err := foreign.NewLedger(store.New(memory, store.Options{}), nil).List(t.Context(), "")
	if err != nil || len(files) != 1 || !files[0].When.Equal(importedAt) || files[0].Trusted {
		t.Errorf("files %+v, error %v", files, err)
	}
}

func copyObject(t testing.TB, from, to store.Driver, name string, change func(string) string) {
	t.Helper()
	r, err := from.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if change != nil {
		text = change(text)
	}
	if err := to.Put(t.Context(), name, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// TestRecordsThatAreRefused: a record is believed as it was signed, under its own name, and not else. The good one beside it
// is listed all the same.
func TestRecordsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.sql", dump)
	made := storetest.NewMemory(t)
	signer := newSigner(t)
	in := foreign.Import{Folder: dir, Job: "old", Host: "h", Now: importedAt, Signer: signer}
	if _, err := foreign.NewLedger(store.New(made, store.Options{}), nil).Import(t.Context(), in, nil); err != nil {
		t.Fatal(err)
	}
	var record, signature string
	for object, err := range made.List(t.Context(), "imports/") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(object.Name, ".sig") {
			signature = object.Name
		} else {
			record = object.Name
		}
	}
	for name, c := range map[string]struct {
		copy func(to *storetest.Memory)
		key  *seal.Signer
		want string
	}{
		"changed": {func(to *storetest.Memory) {
			copyObject(t, made, to, signature, nil)
			copyObject(t, made, to, record, func(text string) string { return strings.Replace(text, `"size":`, `"size":1`, 1) })
		}, signer, "the signature does not fit the content"},
		"without a signature": {func(to *storetest.Memory) { copyObject(t, made, to, record, nil) }, signer, "its signature is gone"},
		"by somebody else": {func(to *storetest.Memory) {
			copyObject(t, made, to, signature, nil)
			copyObject(t, made, to, record, nil)
		}, newSigner(t), "which is not among the allowed signers"},
		"under another name": {func(to *storetest.Memory) {
			for _, from := range []string{record, signature} {
				r, err := made.Open(t.Context(), from, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				err = to.Put(t.Context(), strings.Replace(from, "imports/old/2026", "imports/old/2025", 1), r)
				if err := errors.Join(err, r.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}, signer, "says other things than the name it is stored under"},
	} {
		t.Run(name, func(t *testing.T) {
			to := storetest.NewMemory(t)
			c.copy(to)
			files, err := foreign.NewLedger(store.New(to, store.Options{}), []seal.PublicKey{c.key.PublicKey()}).List(t.Context(), "")
			if len(files) != 0 || !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d files, error %v, want %q", len(files), err, c.want)
			}
		})
	}
}

func TestImportOfManyIsTwoObjects(t *testing.T) {
	dir := t.TempDir()
	for i := range 500 {
		put(t, dir, fmt.Sprintf("app_20260101_%06d.sql", i), fmt.Appendf(nil, "SELECT %d;", i))
	}
	memory := storetest.NewMemory(t)
	s := store.New(memory, store.Options{})
	in := foreign.Import{Folder: dir, Job: "old", Host: "h", Now: importedAt, Signer: newSigner(t)}
	if result, err := foreign.NewLedger(s, nil).Import(t.Context(), in, nil); err != nil || len(result.New) != 500 {
		t.Fatalf("%d new, error %v", len(result.New), err)
	}
	if puts := s.Counters().Puts; puts != 2 {
		t.Errorf("%d objects were written for 500 files", puts)
	}
}
