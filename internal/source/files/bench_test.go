package files_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/source/files"
)

// BenchmarkCapture reads many small files, and a few large ones. HOLDFAST_BENCH_TREE names a tree of one's own.
func BenchmarkCapture(b *testing.B) {
	trees := map[string]func(b *testing.B) string{
		"small": func(b *testing.B) string { return benchTree(b, 5000, 21_000) },
		"large": func(b *testing.B) string { return benchTree(b, 4, 32<<20) },
	}
	if tree := os.Getenv("HOLDFAST_BENCH_TREE"); tree != "" {
		trees["own"] = func(*testing.B) string { return tree }
	}
	for name, tree := range trees {
		b.Run(name, func(b *testing.B) {
			source := files.New(files.Options{Name: "bench", Roots: roots(tree(b))})
			b.ReportAllocs()
			for b.Loop() {
				c, err := source.Capture(b.Context(), nil)
				check(b, err)
				r, err := c.Items()[0].Open(b.Context())
				check(b, err)
				n, err := io.Copy(io.Discard, r)
				check(b, err)
				check(b, r.Close())
				_, err = c.Facts(b.Context())
				check(b, err)
				b.SetBytes(n)
			}
		})
	}
}

// BenchmarkRestore restores many small files and reads them back.
func BenchmarkRestore(b *testing.B) {
	k := mustTake(b, files.Options{Roots: roots(benchTree(b, 5000, 21_000))})
	b.SetBytes(int64(len(k.tar)))
	for b.Loop() {
		p, err := files.Throwaway(b.Context(), b.TempDir(), k.stored())
		check(b, err)
		check(b, p.Restore(b.Context(), k.stored()))
		_, err = p.Check(b.Context())
		check(b, err)
		check(b, p.Close())
	}
}

func benchTree(b *testing.B, count, size int) string {
	b.Helper()
	dir := b.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(random.IntN(64))
	}
	for i := range count {
		write(b, filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprint(i)), string(content[:size/2+random.IntN(size/2)]))
	}
	return dir
}
