package seal_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/seal"
)

// stock runs a stock program on input and returns its output.
func stock(t *testing.T, input []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &complaint
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, complaint.String())
	}
	return output
}

// modernAge returns a folder with age and age-keygen that know hybrid keys, which Debian's do not. They are built
// into the testbed once.
func modernAge(t *testing.T) string {
	t.Helper()
	testbed := os.Getenv("HOLDFAST_TESTBED")
	if testbed == "" {
		testbed = "/var/cache/holdfast-testbed"
	}
	bin := filepath.Join(testbed, "bin")
	for _, program := range []string{"age", "age-keygen"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err == nil {
			continue
		}
		build := exec.CommandContext(t.Context(), "go", "install", "filippo.io/age/cmd/"+program+"@v1.3.2")
		build.Dir = t.TempDir()
		build.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", build, err, out)
		}
	}
	return bin
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// decompressors and compressors are the stock counterparts of each compression.
var (
	decompressors = map[seal.Compression][]string{
		seal.Zstd: {"zstd", "-dc"}, seal.Gzip: {"gzip", "-dc"}, seal.None: {"cat"},
	}
	compressors = map[seal.Compression][]string{
		seal.Zstd: {"zstd", "-c"}, seal.Gzip: {"gzip", "-c"}, seal.None: {"cat"},
	}
)

// ageOf returns the stock age for a key.
func ageOf(t *testing.T, k key) string {
	if k.name == string(seal.Hybrid) {
		return filepath.Join(modernAge(t), "age")
	}
	return "/usr/bin/age"
}

func TestStockToolsOpenWhatWeSeal(t *testing.T) {
	for _, k := range []key{{name: "plain"}, pair(t, seal.X25519), pair(t, seal.Hybrid)} {
		for _, c := range compressions {
			t.Run(string(c)+","+k.name, func(t *testing.T) {
				for _, size := range sizes {
					plain := text(size)
					data, _ := sealed(t, k.options(c), plain)
					if k.recipients != nil {
						identity := writeFile(t, "identity", k.text.Reveal()+"\n")
						data = stock(t, data, ageOf(t, k), "-d", "-i", identity)
					}
					program := decompressors[c]
					if got := stock(t, data, program[0], program[1:]...); !bytes.Equal(got, plain) {
						t.Errorf("size %d: stock tools make %d other bytes of it", size, len(got))
					}
				}
			})
		}
	}
}

func TestWeOpenWhatStockToolsSeal(t *testing.T) {
	for _, k := range []key{{name: "plain"}, pair(t, seal.X25519), pair(t, seal.Hybrid)} {
		for _, c := range compressions {
			t.Run(string(c)+","+k.name, func(t *testing.T) {
				for _, size := range []int{0, 1, 64 << 10, seal.ChunkSize + 1} {
					plain := text(size)
					program := compressors[c]
					data := stock(t, plain, program[0], program[1:]...)
					if k.recipients != nil {
						identity := writeFile(t, "identity", k.text.Reveal()+"\n")
						data = stock(t, data, ageOf(t, k), "-e", "-i", identity)
					}
					got, err := unseal(data, k.readOptions(c))
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("size %d: got %d bytes, error %v", size, len(got), err)
					}
				}
			})
		}
	}
}

func TestStockKeysAreKeys(t *testing.T) {
	bin := modernAge(t)
	for _, args := range [][]string{
		{"/usr/bin/age-keygen"},
		{filepath.Join(bin, "age-keygen")},
		{filepath.Join(bin, "age-keygen"), "-pq"},
	} {
		file := stock(t, nil, args[0], args[1:]...)
		identities, err := seal.ParseIdentities(bytes.NewReader(file))
		if err != nil || len(identities) != 1 {
			t.Fatalf("%q: %d identities, error %v", args, len(identities), err)
		}
		public := strings.TrimSpace(string(stock(t, file, args[0], "-y")))
		recipient, err := seal.ParseRecipient(public)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		if got := seal.RecipientOf(identities[0]).KeyID(); got != recipient.KeyID() || !strings.HasPrefix(public, got) {
			t.Errorf("%q: key IDs %q and %q of recipient %q", args, got, recipient.KeyID(), public)
		}
	}
}

// A window beyond what stock zstd makes by default is a way to exhaust memory.
func TestHugeWindowIsRefused(t *testing.T) {
	data := stock(t, text(64<<10), "zstd", "-c", "--long=30", "-1", "--no-content-size")
	if _, err := unseal(data, seal.ReadOptions{Plain: true}); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}

func TestLevels(t *testing.T) {
	plain := text(2 * seal.ChunkSize)
	for _, c := range []seal.Compression{seal.Zstd, seal.Gzip} {
		last := plain
		for _, level := range []int{1, 9} {
			data, _ := sealed(t, seal.Options{Compression: c, Level: level, Plain: true}, plain)
			program := decompressors[c]
			if got := stock(t, data, program[0], program[1:]...); !bytes.Equal(got, plain) {
				t.Errorf("%s level %d does not come back", c, level)
			}
			if bytes.Equal(data, last) {
				t.Errorf("%s level %d makes the same as the level before", c, level)
			}
			last = data
		}
	}
}
