package files_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

// watch captures dir with a hook on small files.
func watch(t *testing.T, dir string, hook func(member string)) kept {
	t.Helper()
	s := files.New(files.Options{Name: "app", Roots: roots(dir)})
	s.Watch(hook)
	var k kept
	c, err := s.Capture(t.Context(), func(e holdfast.Event) { k.warnings = append(k.warnings, e.Message) })
	check(t, err)
	r, err := c.Items()[0].Open(t.Context())
	check(t, err)
	k.tar, err = io.ReadAll(r)
	check(t, errors.Join(err, r.Close()))
	k.facts, err = c.Facts(t.Context())
	check(t, err)
	return k
}

func TestSmallFileThatChanges(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/file"
	for name, test := range map[string]struct {
		changes int
		marked  bool
	}{
		"once":   {1, false},
		"always": {1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, "v0")
			calls := 0
			k := watch(t, dir, func(string) {
				if calls++; calls <= test.changes {
					write(t, path, fmt.Sprintf("v%d%s", calls, strings.Repeat("+", calls)))
				}
			})
			f := fact(t, k.facts, member(path))
			if got := strings.HasSuffix(f.Text, " (changed while read)"); got != test.marked {
				t.Errorf("text %q", f.Text)
			}
			if got := len(k.facts.Notes) == 1 && len(k.warnings) == 1; got != test.marked {
				t.Errorf("notes %q, warnings %q", k.facts.Notes, k.warnings)
			}
			if !test.marked && !bytes.Contains(k.tar, []byte("v1+")) {
				t.Error("the file was not read again")
			}
			mustMatch(t, throwaway(t, k.stored()), k)
		})
	}
}

func TestLargeFileThatChanges(t *testing.T) {
	const size = 6 << 20
	for name, change := range map[string]func(path string) error{
		"grows":        func(path string) error { return os.Truncate(path, 2*size) },
		"shrinks":      func(path string) error { return os.Truncate(path, 5<<20+100) },
		"is rewritten": func(path string) error { return os.WriteFile(path, make([]byte, size), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/file"
			write(t, path, strings.Repeat("x", size))
			write(t, dir+"/next", "after")
			c, err := files.New(files.Options{Name: "app", Roots: roots(dir)}).Capture(t.Context(), nil)
			check(t, err)
			r, err := c.Items()[0].Open(t.Context())
			check(t, err)
			var content bytes.Buffer
			_, err = io.CopyN(&content, r, 1<<20)
			check(t, err)
			check(t, change(path))
			_, err = io.Copy(&content, r)
			check(t, errors.Join(err, r.Close()))
			facts, err := c.Facts(t.Context())
			check(t, err)
			f := fact(t, facts, member(path))
			if f.Bytes != size || !strings.HasSuffix(f.Text, "(changed while read)") || len(facts.Notes) != 1 {
				t.Errorf("fact %+v, notes %q", f, facts.Notes)
			}
			k := kept{tar: content.Bytes(), facts: facts}
			mustMatch(t, throwaway(t, k.stored()), k)
		})
	}
}

// many fills dir so that a walk has not looked at its last files when its first byte is read.
func many(t *testing.T, dir string) {
	t.Helper()
	for i := range 1000 {
		write(t, fmt.Sprintf("%s/m%04d", dir, i), "content")
	}
}

func TestFileThatVanishes(t *testing.T) {
	dir := t.TempDir()
	many(t, dir)
	write(t, dir+"/z/inner", "x")
	k, err := take(t, files.Options{Roots: roots(dir)}, func() {
		check(t, os.Remove(dir+"/m0900"))
		check(t, os.RemoveAll(dir+"/z"))
	})
	check(t, err)
	notes := strings.Join(k.facts.Notes, "\n")
	for _, name := range []string{"m0900", "z"} {
		if !strings.Contains(notes, member(dir)+"/"+name+" vanished") {
			t.Errorf("notes %q do not tell of %s", notes, name)
		}
	}
	mustMatch(t, throwaway(t, k.stored()), k)
}

func TestRootThatVanishes(t *testing.T) {
	dir := t.TempDir()
	many(t, dir+"/first")
	write(t, dir+"/second", "x")
	_, err := take(t, files.Options{Roots: roots(dir+"/first", dir+"/second")}, func() { check(t, os.Remove(dir+"/second")) })
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestHardLinkWhoseFirstNameVanishes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "replaced")
	write(t, dir+"/b", "content of two names")
	check(t, os.Link(dir+"/b", dir+"/c"))
	replaced := false
	k := watch(t, dir, func(name string) {
		if name == member(dir)+"/b" && !replaced {
			replaced = true
			check(t, os.Rename(dir+"/a", dir+"/b"))
			write(t, dir+"/d", "so that the name is read again")
			check(t, os.WriteFile(dir+"/c", []byte("content of one name, changed"), 0o644))
		}
	})
	mustMatch(t, throwaway(t, k.stored()), k)
	if !bytes.Contains(k.tar, []byte("content of one name, changed")) || !bytes.Contains(k.tar, []byte("replaced")) {
		t.Error("a name took the content of another file")
	}
}

func TestFolderReplacedByLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	many(t, dir)
	write(t, dir+"/z/inner", "x")
	write(t, outside+"/inner", "must not be read")
	k, err := take(t, files.Options{Roots: roots(dir)}, func() {
		check(t, os.RemoveAll(dir+"/z"))
		check(t, os.Symlink(outside, dir+"/z"))
		check(t, os.Remove(dir+"/m0950"))
		check(t, os.Symlink(outside+"/inner", dir+"/m0950"))
	})
	check(t, err)
	if bytes.Contains(k.tar, []byte("must not be read")) {
		t.Error("a link led out of the root")
	}
}

func TestExcludes(t *testing.T) {
	for _, test := range []struct {
		patterns string
		rel      string
		folder   bool
		want     bool
	}{
		{"*.tmp", "a/b/c.tmp", false, true},
		{"*.tmp", "a/b.tmp/c", false, false}, // the folder is left out, and with it c
		{"core", "core", false, true},
		{"core", "a/core", true, true},
		{"core", "a/score", false, false},
		{"/core", "core", false, true},
		{"/core", "a/core", false, false},
		{"a/tmp", "a/tmp", true, true},
		{"a/tmp", "b/a/tmp", true, false},
		{"tmp/", "x/tmp", true, true},
		{"tmp/", "x/tmp", false, false},
		{"/x/tmp/", "x/tmp", true, true},
		{"**/tmp/*.sock", "tmp/a.sock", false, true},
		{"**/tmp/*.sock", "x/y/tmp/a.sock", false, true},
		{"**/tmp/*.sock", "x/y/tmp/z/a.sock", false, false},
		{"a/**/z", "a/z", false, true},
		{"a/**/z", "a/b/c/z", false, true},
		{"a/**/z", "b/z", false, false},
		{"a/**", "a/b", false, true},
		{"a/**", "a", true, false},
		{"*", ".hidden", false, true},
		{"[ab]?", "x/b1", false, true},
		{`\!x`, "!x", false, true},
		{`\*`, "*", false, true},
		{`\*`, "a", false, false},
		{"caf\xe9", "caf\xe9", false, true},
		{"preset:node_modules", "app/node_modules", true, true},
		{"preset:node_modules", "app/node_modules", false, false},
		{"preset:logs", "a/app.log", false, true},
		{"preset:logs", "a/app.log.2.gz", false, true},
		{"preset:logs", "a/catalog", false, false},
		{"preset:logs", "a/logs", true, true},
		{"preset:caches", "home/.npm/_cacache", true, true},
		{"preset:caches", ".cache", true, true},
	} {
		e, err := files.ParseExcludes([]string{"never-matches", test.patterns})
		check(t, err)
		if got := e.Left(test.rel, test.folder); (got != "") != test.want || test.want && got != test.patterns {
			t.Errorf("%q on %q (folder: %v): %q", test.patterns, test.rel, test.folder, got)
		}
	}
	for _, bad := range []string{"", "/", "!keep", "[a", "a//b", "../x", "a/./b", "**", "preset:nothing", "preset:"} {
		if _, err := files.ParseExcludes([]string{bad}); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/keep", "x")
	write(t, dir+"/node_modules/m/index.js", "x")
	write(t, dir+"/tagged/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
	write(t, dir+"/tagged/blob", "x")
	write(t, dir+"/liar/CACHEDIR.TAG", "Signature: none")
	write(t, dir+"/liar/blob", "x")
	check(t, os.Mkdir(dir+"/mounted", 0o755))
	check(t, unix.Mount("none", dir+"/mounted", "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { check(t, unix.Unmount(dir+"/mounted", 0)) })
	write(t, dir+"/mounted/inner", "x")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(socket)
	check(t, unix.Bind(socket, &unix.SockaddrUnix{Name: dir + "/socket"}))

	k := mustTake(t, files.Options{
		Roots: roots(dir), Excludes: []string{"preset:node_modules", "preset:caches"}, OneFilesystem: true,
	})
	base := member(dir)
	want := []string{"", "/keep", "/liar", "/liar/CACHEDIR.TAG", "/liar/blob", "/mounted", "/tagged", "/tagged/CACHEDIR.TAG"}
	for i := range want {
		want[i] = base + want[i]
	}
	if got := factNames(k.facts.Facts); got != strings.Join(want, "\n") {
		t.Errorf("stored\n%s", got)
	}
	if got := fmt.Sprintf("%q", k.facts.Exclusions); got != `["preset:node_modules" "preset:caches" "other file systems"]` {
		t.Errorf("exclusions %s", got)
	}
	notes := strings.Join(k.facts.Notes, "\n")
	for _, want := range []string{base + "/mounted is the mount point", "socket " + base + "/socket is not stored"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q lack %q", notes, want)
		}
	}
	mustMatch(t, throwaway(t, k.stored()), k)
	all := mustTake(t, files.Options{Roots: roots(dir)})
	fact(t, all.facts, base+"/mounted/inner")
	fact(t, all.facts, base+"/tagged/blob")
}

func TestDiagnose(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.log", "x")
	for name, test := range map[string]struct {
		opt  files.Options
		want string
	}{
		"fine":          {files.Options{Roots: roots(dir)}, "fine: 1 files of 1 bytes can be read"},
		"used pattern":  {files.Options{Roots: roots(dir), Excludes: []string{"*.log"}}, "fine: 0 files of 0 bytes can be read"},
		"vain pattern":  {files.Options{Roots: roots(dir), Excludes: []string{"x/y"}}, `warns: exclude pattern "x/y" matches nothing`},
		"vain preset":   {files.Options{Roots: roots(dir), Excludes: []string{"preset:node_modules"}}, "fine: "},
		"bad pattern":   {files.Options{Roots: roots(dir), Excludes: []string{"[a"}}, `fails: bad usage: exclude pattern "[a"`},
		"optional root": {files.Options{Roots: []files.Root{{Path: dir}, {Path: "/no/such", Optional: true}}}, "warns: optional root /no/such"},
	} {
		t.Run(name, func(t *testing.T) {
			findings, err := files.New(test.opt).Diagnose(t.Context())
			check(t, err)
			if got := fmt.Sprintf("%s: %s", findings[0].Severity, findings[0].Message); !strings.HasPrefix(got, test.want) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	sparse(t, dir+"/large", 300<<20, map[int64]string{5: "x"})
	block := strings.Repeat("small", 800_000)
	for i := range 30 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), block)
	}
	check(t, os.WriteFile(dir+"/dense", make([]byte, 300<<20), 0o600))
	c, err := files.New(files.Options{Name: "app", Roots: roots(dir)}).Capture(t.Context(), nil)
	check(t, err)
	r, err := c.Items()[0].Open(t.Context())
	check(t, err)
	runtime.GC()
	part := make([]byte, 1<<20)
	var peak uint64
	for count := 0; ; count++ {
		_, err := io.ReadFull(r, part)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		check(t, err)
		if count%16 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
	}
	check(t, r.Close())
	if peak > 110<<20 {
		t.Errorf("the heap grew to %d MiB", peak>>20)
	}
}

func TestTwoReadersOfOneCapture(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "x")
	c, err := files.New(files.Options{Name: "app", Roots: roots(dir)}).Capture(t.Context(), nil)
	check(t, err)
	first, err := c.Items()[0].Open(t.Context())
	check(t, err)
	second, err := c.Items()[0].Open(t.Context())
	check(t, err)
	a, err := io.ReadAll(first)
	check(t, err)
	b, err := io.ReadAll(second)
	check(t, err)
	if !bytes.Equal(a, b) {
		t.Error("two readings of the same files differ")
	}
	check(t, first.Close())
	check(t, second.Close())
	facts, err := c.Facts(t.Context())
	check(t, err)
	if d := source.Compare(facts.Facts, facts.Facts); len(d) > 0 {
		t.Error(d)
	}
	check(t, c.Close())
	if _, err := c.Items()[0].Open(t.Context()); err == nil {
		t.Error("a closed capture was read")
	}
}

func TestAbandonedReaderLetsGo(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		write(t, fmt.Sprintf("%s/d%d/large", dir, i), strings.Repeat("x", 5<<20))
		write(t, fmt.Sprintf("%s/d%d/small", dir, i), "x")
	}
	descriptors := func() int {
		found, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(found)
	}
	c, err := files.New(files.Options{Name: "app", Roots: roots(dir)}).Capture(t.Context(), nil)
	check(t, err)
	before, running := descriptors(), runtime.NumGoroutine()
	for _, size := range []int64{0, 1, 3 << 20, 6 << 20, 100 << 20} {
		r, err := c.Items()[0].Open(t.Context())
		check(t, err)
		_, err = io.CopyN(io.Discard, r, size)
		check(t, err)
		if err := r.Close(); err == nil {
			t.Errorf("closed after %d bytes and called itself whole", size)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read after close: %v", err)
		}
		if after := descriptors(); after != before {
			t.Errorf("%d descriptors became %d after %d bytes", before, after, size)
		}
		// A goroutine that has been waited for may still be on its last steps.
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > running; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines became %d after %d bytes", running, runtime.NumGoroutine(), size)
			}
		}
	}
}
