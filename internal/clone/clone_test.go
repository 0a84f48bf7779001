package clone_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/clone"
	"holdfast/internal/testbed"
)

func TestCopyEverything(t *testing.T) {
	asRoot(t)
	from, to := folders(t)
	furnish(t, from)
	must(t, os.Remove(to))
	listener, err := net.Listen("unix", from+"/base/socket")
	must(t, err)
	defer listener.Close()
	stamp(t, from+"/base", -5, 4)

	ledger, first := copyTree(t, from, to, nil, vouching)
	if first.Copied != 7 || first.Files != 9 || first.Hashed != 0 || first.Skipped != 0 || first.Removed != 0 || len(first.Changed) > 0 || !slices.Equal(first.Sockets, []string{"base/socket"}) {
		t.Errorf("the first pass: %+v", first)
	}
	if ledger.Files() != 7 {
		t.Errorf("%d files are vouched for", ledger.Files())
	}
	if n := blocks(t, to+"/base/sparse"); n > 64 || n == 0 {
		t.Errorf("a file of 13 bytes and holes has %d blocks", n)
	}
	must(t, listener.Close())
	stamp(t, from+"/base", -5, 4)
	same(t, from, to)

	still := vouching
	still.Still = true
	ledger, second := copyTree(t, from, to, ledger, still)
	if second.Skipped != 7 || second.Copied != 0 || second.Hashed != 0 || second.Removed != 0 {
		t.Errorf("the second pass: %+v", second)
	}
	same(t, from, to)

	// Everything is taken back: what has no ACL, no attribute, no link, no owner any more.
	run(t, "setfacl", "-R", "-b", from)
	must(t, unix.Removexattr(from+"/PG_VERSION", "user.note"))
	must(t, unix.Removexattr(from+"/suid", "security.capability"))
	must(t, os.Remove(from+"/zz"))
	write(t, from+"/zz", "15\n")
	must(t, os.Remove(from+"/base/tablespace"))
	must(t, os.Mkdir(from+"/base/tablespace", 0o710))
	must(t, os.RemoveAll(from+"/pg_twophase"))
	must(t, os.Symlink("base", from+"/pg_twophase"))
	must(t, os.Remove(from+"/fifo"))
	must(t, os.Remove(from+"/base/link"))
	must(t, os.Symlink("elsewhere", from+"/base/link"))
	must(t, os.Chown(from+"/base", 1, 1))
	must(t, os.Chmod(from+"/closed", 0o500))
	_, third := copyTree(t, from, to, ledger, still)
	same(t, from, to)
	if third.Removed != 1 || third.Skipped == 0 {
		t.Errorf("the third pass: %+v", third)
	}
}

// Each of these is done to either side between two passes.
func TestSecondPass(t *testing.T) {
	asRoot(t)
	type counts struct{ copied, hashed, skipped, removed int64 }
	for _, test := range []struct {
		name   string
		change func(t *testing.T, from, to string)
		want   counts
	}{
		{"nothing", func(*testing.T, string, string) {}, counts{skipped: 3}},
		{"grown", func(t *testing.T, from, _ string) { write(t, from+"/a", "aaaa and more") }, counts{copied: 1, skipped: 2}},
		{"truncated", func(t *testing.T, from, _ string) { must(t, os.Truncate(from+"/a", 1)) }, counts{copied: 1, skipped: 2}},
		{"replaced", func(t *testing.T, from, _ string) {
			write(t, from+"/new", "bbbb")
			must(t, os.Rename(from+"/new", from+"/a"))
		}, counts{copied: 1, skipped: 2}},
		{"replaced by the same, with the same time", func(t *testing.T, from, _ string) {
			write(t, from+"/new", "aaaa")
			stamp(t, from+"/new", 1_000_000_000, 1)
			must(t, os.Rename(from+"/new", from+"/a"))
		}, counts{hashed: 1, skipped: 2}},
		// Only ctime gives it away.
		{"other bytes, same size and time", func(t *testing.T, from, _ string) {
			write(t, from+"/a", "aaab")
			stamp(t, from+"/a", 1_000_000_000, 1)
		}, counts{copied: 1, skipped: 2}},
		{"other mode", func(t *testing.T, from, _ string) { must(t, os.Chmod(from+"/a", 0o444)) }, counts{hashed: 1, skipped: 2}},
		{"touched", func(t *testing.T, from, _ string) { stamp(t, from+"/a", 1_000_000_000, 2) }, counts{copied: 1, skipped: 2}},
		{"gone", func(t *testing.T, from, _ string) { must(t, os.Remove(from+"/a")) }, counts{skipped: 2, removed: 1}},
		{"renamed", func(t *testing.T, from, _ string) { must(t, os.Rename(from+"/a", from+"/d/x")) }, counts{copied: 1, skipped: 2, removed: 1}},
		{"a folder now", func(t *testing.T, from, _ string) {
			must(t, os.Remove(from+"/a"))
			must(t, os.Mkdir(from+"/a", 0o700))
			write(t, from+"/a/a", "in it")
		}, counts{copied: 1, skipped: 2}},
		{"a file now", func(t *testing.T, from, _ string) {
			must(t, os.RemoveAll(from+"/d"))
			write(t, from+"/d", "file")
		}, counts{copied: 1, skipped: 2, removed: 1}},
		{"linked", func(t *testing.T, from, _ string) { must(t, os.Link(from+"/a", from+"/d/a")) }, counts{hashed: 1, skipped: 2}},
		{"a link of another file", func(t *testing.T, from, _ string) {
			must(t, os.Remove(from+"/a"))
			must(t, os.Link(from+"/b", from+"/a"))
		}, counts{copied: 1, skipped: 1}},
		{"only in the copy", func(t *testing.T, _, to string) {
			must(t, os.MkdirAll(to+"/x/y/z", 0o700))
			write(t, to+"/x/y/z/w", "w")
			must(t, unix.Mkfifo(to+"/x/fifo", 0o600))
			must(t, unix.Mknod(to+"/x/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		}, counts{skipped: 3, removed: 6}},
		{"the copy is gone", func(t *testing.T, _, to string) { must(t, os.RemoveAll(to+"/d")) }, counts{copied: 1, skipped: 2}},
		{"the copy touched", func(t *testing.T, _, to string) { must(t, os.Chmod(to+"/a", 0o777)) }, counts{hashed: 1, skipped: 2}},
		{"the copy is linked to another", func(t *testing.T, _, to string) {
			must(t, os.Remove(to+"/b"))
			must(t, os.Link(to+"/a", to+"/b"))
		}, counts{copied: 2, skipped: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := folders(t)
			must(t, os.Mkdir(from+"/d", 0o700))
			for name, text := range map[string]string{"a": "aaaa", "b": "bbbb", "d/c": "cccc"} {
				write(t, from+"/"+name, text)
				stamp(t, from+"/"+name, 1_000_000_000, 1)
			}
			ledger, _ := copyTree(t, from, to, nil, vouching)
			test.change(t, from, to)
			_, report := copyTree(t, from, to, ledger, clone.Options{Now: later, Still: true})
			if got := (counts{report.Copied, report.Hashed, report.Skipped, report.Removed}); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			same(t, from, to)
		})
	}
}

// A hash is kept only when a later change would have shown.
func TestVouching(t *testing.T) {
	from, to := folders(t)
	write(t, from+"/a", "aaaa")
	changed := time.Now()
	for _, test := range []struct {
		read    time.Duration // when the file was read, after it changed
		skipped int64
	}{{-time.Hour, 0}, {0, 0}, {1900 * time.Millisecond, 0}, {2100 * time.Millisecond, 1}, {time.Hour, 1}} {
		// The ages of the copy are those of the same clock, so it is made anew.
		must(t, os.RemoveAll(to+"/a"))
		ledger, _ := copyTree(t, from, to, nil, clone.Options{Now: func() time.Time { return changed.Add(test.read) }})
		if _, report := copyTree(t, from, to, ledger, vouching); report.Skipped != test.skipped {
			t.Errorf("read %s after the change: %+v", test.read, report)
		}
	}
}

func TestExclude(t *testing.T) {
	from, to := folders(t)
	must(t, os.MkdirAll(from+"/pg_stat_tmp/deep", 0o700))
	write(t, from+"/pg_stat_tmp/deep/x", "x")
	write(t, from+"/postmaster.pid", "1")
	write(t, from+"/a", "a")
	ledger, _ := copyTree(t, from, to, nil, vouching)
	_, report := copyTree(t, from, to, ledger, clone.Options{Now: later, Still: true, Exclude: func(rel string) bool {
		return rel == "postmaster.pid" || filepath.Dir(rel) == "pg_stat_tmp"
	}})
	if report.Files != 1 || report.Removed != 3 {
		t.Errorf("%+v", report)
	}
	names := slices.Sorted(maps.Keys(listing(t, to)))
	if !slices.Equal(names, []string{"", "/a", "/pg_stat_tmp"}) {
		t.Errorf("copied %q", names)
	}
}

func TestFirstPassRemovesNothing(t *testing.T) {
	from, to := folders(t)
	write(t, from+"/a", "new")
	write(t, to+"/mine", "mine")
	must(t, os.Mkdir(to+"/a", 0o700))
	write(t, to+"/a/in the way", "x")
	ledger, report := copyTree(t, from, to, nil, vouching)
	if report.Removed != 1 || read(t, to+"/mine") != "mine" || read(t, to+"/a") != "new" {
		t.Errorf("%+v", report)
	}
	copyTree(t, from, to, ledger, vouching)
	if _, err := os.Lstat(to + "/mine"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second pass left it: %v", err)
	}
}

// What is elsewhere is neither read nor written, whatever points there.
func TestRootsAreNotLeft(t *testing.T) {
	from, to := folders(t)
	outside := t.TempDir()
	write(t, outside+"/file", "outside")
	must(t, os.Mkdir(from+"/d", 0o700))
	write(t, from+"/d/file", "inside")
	write(t, from+"/file", "inside")
	must(t, os.Symlink(outside, from+"/link"))
	// The copy has links where the original has a folder and a file, and a hard link to a file outside.
	must(t, os.Symlink(outside, to+"/d"))
	must(t, os.Symlink(outside+"/file", to+"/file"))
	write(t, outside+"/linked", "inside")
	must(t, os.Chmod(outside+"/linked", 0o644))
	must(t, os.Link(outside+"/linked", to+"/linked"))
	write(t, from+"/linked", "inside")
	stamp(t, from+"/linked", 1, 1)
	stamp(t, outside+"/linked", 1, 1)
	before := listing(t, outside)["/file"]
	copyTree(t, from, to, nil, clone.Options{Still: true})
	same(t, from, to)
	if listing(t, outside)["/file"] != before || read(t, outside+"/linked") != "inside" {
		t.Error("a file outside was changed")
	}
	if info, err := os.Stat(outside + "/linked"); err != nil || info.Mode() != 0o644 {
		t.Errorf("a file outside was changed: %v %v", info.Mode(), err)
	}
}

func TestRefused(t *testing.T) {
	asRoot(t)
	for _, test := range []struct {
		name, want string
		make       func(t *testing.T, from, to string) (string, string)
	}{
		{"a mount below the original", "is a mount of its own", func(t *testing.T, from, to string) (string, string) {
			testbed.MountTmpfs(t, from+"/pg_wal", "size=1m")
			return from, to
		}},
		{"a mount below the copy", "is a mount of its own", func(t *testing.T, from, to string) (string, string) {
			testbed.MountTmpfs(t, to+"/x/y", "size=1m")
			write(t, to+"/x/y/precious", "precious")
			return from, to
		}},
		{"a mount of the same file system", "is a mount of its own", func(t *testing.T, from, to string) (string, string) {
			must(t, os.Mkdir(to+"/bound", 0o700))
			must(t, unix.Mount(from, to+"/bound", "", unix.MS_BIND, ""))
			t.Cleanup(func() { must(t, unix.Unmount(to+"/bound", unix.MNT_DETACH)) })
			return from, to
		}},
		{"a device", "/null is a device", func(t *testing.T, from, to string) (string, string) {
			must(t, unix.Mknod(from+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			return from, to
		}},
		{"itself", "or the same folder", func(_ *testing.T, from, _ string) (string, string) { return from, from }},
		{"below itself", "or the same folder", func(_ *testing.T, from, _ string) (string, string) { return from, from + "/below" }},
		{"above itself", "or the same folder", func(t *testing.T, from, _ string) (string, string) {
			must(t, os.Mkdir(from+"/d", 0o700))
			return from + "/d", from
		}},
		{"by a link", "or the same folder", func(t *testing.T, from, to string) (string, string) {
			must(t, os.Symlink(from, to+"/link"))
			return from, to + "/link"
		}},
		{"a file", "not a directory", func(_ *testing.T, from, to string) (string, string) { return from + "/a", to }},
		{"to a file", "not a directory", func(_ *testing.T, from, _ string) (string, string) { return from, from + "/a" }},
		{"nothing", "no such file", func(_ *testing.T, from, to string) (string, string) { return from + "/no", to }},
		{"to nowhere", "no such file", func(_ *testing.T, from, to string) (string, string) { return from, to + "/no/no" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := folders(t)
			write(t, from+"/a", "a")
			write(t, to+"/surplus", "surplus")
			from, to = test.make(t, from, to)
			before := names(t, to)
			_, _, err := clone.Copy(t.Context(), from, to, nil, clone.Options{Still: true})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if after := names(t, to); !slices.Equal(before, after) {
				t.Errorf("there were %q, and are %q", before, after)
			}
		})
	}
}

func names(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	return all
}

func TestCancelled(t *testing.T) {
	from, to := folders(t)
	write(t, from+"/a", "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(holdfast.ErrInterrupted)
	if _, _, err := clone.Copy(ctx, from, to, nil, clone.Options{}); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Error(err)
	}
}
