package sample_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/sample"
)

// describe lists everything below dir: names, modes, owners, times, targets and digests.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%q %v %d:%d %s", strings.TrimPrefix(path, dir), info.Mode(), stat.Uid, stat.Gid, info.ModTime().UTC())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d links %x", stat.Nlink, sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %q", target)
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCreateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app")
	options := sample.Options{Size: small, Seed: 5}
	if err := sample.CreateFiles(dir, options); err != nil {
		t.Fatal(err)
	}
	first := describe(t, dir)
	stat := func(t *testing.T, name string) *syscall.Stat_t {
		t.Helper()
		var s syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(dir, name), &s); err != nil {
			t.Fatal(err)
		}
		return &s
	}
	t.Run("what a service has", func(t *testing.T) {
		for _, name := range []string{
			"config/app.yaml", "data/uploads", ".env", "ecosystem.config.js", "deploy/sample-app.service",
			"deploy/nginx/app.example.org.conf", "node_modules", "logs/app-0.log",
		} {
			stat(t, name)
		}
	})
	t.Run("secrets are private", func(t *testing.T) {
		for _, name := range []string{".env", ".env.production", "secrets/jwt.pem", "deploy/nginx/tls/app.example.org.key"} {
			if mode := stat(t, name).Mode & 0o7777; mode != 0o600 {
				t.Errorf("%s: %o", name, mode)
			}
		}
	})
	t.Run("certificate and key belong together", func(t *testing.T) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "deploy/nginx/tls/app.example.org.crt"), filepath.Join(dir, "deploy/nginx/tls/app.example.org.key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := pair.PrivateKey.(ed25519.PrivateKey); !ok {
			t.Errorf("key %T", pair.PrivateKey)
		}
	})
	t.Run("a sparse file", func(t *testing.T) {
		if s := stat(t, "data/sparse.img"); s.Size != 64<<20 || s.Blocks*512 > 1<<20 {
			t.Errorf("%d bytes in %d blocks", s.Size, s.Blocks)
		}
	})
	t.Run("hard links", func(t *testing.T) {
		a, b, c := stat(t, "data/links/hard-1"), stat(t, "data/links/hard-2"), stat(t, "data/hard-3")
		if a.Ino != b.Ino || a.Ino != c.Ino || a.Nlink != 3 {
			t.Errorf("inodes %d %d %d, %d links", a.Ino, b.Ino, c.Ino, a.Nlink)
		}
	})
	t.Run("set-id and sticky bits", func(t *testing.T) {
		for name, want := range map[string]uint32{"data/shared": 0o2775, "data/tmp": 0o1777, "data/shared/run": 0o4755, "data/no-modes": 0} {
			if mode := stat(t, name).Mode & 0o7777; mode != want {
				t.Errorf("%s: %o, not %o", name, mode, want)
			}
		}
	})
	t.Run("times to the nanosecond", func(t *testing.T) {
		if s := stat(t, "config/app.yaml"); s.Mtim.Nsec == 0 || s.Mtim.Nsec%1000 == 0 {
			t.Errorf("%d ns", s.Mtim.Nsec)
		}
	})
	t.Run("odd names", func(t *testing.T) {
		for _, name := range []string{"two\nlines", "latin1-\xe9\xff", "-rf", "Zu\u0308rich (decomposed)", "Zürich (composed)"} {
			stat(t, "data/names/"+name)
		}
	})
	t.Run("extended attributes", func(t *testing.T) {
		value := make([]byte, 100)
		n, err := syscall.Getxattr(filepath.Join(dir, "config/app.yaml"), "user.checked by", value)
		if errors.Is(err, syscall.ENOTSUP) {
			t.Log("this file system has none")
			return
		}
		if err != nil || string(value[:n]) != "Größe\x00\n\xff" {
			t.Errorf("%q, %v", value[:max(n, 0)], err)
		}
	})
	t.Run("the same for a seed", func(t *testing.T) {
		again := filepath.Join(t.TempDir(), "again")
		if err := sample.CreateFiles(again, options); err != nil {
			t.Fatal(err)
		}
		if second := describe(t, again); second != first {
			t.Error(difference([]byte(first), []byte(second)))
		}
	})
	t.Run("refuses to overwrite", func(t *testing.T) {
		if err := sample.CreateFiles(dir, options); !errors.Is(err, fs.ErrExist) {
			t.Errorf("error %v", err)
		}
		if second := describe(t, dir); second != first {
			t.Error(difference([]byte(first), []byte(second)))
		}
	})
}

func TestCreateTree(t *testing.T) {
	options := sample.TreeOptions{Files: 3000, Bytes: 30_000_000, Seed: 2}
	dirs := []string{filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "tree")}
	for _, dir := range dirs {
		if err := sample.CreateTree(dir, options); err != nil {
			t.Fatal(err)
		}
	}
	files, size := 0, int64(0)
	digests := [2]map[string][32]byte{{}, {}}
	for i, dir := range dirs {
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, path))
			digests[i][path] = sha256.Sum256(data)
			if i == 0 {
				files++
				size += int64(len(data))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files != options.Files {
		t.Errorf("%d files", files)
	}
	if size < options.Bytes*8/10 || size > options.Bytes*12/10 {
		t.Errorf("%d bytes, not about %d", size, options.Bytes)
	}
	for path, digest := range digests[0] {
		if digests[1][path] != digest {
			t.Errorf("%s is another the second time", path)
		}
	}
	if err := sample.CreateTree(dirs[0], options); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a tree that is there: error %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"10MB": 10_000_000, "1gb": 1_000_000_000, "1.5 GB": 1_500_000_000, "512KiB": 512 << 10, "7": 7, "7B": 7, "10GB": 10_000_000_000,
	} {
		if got, err := sample.ParseSize(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MB", "-1MB", "0", "NaN", "Inf", "1TBB", "1e300", "ten"} {
		if got, err := sample.ParseSize(text); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
