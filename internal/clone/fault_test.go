package clone_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/clone"
	"holdfast/internal/testbed"
)

// once does something when a phase has come to its nth call.
func once(phase clone.Phase, nth int, do func()) func(clone.Progress) {
	return func(p clone.Progress) {
		if p.Phase == phase {
			if nth--; nth == 0 {
				do()
			}
		}
	}
}

// What happens to a file of three mebibytes after its first one was read.
func TestChangesWhileItIsRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, from string)
	}{
		{"grown", func(t *testing.T, from string) { must(t, os.Truncate(from+"/a", 4<<20)) }},
		{"truncated", func(t *testing.T, from string) { must(t, os.Truncate(from+"/a", 100)) }},
		{"emptied", func(t *testing.T, from string) { must(t, os.Truncate(from+"/a", 0)) }},
		{"written to", func(t *testing.T, from string) {
			f, err := os.OpenFile(from+"/a", os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("x"), 0)
			must(t, errors.Join(err, f.Close()))
		}},
		{"replaced", func(t *testing.T, from string) {
			write(t, from+"/b", strings.Repeat("b", 3<<20))
			must(t, os.Rename(from+"/b", from+"/a"))
		}},
		{"gone", func(t *testing.T, from string) { must(t, os.Remove(from+"/a")) }},
		{"a folder", func(t *testing.T, from string) {
			must(t, os.Remove(from+"/a"))
			must(t, os.Mkdir(from+"/a", 0o700))
		}},
		{"another mode", func(t *testing.T, from string) { must(t, os.Chmod(from+"/a", 0o644)) }},
	} {
		for _, still := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, still %t", test.name, still), func(t *testing.T) {
				from, to := folders(t)
				write(t, from+"/a", strings.Repeat("a", 3<<20))
				o := clone.Options{Workers: 1, Still: still, Now: later, Observe: once(clone.Copying, 2, func() { test.change(t, from) })}
				ledger, report, err := clone.Copy(t.Context(), from, to, nil, o)
				if still {
					if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), from+"/a changed while it was copied") {
						t.Errorf("got %v", err)
					}
				} else if must(t, err); !slices.Contains(report.Changed, "a") {
					t.Errorf("%+v", report)
				}
				if ledger.Files() != 0 {
					t.Error("what changed is vouched for")
				}
				copyTree(t, from, to, ledger, clone.Options{Still: true})
				same(t, from, to)
			})
		}
	}
}

// What happens in the original after everything in it was read.
func TestChangesAfterItWasRead(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, from string){
		"new":     func(t *testing.T, from string) { write(t, from+"/d/new", "new") },
		"gone":    func(t *testing.T, from string) { must(t, os.Remove(from+"/d/a")) },
		"written": func(t *testing.T, from string) { write(t, from+"/d/a", "more") },
		"folder":  func(t *testing.T, from string) { must(t, os.RemoveAll(from+"/d")) },
		"link": func(t *testing.T, from string) {
			must(t, os.Remove(from+"/l"))
			must(t, os.Symlink("y", from+"/l"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := folders(t)
			must(t, os.Mkdir(from+"/d", 0o700))
			write(t, from+"/d/a", "a")
			must(t, os.Symlink("x", from+"/l"))
			_, _, err := clone.Copy(t.Context(), from, to, nil, clone.Options{Still: true, Observe: once(clone.Verifying, 2, func() { change(t, from) })})
			if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), from) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFolderVanishes(t *testing.T) {
	from, to := folders(t)
	for _, name := range []string{"a", "b"} {
		must(t, os.Mkdir(from+"/"+name, 0o700))
		write(t, from+"/"+name+"/file", "text")
	}
	_, report := copyTree(t, from, to, nil, clone.Options{Workers: 1, Observe: once(clone.Copying, 2, func() { must(t, os.RemoveAll(from+"/b")) })})
	if !slices.Equal(report.Changed, []string{".", "b", "b/file"}) {
		t.Errorf("%+v", report)
	}
	copyTree(t, from, to, nil, clone.Options{Still: true})
	same(t, from, to)
}

// flip changes one bit of a file, and gives it its time back.
func flip(t *testing.T, path string) {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Lstat(path, &st))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 1)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, 1)
	must(t, errors.Join(err, f.Close()))
	stamp(t, path, st.Mtim.Sec, st.Mtim.Nsec)
}

func TestCopyDoesNotGiveBackWhatWasWritten(t *testing.T) {
	for _, still := range []bool{false, true} {
		from, to := folders(t)
		write(t, from+"/a", "aaaa")
		ledger, _, err := clone.Copy(t.Context(), from, to, nil, clone.Options{Still: still, Observe: once(clone.Verifying, 1, func() { flip(t, to+"/a") })})
		if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), to+"/a does not give back what was written") || holdfast.Hint(err) == "" {
			t.Errorf("got %v", err)
		}
		if ledger.Files() != 0 {
			t.Error("it is vouched for")
		}
	}
}

func TestCopyChangedSinceItWasVerified(t *testing.T) {
	from, to := folders(t)
	write(t, from+"/a", "aaaa")
	ledger, _ := copyTree(t, from, to, nil, vouching)
	flip(t, to+"/a")
	_, _, err := clone.Copy(t.Context(), from, to, ledger, clone.Options{Now: later, Still: true})
	if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), to+"/a is not what it was") {
		t.Errorf("got %v", err)
	}
	_, report := copyTree(t, from, to, ledger, vouching)
	if !slices.Equal(report.Mended, []string{"a"}) || report.Copied != 1 {
		t.Errorf("%+v", report)
	}
	same(t, from, to)

	// Without a ledger nobody knows which side is the old one: the original counts.
	flip(t, to+"/a")
	if _, report := copyTree(t, from, to, nil, clone.Options{Still: true}); report.Copied != 1 || report.Mended != nil {
		t.Errorf("%+v", report)
	}
	same(t, from, to)
}

// What reads the copy reads the disk. It is seen by what the kernel counts.
func TestDrop(t *testing.T) {
	from, to := folders(t)
	var st unix.Statfs_t
	if must(t, unix.Statfs(to, &st)); st.Type == unix.TMPFS_MAGIC {
		t.Skip("the folder of tests is in memory: there is no disk to read")
	}
	const size = 16 << 20
	write(t, from+"/a", strings.Repeat("a", size))
	_ = read(t, from+"/a")
	for _, test := range []struct {
		drop        bool
		least, most int64
	}{{false, 0, size / 2}, {true, size * 9 / 10, size * 2}} {
		must(t, os.RemoveAll(to+"/a"))
		before := fromDisk(t)
		copyTree(t, from, to, nil, clone.Options{Drop: test.drop})
		if n := fromDisk(t) - before; n < test.least || n > test.most {
			t.Errorf("drop %t: %d bytes came from the disk", test.drop, n)
		}
	}
}

func fromDisk(t *testing.T) int64 {
	t.Helper()
	for line := range strings.Lines(read(t, "/proc/self/io")) {
		if count, found := strings.CutPrefix(line, "read_bytes: "); found {
			n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
			must(t, err)
			return n
		}
	}
	t.Fatal("the kernel does not count")
	return 0
}

func TestFull(t *testing.T) {
	asRoot(t)
	from, to := folders(t)
	testbed.MountTmpfs(t, to, "size=3m")
	for i := range 8 {
		write(t, fmt.Sprintf("%s/%d", from, i), strings.Repeat(strconv.Itoa(i), 700<<10))
	}
	ledger, _, err := clone.Copy(t.Context(), from, to, nil, clone.Options{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "write "+to+"/") || !strings.Contains(holdfast.Hint(err), "make room") {
		t.Errorf("got %v, hint %q", err, holdfast.Hint(err))
	}
	must(t, unix.Mount("tmpfs", to, "tmpfs", unix.MS_REMOUNT, "size=16m"))
	copyTree(t, from, to, ledger, clone.Options{Still: true})
	same(t, from, to)
}

// A pass is ended at each moment that it tells of.
func TestEndedAnywhere(t *testing.T) {
	from, to := inMemory(t)
	for nth := 1; ; nth++ {
		emptied(t, from, to)
		must(t, os.MkdirAll(from+"/base/1", 0o700))
		for _, name := range []string{"a", "base/b", "base/1/c", "base/1/d", "z"} {
			write(t, from+"/"+name, strings.Repeat(name, 1<<18))
		}
		must(t, os.Link(from+"/z", from+"/base/z"))
		must(t, os.Symlink("z", from+"/link"))
		must(t, os.Chown(from+"/base", 999, 999))
		calls := 0
		ctx, cancel := context.WithCancelCause(t.Context())
		ledger, _, err := clone.Copy(ctx, from, to, nil, clone.Options{Now: later, Observe: func(clone.Progress) {
			if calls++; calls == nth {
				cancel(holdfast.ErrInterrupted)
			}
		}})
		cancel(nil)
		if calls < nth {
			must(t, err)
			if nth < 20 {
				t.Errorf("only %d moments", nth)
			}
			return
		}
		if err != nil && !errors.Is(err, holdfast.ErrInterrupted) {
			t.Fatalf("ended at %d: %v", nth, err)
		}
		_, report := copyTree(t, from, to, ledger, clone.Options{Now: later, Still: true})
		if report.Skipped != int64(ledger.Files()) {
			t.Errorf("ended at %d: %d were vouched for, %d were skipped", nth, ledger.Files(), report.Skipped)
		}
		same(t, from, to)
	}
}

const killedCopy = "HOLDFAST_TEST_CLONE"

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if roots := strings.Split(os.Getenv(killedCopy), ":"); len(roots) == 2 {
		_, _, err := clone.Copy(context.Background(), roots[0], roots[1], nil, clone.Options{Observe: func(clone.Progress) { fmt.Println() }})
		fmt.Fprintln(os.Stderr, err)
		return
	}
	os.Exit(m.Run())
}

func TestKilled(t *testing.T) {
	from, to := folders(t)
	for i := range 40 {
		write(t, fmt.Sprintf("%s/%d", from, i), strings.Repeat(strconv.Itoa(i), i<<14))
	}
	for _, lines := range []int{1, 7, 30, 55, 80} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), killedCopy+"="+from+":"+to)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		scanner := bufio.NewScanner(out)
		for n := 0; n < lines && scanner.Scan(); n++ {
		}
		must(t, cmd.Process.Kill())
		_, _ = io.Copy(io.Discard, out)
		// How far it came is not known, and it may have ended.
		_ = cmd.Wait()
	}
	if _, err := os.Lstat(to + "/39"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	copyTree(t, from, to, nil, clone.Options{Still: true, Now: time.Now})
	same(t, from, to)
}
