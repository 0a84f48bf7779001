package clone_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/clone"
)

// step is something that a program does in a folder; one that cannot be done does nothing.
type step struct {
	what        string
	name, other string
	n           int
}

func steps(t *rapid.T, label string, most int) []step {
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c\n"}), 1, 3).Draw(t, "names"), "/")
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			rapid.SampledFrom([]string{
				"write", "write", "write", "append", "patch", "hole", "remove", "remove all", "rename", "link", "symlink", "folder", "folder", "fifo", "mode", "owner", "time", "attribute", "no attribute",
			}).Draw(t, "what"), name.Draw(t, "name"), name.Draw(t, "other"), rapid.IntRange(0, 3000).Draw(t, "n"),
		}
	}), 0, most).Draw(t, label)
}

func (s step) do(root string) {
	name, other := path.Join(root, s.name), path.Join(root, s.other)
	info, err := os.Lstat(name)
	exists, regular := err == nil, err == nil && info.Mode().IsRegular()
	switch s.what {
	case "write":
		if !exists || regular {
			_ = os.WriteFile(name, []byte(strings.Repeat(string(rune('a'+s.n%26)), s.n)), 0o600)
		}
	case "append", "patch", "hole":
		if !regular {
			return
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return
		}
		defer f.Close()
		switch s.what {
		case "append":
			_, _ = f.WriteAt([]byte("more"), info.Size())
		case "patch":
			// As a database does: other bytes, same size, and here even the same time.
			_, _ = f.WriteAt([]byte{byte(s.n)}, max(0, info.Size()-1))
			_ = os.Chtimes(name, info.ModTime(), info.ModTime())
		default:
			_ = f.Truncate(info.Size() + int64(s.n)*100)
		}
	case "remove":
		_ = os.Remove(name)
	case "remove all":
		// Below a FIFO it would open that, and wait.
		if exists {
			_ = os.RemoveAll(name)
		}
	case "rename":
		_ = os.Rename(name, other)
	case "link":
		if regular {
			_ = os.Link(name, other)
		}
	case "symlink":
		_ = os.Symlink(s.other, name)
	case "folder":
		_ = os.MkdirAll(name, 0o700)
	case "fifo":
		_ = unix.Mkfifo(name, 0o600)
	case "mode":
		if exists && info.Mode()&os.ModeSymlink == 0 {
			_ = os.Chmod(name, os.FileMode(s.n)&0o777)
		}
	case "owner":
		_ = os.Lchown(name, s.n%5, s.n%7)
	case "time":
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{{Sec: int64(s.n)}, {Sec: int64(s.n), Nsec: 7}}, unix.AT_SYMLINK_NOFOLLOW)
	case "attribute":
		_ = unix.Lsetxattr(name, fmt.Sprintf("trusted.%d", s.n%3), []byte(fmt.Sprint(s.n)), 0)
	case "no attribute":
		_ = unix.Lremovexattr(name, fmt.Sprintf("trusted.%d", s.n%3))
	}
}

// Whatever is done to either side, before, between and during passes: a still pass makes the copy what the original is, or says that it cannot.
func TestModel(t *testing.T) {
	from, to := inMemory(t)
	var skipped, hashed, changed int64
	rapid.Check(t, func(t *rapid.T) {
		emptied(t, from, to)
		for _, s := range steps(t, "before", 25) {
			s.do(from)
		}
		for _, s := range steps(t, "in the copy", 5) {
			s.do(to)
		}
		var ledger *clone.Ledger
		for range rapid.IntRange(0, 2).Draw(t, "passes") {
			during := steps(t, "during", 8)
			o := clone.Options{Workers: rapid.IntRange(1, 3).Draw(t, "workers"), Observe: func(clone.Progress) {
				if len(during) > 0 {
					during[0].do(from)
					during = during[1:]
				}
			}}
			// What changes within one tick of the clock after it was read is not seen but by its age.
			if len(during) == 0 {
				o.Now = later
			}
			var report clone.Report
			var err error
			if ledger, report, err = clone.Copy(t.Context(), from, to, ledger, o); err != nil {
				t.Fatal(err)
			}
			changed += int64(len(report.Changed))
			for _, s := range steps(t, "between", 6) {
				s.do(from)
			}
			for _, s := range steps(t, "between, in the copy", rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "meddling")) {
				s.do(to)
			}
		}
		still := clone.Options{Now: later, Still: true}
		_, report, err := clone.Copy(t.Context(), from, to, ledger, still)
		// Bytes of a verified copy were changed behind its back, which a still pass says; one without the ledger makes it good.
		if errors.Is(err, holdfast.ErrDifference) && strings.Contains(err.Error(), "is not what it was") {
			_, report, err = clone.Copy(t.Context(), from, to, nil, still)
		}
		if err != nil {
			t.Fatal(err)
		}
		skipped, hashed = skipped+report.Skipped, hashed+report.Hashed
		same(t, from, to)
		if report.Changed != nil || !slices.IsSorted(report.Sockets) {
			t.Errorf("%+v", report)
		}
	})
	if skipped == 0 || hashed == 0 || changed == 0 {
		t.Errorf("the model is idle: %d skipped, %d hashed, %d changed", skipped, hashed, changed)
	}
}
