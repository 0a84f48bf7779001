package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rotating is a workplace with a configuration of one key, in a folder of its own.
func rotating(t *testing.T) (w workplace, config string) {
	t.Helper()
	w = newWorkplace(t)
	w.write(t, "data/a.txt", "one")
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	config = w.write(t, "etc/holdfast.yaml", `version: 1
# the host of the shop
keys:
  ops:
    recipient: `+recipient+`  # in the safe
    created: 2025-03-01
stores:
  main: {kind: local, path: ../store}
sources:
  data: {kind: files, paths: [../data]}
jobs:
  app: {sources: [data], store: main, recipients: [ops]}
`)
	w.good(t, "backup", "app", "--create-store", "--config", config)
	return w, config
}

// current is the recipient that the configuration seals to, and how many keys it says were replaced.
func current(t *testing.T, config string) (recipient string, retired int) {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "    recipient: ")
	line, _, _ := strings.Cut(rest, "  # in the safe")
	if !strings.Contains(string(text), "# the host of the shop") || line == "" {
		t.Fatalf("the configuration is\n%s", text)
	}
	return strings.Trim(line, `"`), strings.Count(string(text), "{ids: ")
}

// identityOf reports whether any identity of the workplace belongs to the recipient.
func identityOf(t *testing.T, w workplace, recipient string) bool {
	t.Helper()
	found := false
	for _, path := range tree(t, w.dir) {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), "AGE-SECRET-KEY-") && strings.Contains(string(data), recipient) {
			found = true
		}
	}
	return found
}

// TestRotationKilledAnywhere: whatever moment SIGKILL comes at, the configuration is whole, what it seals to has its
// identity on the disk, and the next rotation works.
func TestRotationKilledAnywhere(t *testing.T) {
	t.Parallel()
	w, config := rotating(t)
	began := time.Now()
	w.good(t, "key", "rotate", "ops", "--config", config)
	whole := time.Since(began)
	random := rand.New(rand.NewPCG(3, 4))
	kill := func(due func() bool) {
		t.Helper()
		was, before := current(t, config)
		cmd := w.command("key", "rotate", "ops", "--config", config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			// How it ended is seen in the files.
			_ = cmd.Wait()
			close(ended)
		}()
		for waiting := true; waiting && !due(); {
			select {
			case <-ended:
				waiting = false
			case <-time.After(50 * time.Microsecond):
			}
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		w.good(t, "config", "check", "--config", config)
		now, after := current(t, config)
		if (now != was) != (after == before+1) || after < before {
			t.Fatalf("it seals to %s after %s, and %d keys after %d are on record", now, was, after, before)
		}
		if !identityOf(t, w, now) {
			t.Fatalf("the configuration seals to %s, whose identity is nowhere", now)
		}
	}
	for n := 1; n <= 4; n++ {
		before := filesIn(t, w.dir)
		kill(func() bool { return filesIn(t, w.dir) >= before+n })
	}
	for range 4 {
		delay := time.Duration(random.Float64() * float64(whole))
		start := time.Now()
		kill(func() bool { return time.Since(start) >= delay })
	}
	_, before := current(t, config)
	w.good(t, "key", "rotate", "ops", "--config", config)
	if _, after := current(t, config); after != before+1 {
		t.Errorf("%d keys are on record after one more rotation, %d before", after, before)
	}
	w.good(t, "backup", "app", "--config", config)
}

// TestRotationsAtOnce: each is done whole, or is told that another one changes the file.
func TestRotationsAtOnce(t *testing.T) {
	t.Parallel()
	w, config := rotating(t)
	var wait sync.WaitGroup
	codes := make([]int, 6)
	for i := range codes {
		wait.Go(func() {
			cmd := w.command("key", "rotate", "ops", "--config", config)
			// Its exit code is looked at below.
			_ = cmd.Run()
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	wait.Wait()
	done := 0
	for _, code := range codes {
		if code == 0 {
			done++
		} else if code != 5 {
			t.Errorf("exit codes %v, want 0 or 5", codes)
		}
	}
	recipient, retired := current(t, config)
	if done == 0 || retired != done || !identityOf(t, w, recipient) {
		t.Errorf("%d rotations were done, %d keys are on record, exit codes %v", done, retired, codes)
	}
}

// TestKeyIsDue: twelve months for a key, and a quarter of a year, with some days of grace, for the check of it, as the alarm has it.
func TestKeyIsDue(t *testing.T) {
	t.Parallel()
	w, config := rotating(t)
	made := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	list := func(now time.Time) outcome { return w.at(t, now, "key", "list", "--config", config) }
	list(made.AddDate(0, 11, 0)).expect(t, 0, "2025-03-01", "check: it never was")
	if o := list(made.AddDate(0, 11, 0)); strings.Contains(o.out, "replace") {
		t.Errorf("a key of eleven months is to be replaced:\n%s", o.out)
	}
	list(made.AddDate(1, 0, 0)).expect(t, 0, "replace: it is 12 months old", "check: it never was")
	checked := made.AddDate(0, 6, 0)
	w.at(t, checked, "key", "check", "--config", config, "--identity", w.path("key.txt")).expect(t, 0, "opens backup")
	if o := list(checked.AddDate(0, 0, 99)); o.code != 0 || strings.Contains(o.out, "check:") || !strings.Contains(o.out, "2025-09-01") {
		t.Errorf("after a check of 99 days ago:\n%s%s", o.out, o.err)
	}
	list(checked.AddDate(0, 0, 100)).expect(t, 0, "check: the last was 3 months ago")
	list(checked.AddDate(1, 0, 0)).expect(t, 0, "check: the last was 12 months ago")
	w.at(t, checked.AddDate(1, 1, 0), "key", "show", "ops", "--config", config).expect(t, 0, "DUE", "replace: it is 19 months old", "check: the last was 13 months ago")
}

// TestPassphraseOfAKey is asked for twice at a terminal, is not shown there, and stock age asks for the same.
func TestPassphraseOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	const secret = "correct horse battery staple"
	x := w.onTerminal(t, "key", "new", "--lock", "--out", "locked.age")
	x.answer("new passphrase for the new key: ", secret)
	x.answer("the same once more: ", secret)
	if said := x.end(0); strings.Contains(said, "correct horse") || !strings.Contains(said, "identity written to locked.age") {
		t.Errorf("the terminal shows:\n%s", said)
	}
	x = w.onTerminal(t, "key", "new", "--lock", "--out", "other.age")
	x.answer("new passphrase for the new key: ", secret)
	x.answer("the same once more: ", "another")
	if said := x.end(2); !strings.Contains(said, "the two passphrases differ") {
		t.Errorf("the terminal shows:\n%s", said)
	}
	x = w.onTerminal(t, "key", "new", "--lock", "--out", "other.age")
	x.answer("new passphrase for the new key: ", ctrlC)
	x.end(130)
	if _, err := os.Stat(w.path("other.age")); err == nil {
		t.Error("a key was written all the same")
	}
	x = w.onTerminal(t, "key", "export", "--identity", "locked.age", "--private", "--out", "copy.age")
	x.answer("passphrase of locked.age: ", secret)
	x.answer("new passphrase for the copy: ", "a second phrase, quite long")
	x.answer("the same once more: ", "a second phrase, quite long")
	x.end(0)

	age := exec.Command("age", "-d", "-o", w.path("opened.txt"), w.path("copy.age"))
	age.Env = w.env
	y := onTerminal(t, age)
	y.answer("Enter passphrase", "a second phrase, quite long")
	y.end(0)
	text, err := os.ReadFile(filepath.Join(w.dir, "opened.txt"))
	if err != nil || !strings.Contains(string(text), "AGE-SECRET-KEY-1") {
		t.Errorf("age opens %d bytes, %v", len(text), err)
	}
}

// TestResealKilledAnywhere: whatever moment SIGKILL comes at, a copy is there whole or not at all, originals are untouched,
// and the next run removes what was left and ends the work.
func TestResealKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	for i := range 10 {
		w.write(t, fmt.Sprintf("data/%d.txt", i), strings.Repeat("some text ", 2000+i))
	}
	old := strings.TrimSpace(w.good(t, "key", "new", "-o", "old.txt").out)
	next := strings.TrimSpace(w.good(t, "key", "new", "-o", "new.txt").out)
	store := w.path("store")
	const originals = 6
	for range originals {
		w.good(t, "backup", "--source", w.path("data"), "--to", store, "--recipient", old)
	}
	sums := map[string]string{}
	for _, path := range tree(t, store) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[path] = string(data)
	}
	args := []string{"key", "reseal", "--all", "--store", store, "--identity", w.path("old.txt"), "--recipient", next}
	for n := 1; n <= 8; n++ {
		before := filesIn(t, store)
		cmd := w.command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			// How it ended is seen in the store.
			_ = cmd.Wait()
			close(ended)
		}()
		for waiting := true; waiting && filesIn(t, store) < before+n; {
			select {
			case <-ended:
				waiting = false
			case <-time.After(50 * time.Microsecond):
			}
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		for path, want := range sums {
			if data, err := os.ReadFile(path); err != nil || string(data) != want {
				t.Fatalf("an original's object %s was changed: %v", path, err)
			}
		}
		verifyAll(t, w, store, strings.Count(w.good(t, "list", "--store", store, "--json").out, "\n"))
	}
	w.good(t, args...)
	listed := w.good(t, "list", "--store", store).out
	if strings.Count(listed, "re-sealed from") != originals || strings.Count(listed, "superseded by") != originals {
		t.Errorf("listed:\n%s", listed)
	}
	folders, err := os.ReadDir(filepath.Join(store, "data", "default"))
	if err != nil || len(folders) != 2*originals {
		t.Errorf("%d folders of %d backups are left: %v", len(folders), 2*originals, err)
	}
	w.good(t, "verify", "--store", store, "--identity", w.path("new.txt"))
}
