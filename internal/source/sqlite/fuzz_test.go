package sqlite_test

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"holdfast/internal/source"
	"holdfast/internal/source/sqlite"
)

// FuzzImage restores images that no application wrote: whatever they hold, a drill ends with a verdict, and only the
// captured bytes pass.
func FuzzImage(f *testing.F) {
	path := filepath.Join(f.TempDir(), "app.db")
	stock(f, path, `PRAGMA page_size=512; CREATE TABLE t(a TEXT UNIQUE, b); CREATE VIEW v AS SELECT * FROM t;
		INSERT INTO t VALUES ('x', 1), ('y', NULL), (hex(zeroblob(600)), x'00')`)
	c, err := live(path).Capture(f.Context(), nil)
	must(f, err)
	image, err := readAll(f, c)
	must(f, err)
	facts, err := c.Facts(f.Context())
	must(f, err)
	must(f, c.Close())
	f.Add(image)
	f.Add(image[:len(image)-512])
	f.Add(image[:100])
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := sqlite.Throwaway(t.Context(), dir, source.Stored{Source: "app"})
		must(t, err)
		defer func() { must(t, p.Close()) }()
		must(t, p.Restore(t.Context(), storedImage(content, facts)))
		restored, err := p.Check(t.Context())
		if err != nil {
			if errors.Is(err, io.EOF) {
				t.Errorf("an end of file for a verdict: %v", err)
			}
			return
		}
		same := string(content) == string(image)
		if passes := len(source.Compare(facts.Facts, restored.Facts)) == 0; passes != same {
			t.Errorf("same bytes: %v, passes: %v", same, passes)
		}
	})
}
