package foreign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/foreign"
	"holdfast/internal/seal"
)

// stock runs a program of the system over in.
func stock(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return out.Bytes()
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	// The name lies: it must not matter.
	path := filepath.Join(t.TempDir(), "backup.zip")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// read opens a file and reads it to its end.
func read(t *testing.T, path string, opt foreign.Options) (*foreign.File, []byte, error) {
	t.Helper()
	f, err := foreign.Open(t.Context(), path, opt)
	if err != nil {
		return f, nil, err
	}
	r, err := f.Reader(t.Context())
	if err != nil {
		return f, nil, err
	}
	content, err := io.ReadAll(r)
	return f, content, errors.Join(err, r.Close())
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

var dump = []byte("--\n-- PostgreSQL database dump\n--\n\nSET x = 1;\n" + strings.Repeat("SELECT 'some text that repeats';\n", 50_000))

func TestLayers(t *testing.T) {
	gz := stock(t, dump, "gzip", "-9")
	secret, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"plain":               {dump, "SQL"},
		"gzip":                {gz, "SQL, gzip"},
		"gzip of members":     {append(stock(t, dump[:1000], "gzip"), stock(t, dump[1000:], "gzip", "-1")...), "SQL, gzip"},
		"gzip with zeros":     {append(bytes.Clone(gz), make([]byte, 700)...), "SQL, gzip"},
		"zstd":                {stock(t, dump, "zstd", "-q"), "SQL, zstd"},
		"zstd of frames":      {append(stock(t, dump[:1000], "zstd", "-q"), stock(t, dump[1000:], "zstd", "-q")...), "SQL, zstd"},
		"zstd with a window":  {stock(t, dump, "zstd", "-q", "--ultra", "-22", "--long=27"), "SQL, zstd"},
		"xz":                  {stock(t, dump, "xz"), "SQL, xz"},
		"xz of streams":       {append(stock(t, dump[:1000], "xz"), stock(t, dump[1000:], "xz", "-9")...), "SQL, xz"},
		"bzip2":               {stock(t, dump, "bzip2"), "SQL, bzip2"},
		"bzip2 of streams":    {append(stock(t, dump[:1000], "bzip2"), stock(t, dump[1000:], "bzip2")...), "SQL, bzip2"},
		"age":                 {stock(t, dump, "age", "-r", recipient), "SQL, age"},
		"gzip in age":         {stock(t, gz, "age", "-r", recipient), "SQL, gzip, age"},
		"gzip in age in zstd": {stock(t, stock(t, gz, "age", "-r", recipient), "zstd", "-q"), "SQL, gzip, age, zstd"},
		"gzip twice":          {stock(t, gz, "gzip"), "SQL, gzip, gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			f, content, err := read(t, file(t, c.data), foreign.Options{Identities: identities})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content, dump) {
				t.Errorf("%d bytes came out, %d went in", len(content), len(dump))
			}
			if f.String() != c.want {
				t.Errorf("recognised as %s, want %s", f, c.want)
			}
			want := foreign.Sums{Size: int64(len(c.data)), SHA256: sum(c.data), PlainSize: int64(len(dump)), PlainSHA256: sum(dump)}
			if sums, read := f.Sums(); !read || sums != want {
				t.Errorf("sums %v, want %v", sums, want)
			}
			again, err := f.Reader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if second, err := io.ReadAll(again); err != nil || !bytes.Equal(second, dump) {
				t.Errorf("the second reading gave %d bytes, error %v", len(second), err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCut takes bytes off the end of every kind of layer: nothing may pass for whole.
func TestCut(t *testing.T) {
	secret, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	small := dump[:3000]
	for name, whole := range map[string][]byte{
		"gzip": stock(t, small, "gzip"), "zstd": stock(t, small, "zstd", "-q"), "xz": stock(t, small, "xz"),
		"bzip2": stock(t, small, "bzip2"), "age": stock(t, small, "age", "-r", recipient),
		"gzip of members": append(stock(t, small[:1000], "gzip"), stock(t, small[1000:], "gzip")...),
		"xz of streams":   append(stock(t, small[:1000], "xz"), stock(t, small[1000:], "xz")...),
	} {
		t.Run(name, func(t *testing.T) {
			// Two whole pieces cut between them are one whole piece: nobody can tell.
			between := 0
			if name == "gzip of members" {
				between = len(stock(t, small[:1000], "gzip"))
			} else if name == "xz of streams" {
				between = len(stock(t, small[:1000], "xz"))
			}
			step := 1
			if name == "age" { // opening each costs a key exchange
				step = 37
			}
			for n := len(whole) - 1; n >= 30; n -= step {
				f, content, err := read(t, file(t, whole[:n]), foreign.Options{Identities: identities})
				if n == between {
					continue
				}
				if err == nil {
					t.Fatalf("cut to %d of %d bytes: %d bytes of %s came out without an error", n, len(whole), len(content), f)
				}
				if !errors.Is(err, holdfast.ErrDifference) {
					t.Fatalf("cut to %d of %d bytes: %v is not damage", n, len(whole), err)
				}
			}
		})
	}
}

func TestDamage(t *testing.T) {
	gz := stock(t, dump, "gzip")
	flipped := bytes.Clone(gz)
	flipped[len(flipped)/2] ^= 0x10
	crc := bytes.Clone(gz)
	crc[len(crc)-6] ^= 1
	for name, c := range map[string]struct {
		data []byte
		want string
		hint string
	}{
		"garbage behind gzip":  {append(bytes.Clone(gz), "something"...), "the gzip layer: there is something else behind its end", "unpack it by hand with gzip"},
		"garbage behind zeros": {append(append(bytes.Clone(gz), make([]byte, 512)...), 'x'), "there is something else behind its end", "gzip"},
		"garbage behind zstd":  {append(stock(t, dump, "zstd", "-q"), "something"...), "the zstd layer: there is something else behind its end", "zstd"},
		"garbage behind xz":    {append(stock(t, dump, "xz"), dump[:100]...), "the xz layer is damaged", ""},
		"garbage behind bzip2": {append(stock(t, dump, "bzip2"), "something"...), "the bzip2 layer is damaged", ""},
		"a flipped bit":        {flipped, "the gzip layer ", "another copy"},
		"a wrong checksum":     {crc, "the gzip layer ", "another copy"},
		"half":                 {gz[:len(gz)/2], "the gzip layer ends too early: it was cut short", "not copied to its end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(t, file(t, c.data), foreign.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(holdfast.Hint(err), c.hint) || !errors.Is(err, holdfast.ErrDifference) {
				t.Errorf("error %v, hint %q, want %q and %q", err, holdfast.Hint(err), c.want, c.hint)
			}
			if err != nil && strings.Contains(err.Error(), "difference") {
				t.Errorf("nothing was compared, and the error says %q", err)
			}
		})
	}
}

func TestContents(t *testing.T) {
	tarball := stock(t, nil, "tar", "-C", "testdata", "-c", ".")
	for name, c := range map[string]struct {
		data string
		want string
	}{
		"nothing":                            {"", "empty"},
		"nothing in gzip":                    {string(stock(t, nil, "gzip")), "empty, gzip"},
		"an archive":                         {"PGDMP\x01\x0e\x00", "pg_dump -Fc"},
		"an image":                           {"SQLite format 3\x00....", "SQLite image"},
		"a tar":                              {string(tarball), "tar"},
		"a tar in gzip":                      {string(stock(t, tarball, "gzip")), "tar, gzip"},
		"SQL by its header":                  {"--\n-- PostgreSQL database dump\n--\n", "SQL"},
		"SQL of psql":                        {"\\restrict abc\n\nset x = 1;\n", "SQL"},
		"SQL with comments":                  {"/* made\nby hand */ -- so\n  create table t ();", "SQL"},
		"SQL with a mark":                    {"\xef\xbb\xbfBEGIN;", "SQL"},
		"SQL in one line":                    {"create table t (a text);insert into t values (1)", "SQL"},
		"a header with a mark":               {"\xef\xbb\xbf--\n-- PostgreSQL database dump\n--\n", "SQL"},
		"one long INSERT":                    {"INSERT INTO t VALUES (1)" + strings.Repeat(",\n(1)", 20_000) + ";\n", "SQL"},
		"one long statement behind a header": {"--\n-- PostgreSQL database dump\n--\nCOMMENT ON DATABASE x IS '" + strings.Repeat("x", 100_000) + "';\n", "SQL"},
		"a statement and a command":          {"SELECT 1; \\echo\n", "SQL"},
		"SQL of Windows":                     {"SET x = 1;\r\nSELECT 1", "SQL"},
		"SQL with a remark":                  {"WITH a AS (SELECT 1) SELECT * FROM a; -- so\n", "SQL"},
		"a letter":                           {"With best regards\nyour host; see you.\n", "unknown"},
		"an order":                           {"Start the server, then wait.\n", "unknown"},
		"an order, to its end":               {"Start the server;\nthen wait.\n", "unknown"},
		"a long letter":                      {"With best regards" + strings.Repeat(" and so on", 10_000), "unknown"},
		"a long statement":                   {"WITH a(x) AS (VALUES (0)" + strings.Repeat(",(1)", 20_000) + ") SELECT * INTO t FROM a", "SQL"},
		"a long remark":                      {"COMMENT ON TABLE t IS '" + strings.Repeat("so on ", 20_000) + "'", "SQL"},
		"a script of a shell":                {"set -eu\ncase $1 in\na) exit;;\nesac\n", "unknown"},
		"a script of a browser":              {"import x from 'y';\n", "unknown"},
		"a word alone":                       {"SELECT", "unknown"},
		"a configuration":                    {"server {\n listen 80;\n}\n", "unknown"},
		"a zip":                              {"PK\x03\x04....", "unknown"},
		"MySQL":                              {"-- MySQL dump 10.13  Distrib 8.0.36\n--\nCREATE TABLE t (a int);\n", "unknown"},
		"MariaDB":                            {"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\nCREATE TABLE t (a int);\n", "unknown"},
		"random bytes":                       {"\x03\x9f\x00\xee\x12", "unknown"},
		"UTF-16":                             {"\xff\xfeS\x00E\x00T\x00", "unknown"},
		"a word of a program":                {"settings = {}\n", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := foreign.Open(t.Context(), file(t, []byte(c.data)), foreign.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if f.String() != c.want {
				t.Errorf("recognised as %s (%s), want %s", f, f.Remark, c.want)
			}
			if strings.HasPrefix(name, "M") && f.Remark != "a dump of "+name {
				t.Errorf("the remark is %q", f.Remark)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBomb(t *testing.T) {
	zeros := exec.Command("sh", "-c", "head -c 300000000 /dev/zero | zstd -q -1")
	data, err := zeros.Output()
	if err != nil {
		t.Fatal(err)
	}
	data = append(stock(t, dump[:100], "zstd", "-q"), data...)
	path := file(t, data)
	drain := func(opt foreign.Options) error {
		f, err := foreign.Open(t.Context(), path, opt)
		if err != nil {
			return err
		}
		r, err := f.Reader(t.Context())
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	}
	if err := drain(foreign.Options{}); err == nil || !strings.Contains(err.Error(), "this is a bomb") || !strings.Contains(holdfast.Hint(err), "--trust") {
		t.Errorf("a bomb: %v", err)
	}
	if err := drain(foreign.Options{Trust: true}); err != nil {
		t.Errorf("a bomb that is trusted: %v", err)
	}
	deep := []byte("SELECT 1;")
	for range 9 {
		deep = stock(t, deep, "gzip")
	}
	if _, _, err := read(t, file(t, deep), foreign.Options{}); err == nil || !strings.Contains(err.Error(), "more than 8 layers") {
		t.Errorf("nine layers: %v", err)
	}
}

func TestMemoryThatAFileAsksFor(t *testing.T) {
	for name, data := range map[string][]byte{
		"zstd": stock(t, dump, "zstd", "-q", "--ultra", "-22", "--long=31", "--no-progress"),
		"xz":   stock(t, dump, "xz", "--lzma2=preset=1,dict=256MiB"),
	} {
		if name == "zstd" {
			// A window is as large as what was known to come, unless it came through a pipe.
			data = stock(t, dump, "zstd", "-q", "--long=31", "-c", "-")
		}
		_, _, err := read(t, file(t, data), foreign.Options{})
		if !errors.Is(err, holdfast.ErrCannotTest) || !strings.Contains(err.Error(), "the "+name+" layer needs more than 128 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangeBetweenReadings(t *testing.T) {
	path := file(t, dump)
	f, _, err := read(t, path, foreign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(dump)
	other[5000] ^= 1
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := f.Reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "it changed while it was read") {
		t.Errorf("another content: %v", err)
	}
	if err := os.WriteFile(path, stock(t, dump, "gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Reader(t.Context()); err == nil || !strings.Contains(err.Error(), "it changed while it was read") {
		t.Errorf("another layer: %v", err)
	}
}

func TestNoIdentity(t *testing.T) {
	_, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, stock(t, dump, "age", "-r", recipient))
	if _, err := foreign.Open(t.Context(), path, foreign.Options{}); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("without an identity: %v", err)
	}
	f, err := foreign.Recognise(t.Context(), path)
	if err != nil || f.String() != "age" || f.Content != foreign.Sealed || !f.Sealed() {
		t.Errorf("recognised as %v, error %v", f, err)
	}
}

func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	f, err := foreign.Open(ctx, file(t, stock(t, dump, "gzip")), foreign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Reader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel(holdfast.ErrInterrupted)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, holdfast.ErrInterrupted) || errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("interrupted: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoFile(t *testing.T) {
	if _, err := foreign.Open(t.Context(), filepath.Join(t.TempDir(), "none"), foreign.Options{}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := foreign.Open(t.Context(), t.TempDir(), foreign.Options{}); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "not one of pg_dump -Fd") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := foreign.Open(t.Context(), "/dev/null", foreign.Options{}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a device: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("--\n-- PostgreSQL database dump\n--\n"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51"))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x00\x00\x00\x00\x1c\xdf\x44\x21\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04YZ"))
	f.Add([]byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"))
	path := filepath.Join(f.TempDir(), "x")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		opened, content, err := read(t, path, foreign.Options{})
		if err != nil {
			return
		}
		sums, whole := opened.Sums()
		if !whole || sums.PlainSize != int64(len(content)) || sums.PlainSHA256 != sum(content) || sums.SHA256 != sum(data) {
			t.Errorf("%s: sums %v of %d bytes", opened, sums, len(content))
		}
	})
}
