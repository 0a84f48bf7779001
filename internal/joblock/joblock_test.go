package joblock_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/joblock"
)

const dirVariable = "JOBLOCK_TEST_DIR"

// TestMain is also the other process: it takes the lock, records a run, says so, and waits to be killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	lock, err := joblock.Acquire(dir, "store", "job")
	if err == nil {
		err = lock.Begun(run{ID: "of the other"})
	}
	fmt.Println("outcome:", err)
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if err != nil {
		os.Exit(1)
	}
}

type run struct {
	ID string
}

// other starts the other process and returns what it says of the lock.
func other(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), dirVariable+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(strings.TrimPrefix(line, "outcome:"))
}

func acquire(t *testing.T, dir, store string, job holdfast.JobName) *joblock.Lock {
	t.Helper()
	lock, err := joblock.Acquire(dir, store, job)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func release(t *testing.T, lock *joblock.Lock) {
	t.Helper()
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}

func wantBusy(t *testing.T, dir string) {
	t.Helper()
	lock, err := joblock.Acquire(dir, "store", "job")
	if err == nil {
		release(t, lock)
	}
	if !errors.Is(err, holdfast.ErrBusy) || holdfast.Hint(err) == "" || !strings.Contains(err.Error(), "job") {
		t.Errorf("error %v with the hint %q, want ErrBusy", err, holdfast.Hint(err))
	}
}

func TestOneRunAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "deep")
	lock := acquire(t, dir, "store", "job")
	wantBusy(t, dir)
	for _, free := range []*joblock.Lock{acquire(t, dir, "store", "other"), acquire(t, dir, "elsewhere", "job"), acquire(t, t.TempDir(), "store", "job")} {
		release(t, free)
	}
	wantBusy(t, dir)
	release(t, lock)
	release(t, acquire(t, dir, "store", "job"))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state folder has the mode %v, %v", info.Mode(), err)
	}
}

func TestAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "store", "job")
	cmd, said := other(t, dir)
	if err := cmd.Wait(); err == nil || !strings.Contains(said, holdfast.ErrBusy.Error()) {
		t.Errorf("the other process said %q, %v", said, err)
	}
	release(t, lock)
}

func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	cmd, said := other(t, dir)
	if said != "<nil>" {
		t.Fatalf("the other process said %q", said)
	}
	wantBusy(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the other process was not killed")
	}
	lock := acquire(t, dir, "store", "job")
	var left run
	if found, err := lock.Left(&left); !found || err != nil || left.ID != "of the other" {
		t.Errorf("left: %+v, %v, %v", left, found, err)
	}
	if err := lock.Ended(); err != nil {
		t.Fatal(err)
	}
	release(t, lock)
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "store", "job")
	var left run
	if found, err := lock.Left(&left); found || err != nil {
		t.Errorf("before any run: %v, %v", found, err)
	}
	for _, id := range []string{"first", "second"} {
		if err := lock.Begun(run{id}); err != nil {
			t.Fatal(err)
		}
	}
	release(t, lock)

	lock = acquire(t, dir, "store", "job")
	if found, err := lock.Left(&left); !found || err != nil || left.ID != "second" {
		t.Errorf("left: %+v, %v, %v", left, found, err)
	}
	stranger := acquire(t, dir, "elsewhere", "job")
	if found, err := stranger.Left(&left); found || err != nil {
		t.Errorf("of another store: %v, %v", found, err)
	}
	release(t, stranger)
	for range 2 {
		if err := lock.Ended(); err != nil {
			t.Errorf("ended: %v", err)
		}
	}
	if found, err := lock.Left(&left); found || err != nil {
		t.Errorf("after the end: %v, %v", found, err)
	}
	if err := lock.Begun(make(chan int)); err == nil {
		t.Error("a run that cannot be recorded was")
	}
	release(t, lock)
}

func TestBrokenRecord(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "store", "job")
	defer release(t, lock)
	if err := lock.Begun(run{"x"}); err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(filepath.Join(dir, "runs", "*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records %q, %v", records, err)
	}
	if err := os.WriteFile(records[0], []byte(`{"ID":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Left(new(run)); err == nil || !strings.Contains(holdfast.Hint(err), records[0]) {
		t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
	}
}

func TestStateFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if lock, err := joblock.Acquire(file, "store", "job"); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("lock %v, error %v, hint %q", lock, err, holdfast.Hint(err))
	}
}

func TestHeldAgain(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "store", "job")
	again := lock.Again()
	release(t, again)
	wantBusy(t, dir)
	release(t, lock)
	release(t, acquire(t, dir, "store", "job"))
}

// What was stored and which hooks are due are two records: the end of one is not the end of the other.
func TestRecordOfHooks(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "store", "job")
	if err := errors.Join(lock.Begun(run{"stored"}), lock.Hooks.Begun(run{"hooks"}), lock.Ended()); err != nil {
		t.Fatal(err)
	}
	release(t, lock)
	lock = acquire(t, dir, "store", "job")
	defer release(t, lock)
	var left run
	if found, err := lock.Left(&left); found || err != nil {
		t.Errorf("left of what was stored: %v, %v", found, err)
	}
	if found, err := lock.Hooks.Left(&left); !found || err != nil || left.ID != "hooks" {
		t.Errorf("left of the hooks: %v, %v, %v", left, found, err)
	}
	if err := lock.Hooks.Ended(); err != nil {
		t.Fatal(err)
	}
	if found, err := lock.Hooks.Left(&left); found || err != nil {
		t.Errorf("after the end: %v, %v", found, err)
	}
}
