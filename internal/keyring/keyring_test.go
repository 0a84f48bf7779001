package keyring_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/keyring"
	"holdfast/internal/yamledit"
)

const text = `# web1
version: 1
keys:
  ops:   # the admins
    recipient: age1old  # in the safe
    holder: Anna
    expires: 2026-12-31
  pq: {recipient_file: ops.pub}   # for later
jobs: {}
`

var (
	day    = time.Date(2026, 7, 24, 0, 0, 0, 0, time.UTC)
	before = time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	old    = keyring.Retired{IDs: []string{"age1old"}, Holder: "Anna", Since: before, Until: day}
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *keyring.File {
	t.Helper()
	f, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReplace(t *testing.T) {
	f := open(t, write(t, text))
	if err := f.Replace("ops", keyring.Key{Recipient: "age1new", Created: day, Expires: day.AddDate(1, 0, 0)}, old); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace("pq", keyring.Key{Recipient: "age1pq", Created: day}, keyring.Retired{IDs: []string{"a", "b"}, Until: day}); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace("ops", keyring.Key{RecipientFile: "/etc/x.asc", Holder: `Otto "O" & Co`, Created: day.AddDate(0, 0, 1), Expires: day}, keyring.Retired{IDs: []string{"age1new"}, Until: day}); err != nil {
		t.Fatal(err)
	}
	const want = `# web1
version: 1
keys:
  ops:   # the admins
    recipient_file: "/etc/x.asc"  # in the safe
    created: 2026-07-25
    holder: "Otto \"O\" & Co"
    expires: 2026-07-24
    retired: [{ids: ["age1new"], until: 2026-07-24}, {ids: ["age1old"], holder: "Anna", since: 2025-01-02, until: 2026-07-24}]
  pq: {retired: [{ids: ["a", "b"], until: 2026-07-24}], created: 2026-07-24, recipient: "age1pq"}   # for later
jobs: {}
`
	if got := string(f.Text()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAdd(t *testing.T) {
	f := open(t, write(t, text))
	if err := f.Add("new", keyring.Key{Recipient: "age1n", Holder: "Eve", Created: day, Expires: day}); err != nil {
		t.Fatal(err)
	}
	line := `  new: {recipient: "age1n", holder: "Eve", created: 2026-07-24, expires: 2026-07-24}` + "\n"
	if got, want := string(f.Text()), strings.Replace(text, "keys:\n", "keys:\n"+line, 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := f.Add("pq", keyring.Key{Recipient: "age1n"}); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "has a key called pq already") || holdfast.Hint(err) == "" {
		t.Errorf("a name that is taken: %v", err)
	}
	none := open(t, write(t, "version: 1 # x\n\njobs: {}\n"))
	if err := none.Add("new", keyring.Key{RecipientFile: "k.pub"}); err != nil {
		t.Fatal(err)
	}
	if got, want := string(none.Text()), "version: 1 # x\nkeys: {new: {recipient_file: \"k.pub\"}}\n\njobs: {}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What cannot be edited for certain is refused, with what to write by hand.
func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"alias":            "version: 1\nx: &x {recipient: a}\nkeys: {ops: *x}\n",
		"merge":            "version: 1\nx: &x {holder: a}\nkeys:\n  ops: {<<: *x, recipient: b}\n",
		"alias at the end": "version: 1\nx: &x []\nkeys:\n  ops:\n    recipient: a\n    retired: *x\n",
		"block":            "version: 1\nkeys:\n  ops:\n    recipient: >-\n      age1\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, write(t, text))
			err := f.Replace("ops", keyring.Key{Recipient: "age1new", Created: day}, old)
			if !errors.Is(err, holdfast.ErrUsage) || !errors.Is(err, yamledit.ErrUnsafe) || !strings.Contains(err.Error(), "line ") {
				t.Errorf("error %v", err)
			}
			for _, part := range []string{`recipient: "age1new"`, "created: 2026-07-24", `retired: [{ids: ["age1old"], holder: "Anna", since: 2025-01-02, until: 2026-07-24}]`} {
				if !strings.Contains(holdfast.Hint(err), part) {
					t.Errorf("the hint has no %s: %s", part, holdfast.Hint(err))
				}
			}
			if string(f.Text()) != text {
				t.Errorf("the text became\n%s", f.Text())
			}
		})
	}
	for name, path := range map[string]string{
		"nowhere": filepath.Join(t.TempDir(), "x.yaml"), "a folder": t.TempDir(), "no YAML": write(t, "a: [\n"), "too big": write(t, "a: "+strings.Repeat("x", 1<<20)),
	} {
		if _, err := keyring.Open(path); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%s: %v, want ErrUsage", name, err)
		}
	}
}

func TestCommit(t *testing.T) {
	path := write(t, text)
	if err := os.Chown(path, 1234, 4321); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f := open(t, link)
	if f.Path() != path {
		t.Errorf("the file is %s", f.Path())
	}
	if err := f.Add("new", keyring.Key{Recipient: "age1n"}); err != nil {
		t.Fatal(err)
	}
	var copies []string
	for range 3 {
		kept, err := f.Keep(day)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, kept)
	}
	want := path + ".before-20260724T000000Z"
	if fmt.Sprint(copies) != fmt.Sprint([]string{want, want + "-2", want + "-3"}) {
		t.Errorf("copies %q", copies)
	}
	if read(t, path) != text {
		t.Error("the file was changed before the commit")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if read(t, path) != string(f.Text()) || read(t, copies[0]) != text {
		t.Error("the file is not the new text, or the copy not the old one")
	}
	for _, name := range []string{path, copies[2]} {
		var stat unix.Stat_t
		if err := unix.Stat(name, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Mode&0o777 != 0o640 || stat.Uid != 1234 || stat.Gid != 4321 {
			t.Errorf("%s has mode %o and owner %d:%d", name, stat.Mode, stat.Uid, stat.Gid)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files are in the folder: %v, %v", len(entries), entries, err)
	}
}

func TestChangedMeanwhile(t *testing.T) {
	path := write(t, text)
	f := open(t, path)
	if err := f.Add("new", keyring.Key{Recipient: "age1n"}); err != nil {
		t.Fatal(err)
	}
	other := text + "# by an editor\n"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); !errors.Is(err, holdfast.ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if read(t, path) != other {
		t.Error("what somebody else wrote is gone")
	}
}

// Of several that change one file at once each does it whole or is told that another does.
func TestOneAtATime(t *testing.T) {
	path := write(t, text)
	held := open(t, path)
	if _, err := keyring.Open(path); !errors.Is(err, holdfast.ErrBusy) || holdfast.Hint(err) == "" {
		t.Errorf("%v, want ErrBusy", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex // guards done
	var done []string
	for n := range 20 {
		wait.Go(func() {
			f, err := keyring.Open(path)
			if errors.Is(err, holdfast.ErrBusy) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			name := fmt.Sprintf("key%d", n)
			_, keepErr := f.Keep(day)
			if err := errors.Join(f.Add(name, keyring.Key{Recipient: "age1n"}), keepErr, f.Commit(), f.Close()); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			done = append(done, name)
			mu.Unlock()
		})
	}
	wait.Wait()
	if len(done) == 0 {
		t.Fatal("nobody changed the file")
	}
	after := read(t, path)
	for _, name := range done {
		if !strings.Contains(after, "  "+name+": ") {
			t.Errorf("%s is lost", name)
		}
	}
	if got := strings.Count(after, "age1n"); got != len(done) {
		t.Errorf("%d keys were added, %d are there", len(done), got)
	}
}

func TestAppend(t *testing.T) {
	path := write(t, strings.TrimSuffix(text, "\n")) // without a line break at its end
	f, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // nothing is written by it
	if err := f.Append("\t: {\n"); err == nil {
		t.Error("what is no YAML was taken")
	}
	if err := f.Append("\nvolumes:\n  v: {}\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text+"\nvolumes:\n  v: {}\n" {
		t.Errorf("%v, the file is\n%s", err, got)
	}
}
