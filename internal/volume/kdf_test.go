package volume_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/volume"
)

func TestKDFOfHost(t *testing.T) {
	for _, test := range []struct {
		name, meminfo string
		want          int // KiB
		says          string
		err           string
	}{
		{name: "a small host", meminfo: "MemTotal:         131072 kB\nMemFree: 5 kB\n", want: 65536, says: "argon2id with 64 MiB of memory"},
		{name: "a quarter", meminfo: "MemTotal:        2040000 kB\n", want: 510000, says: "argon2id with 498 MiB of memory"},
		{name: "the most", meminfo: "MemTotal:       65536000 kB\n", want: 1 << 20, says: "argon2id with 1 GiB of memory"},
		{name: "another line first", meminfo: "Other: 1 kB\nMemTotal: 1048576 kB\n", want: 262144, says: "argon2id with 256 MiB of memory"},
		{name: "no such line", meminfo: "MemFree: 5 kB\n", err: "it has no MemTotal"},
		{name: "no number", meminfo: "MemTotal: much kB\n", err: `MemTotal is "much"`},
		{name: "another unit", meminfo: "MemTotal: 5 MB\n", err: `MemTotal is "5 MB"`},
		{name: "nothing", meminfo: "MemTotal: 0 kB\n", err: `MemTotal is "0"`},
		{name: "no file", err: "find how much memory the host has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			if test.meminfo != "" {
				write(t, filepath.Join(root, "proc/meminfo"), test.meminfo)
			}
			kdf, err := volume.Host{Root: root}.KDF()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || kdf.MemoryKiB != test.want || kdf.String() != test.says {
				t.Errorf("got %v %q, %v; want %d %q", kdf.MemoryKiB, kdf, err, test.want, test.says)
			}
		})
	}
	if kdf, err := (volume.Host{}).KDF(); err != nil || kdf.MemoryKiB < 64<<10 || kdf.MemoryKiB > 1<<20 {
		t.Errorf("this host: %v, %v", kdf, err)
	}
}

func TestKDFArguments(t *testing.T) {
	for _, test := range []struct {
		kdf  volume.KDF
		args string
		says string
	}{
		{volume.KDF{MemoryKiB: 65536}, "--pbkdf argon2id --pbkdf-memory 65536", "argon2id with 64 MiB of memory"},
		{volume.KDF{MemoryKiB: 512, Iterations: 4, Lanes: 2}, "--pbkdf argon2id --pbkdf-memory 512 --pbkdf-force-iterations 4 --pbkdf-parallel 2", "argon2id with 512 KiB of memory, 4 passes, 2 lanes"},
	} {
		if got := test.kdf.Args(); !slices.Equal(got, strings.Fields(test.args)) {
			t.Errorf("arguments %q, want %q", got, test.args)
		}
		if test.kdf.String() != test.says {
			t.Errorf("says %q, want %q", test.kdf, test.says)
		}
	}
}

func FuzzMemory(f *testing.F) {
	f.Add("MemTotal:       16384 kB\n")
	f.Add("MemTotal: -1 kB")
	f.Fuzz(func(t *testing.T, text string) {
		if total, err := volume.ParseMemory(text); err == nil && total <= 0 || err != nil && total != 0 {
			t.Errorf("%q has %d KiB, %v", text, total, err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
