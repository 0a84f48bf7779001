package files_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

// kept is a backup in memory.
type kept struct {
	tar      []byte
	facts    source.Facts
	warnings []string
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
}

// take captures opt, calling between after the first byte was read.
func take(t testing.TB, opt files.Options, between func()) (kept, error) {
	t.Helper()
	if opt.Name == "" {
		opt.Name = "app"
	}
	var k kept
	c, err := files.New(opt).Capture(t.Context(), func(e holdfast.Event) { k.warnings = append(k.warnings, e.Message) })
	if err != nil {
		return k, err
	}
	defer c.Close()
	r, err := c.Items()[0].Open(t.Context())
	check(t, err)
	var content bytes.Buffer
	if between != nil {
		if _, err := io.CopyN(&content, r, 1); err != nil {
			return k, errors.Join(err, r.Close())
		}
		between()
	}
	_, err = io.Copy(&content, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return k, err
	}
	k.tar = content.Bytes()
	k.facts, err = c.Facts(t.Context())
	check(t, err)
	return k, nil
}

func mustTake(t testing.TB, opt files.Options) kept {
	t.Helper()
	k, err := take(t, opt, nil)
	check(t, err)
	return k
}

func (k kept) stored() source.Stored {
	return source.Stored{
		Source: "app", Kind: holdfast.KindFiles, Facts: k.facts,
		Items: []source.StoredItem{{Name: "app.tar", Size: int64(len(k.tar)), Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(k.tar)), nil
		}}},
	}
}

func open(t testing.TB, target files.Target) *files.Place {
	t.Helper()
	p, err := files.Open(t.Context(), target)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close()) })
	return p
}

func throwaway(t testing.TB, stored source.Stored) *files.Place {
	t.Helper()
	p, err := files.Throwaway(t.Context(), t.TempDir(), stored)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close()) })
	return p
}

// mustMatch restores k into p and compares.
func mustMatch(t testing.TB, p *files.Place, k kept) source.Facts {
	t.Helper()
	check(t, p.Restore(t.Context(), k.stored()))
	restored, err := p.Check(t.Context())
	check(t, err)
	for _, d := range source.Compare(p.Selected(k.facts.Facts), restored.Facts) {
		t.Error(d)
	}
	return restored
}

func fact(t testing.TB, facts source.Facts, name string) source.Fact {
	t.Helper()
	for _, f := range facts.Facts {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no fact %q", name)
	return source.Fact{}
}

func factNames(facts []source.Fact) string {
	var names []string
	for _, f := range facts {
		names = append(names, f.Name)
	}
	return strings.Join(names, "\n")
}

func write(t testing.TB, path, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o644))
}

func member(path string) string { return strings.TrimPrefix(path, "/") }

func roots(paths ...string) []files.Root {
	var all []files.Root
	for _, path := range paths {
		all = append(all, files.Root{Path: path})
	}
	return all
}

func setXattr(t testing.TB, path, name, value string) {
	t.Helper()
	if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
		t.Fatalf("set %s on %s: %v", name, path, err)
	}
}

func run(t testing.TB, input []byte, name string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Stdin = bytes.NewReader(input)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, arguments, err, output)
	}
	return string(output)
}

// zoo fills dir with one of everything.
func zoo(t testing.TB, dir string) {
	t.Helper()
	at := func(name string) string { return dir + "/" + name }
	write(t, at("plain.txt"), "hello\n")
	write(t, at("empty"), "")
	check(t, os.MkdirAll(at("hollow/inner"), 0o755))
	write(t, at("locked/key"), "secret")
	check(t, os.Chmod(at("locked/key"), 0o400))
	check(t, os.Chmod(at("locked"), 0o500))
	write(t, at("suid"), "#!")
	check(t, os.Chown(at("suid"), 1, 65534))
	check(t, unix.Chmod(at("suid"), 0o6755))
	write(t, at("nobody"), "x")
	check(t, os.Chown(at("nobody"), 4_000_000, 3_000_000))
	write(t, at("names/line\nbreak"), "1")
	write(t, at("names/\xff\xfebytes"), "2")
	write(t, at(`names/"quoted`), "3")
	write(t, at("names/ünïcödé"), "4")
	write(t, at("names/-dash *"), "5")
	write(t, at("names/"+strings.Repeat("n", 255)), "6")
	deep := at("deep/" + strings.Repeat(strings.Repeat("d", 60)+"/", 8))
	write(t, deep+strings.Repeat("f", 120), "7")
	write(t, at("links/one"), "linked")
	check(t, os.Link(at("links/one"), at("links/two")))
	check(t, os.Link(at("links/one"), at("hard")))
	check(t, os.Symlink("one", at("links/soft")))
	check(t, os.Symlink("/nowhere/"+strings.Repeat("t", 150), at("links/dangling")))
	check(t, os.Symlink("../..", at("links/up")))
	check(t, unix.Mkfifo(at("fifo"), 0o620))
	check(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(at("loop"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))))
	write(t, at("xattrs"), "x")
	setXattr(t, at("xattrs"), "user.binary", "a\x00b\nc=\xff")
	setXattr(t, at("xattrs"), "user.odd=%name", "v")
	setXattr(t, at("xattrs"), "user.empty", "")
	setXattr(t, at("xattrs"), "user.long", strings.Repeat("L", 2000))
	setXattr(t, at("hollow"), "user.folder", "yes")
	setXattr(t, at("links/soft"), "trusted.link", "yes")
	write(t, at("acl"), "x")
	run(t, nil, "setfacl", "-m", "u:1:rw,g:65534:r", at("acl"))
	run(t, nil, "setfacl", "-m", "u:1:rwx", "-m", "d:g:65534:rx", at("hollow/inner"))
	sparse(t, at("sparse"), 3<<20, map[int64]string{4096 * 7: "data", 2 << 20: strings.Repeat("x", 9000)})
	sparse(t, at("holes only"), 1<<20, nil)
	sparse(t, at("tail"), 1<<20, map[int64]string{1<<20 - 5: "tail!"})
	sparse(t, at("large sparse"), 64<<20, map[int64]string{0: "head", 30<<20 + 17: "middle", 64<<20 - 3: "end"})
	write(t, at("large"), strings.Repeat("0123456789abcde\n", 400_001)+"odd")
	times := map[string]time.Time{
		"plain.txt": time.Unix(1_000_000_000, 123_456_789),
		"empty":     time.Unix(-1_000, 500_000_000),
		"fifo":      time.Unix(1<<33+5, 1),
		"hollow":    time.Unix(1_700_000_000, 999_999_999),
		"names":     time.Unix(0, 0),
	}
	for name, at2 := range times {
		check(t, os.Chtimes(at(name), at2, at2))
	}
	stamp := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1_234_567_890, Nsec: 42}}
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("links/soft"), stamp, unix.AT_SYMLINK_NOFOLLOW))
	check(t, os.Chtimes(dir, time.Unix(1_600_000_000, 7), time.Unix(1_600_000_000, 7)))
}

func sparse(t testing.TB, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(size))
	for at, content := range data {
		_, err := f.WriteAt([]byte(content), at)
		check(t, err)
	}
	check(t, f.Sync())
}

func blocks(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Lstat(path)
	check(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks
}
