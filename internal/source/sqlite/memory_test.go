package sqlite_test

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// large makes a database of about n MB: rows MB of it in small rows, the rest in blobs.
func large(t testing.TB, n, rows int) string {
	t.Helper()
	return create(t, "wal", fmt.Sprintf(`PRAGMA synchronous=OFF;
		CREATE TABLE small(id INTEGER PRIMARY KEY, a INT, b REAL, c TEXT);
		CREATE TABLE big(b BLOB);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
			INSERT INTO small(a, b, c) SELECT i, i * 0.5, hex(randomblob(40)) FROM n;
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
			INSERT INTO big SELECT randomblob(500000) FROM n;`, rows*10000, (n-rows)*2))
}

// resident returns a line of /proc/self/status in bytes: VmRSS is what the process has in memory, VmHWM the most it
// had. SQLite's memory is not in Go's heap, so Go's own numbers would not show it.
func resident(t *testing.T, line string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, found := strings.Cut(string(status), line+":")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil || !found {
		t.Fatalf("no %s in %s", line, status)
	}
	return kilobytes << 10
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const size, limit = 64_000_000, 32_000_000
	path := large(t, 66, 4)
	debug.FreeOSMemory()
	must(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // VmHWM starts again
	before := resident(t, "VmRSS")
	c := capture(t, path)
	r, err := c.Items()[0].Open(t.Context())
	must(t, err)
	n, err := io.Copy(io.Discard, r)
	must(t, err)
	must(t, r.Close())
	if n < size {
		t.Fatalf("the image has only %d bytes", n)
	}
	_, err = c.Facts(t.Context())
	must(t, err)
	if grown := resident(t, "VmHWM") - before; grown > limit {
		t.Errorf("a capture of %d bytes took %d bytes of memory", n, grown)
	}
}

func BenchmarkImage(b *testing.B) {
	path := large(b, 128, 64)
	for b.Loop() {
		c := capture(b, path)
		r, err := c.Items()[0].Open(b.Context())
		must(b, err)
		n, err := io.Copy(io.Discard, r)
		must(b, err)
		must(b, r.Close())
		must(b, c.Close())
		b.SetBytes(n)
	}
}

func BenchmarkFacts(b *testing.B) {
	path := large(b, 128, 64)
	for b.Loop() {
		b.StopTimer()
		c := capture(b, path)
		_, err := readAll(b, c)
		must(b, err)
		b.SetBytes(c.Items()[0].Size)
		b.StartTimer()
		_, err = c.Facts(b.Context())
		must(b, err)
		b.StopTimer()
		must(b, c.Close())
		b.StartTimer()
	}
}
