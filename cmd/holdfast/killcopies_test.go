package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCopiesAndPrunesKilledAnywhere: whatever moment SIGKILL comes at, no store ever lists a backup that is not whole, no deletion
// lacks its record, and the next runs make everything as if nothing had been killed.
func TestCopiesAndPrunesKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	for i := range 30 {
		w.write(t, fmt.Sprintf("data/%d.txt", i), strings.Repeat("some text ", 3000+i))
	}
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	config := w.write(t, "holdfast.yaml", `version: 1
keys: {ops: {recipient: `+recipient+`}}
stores:
  main: {kind: local, path: `+w.path("main")+`}
  box: {kind: local, path: `+w.path("box")+`}
sources:
  one: {kind: files, paths: [`+w.path("data")+`]}
  two: {kind: files, paths: [`+w.path("data")+`]}
jobs: {app: {sources: [one, two], store: main, mirrors: [box], recipients: [ops], keep: {last: 2}}}
`)
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	run := func(args ...string) outcome { return w.at(t, at, append([]string{"--config", config}, args...)...) }
	whole := func(moment string) {
		t.Helper()
		for _, name := range []string{"main", "box"} {
			for line := range strings.Lines(run("list", "--store", name, "-q").out) {
				id, _, _ := strings.Cut(line, " ")
				if id != "ID" {
					if o := run("verify", id, "--store", name, "--level", "L1"); o.code != 0 {
						t.Fatalf("%s: %s lists %s, which is not whole:\n%s", moment, name, id, o.err)
					}
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(7, 11))
	kill := func(args ...string) {
		t.Helper()
		began := time.Now()
		cmd := w.command(append([]string{"--config", config}, args...)...)
		cmd.Env = append(slices.Clone(cmd.Env), storyClock+"="+at.Format(time.RFC3339))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // how it ended is seen in the stores
			close(ended)
		}()
		delay := time.Duration(random.Float64() * float64(150*time.Millisecond))
		select {
		case <-ended:
		case <-time.After(delay):
		}
		_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself
		<-ended
		whole(fmt.Sprintf("%s killed after %v", args[0], time.Since(began)))
	}

	run("backup", "--create-store").expect(t, 0, "committed")
	for round := range 8 {
		at = at.AddDate(0, 0, 1)
		kill("backup")
		run("backup").expect(t, 0, "committed")
		for range 2 {
			if err := os.RemoveAll(filepath.Join(w.path("box"), "commits")); err != nil {
				t.Fatal(err)
			}
			kill("mirror")
			run("mirror").expect(t, 0)
		}
		kill("prune")
		run("prune").expect(t, 0, "backups deleted")
		for _, name := range []string{"main", "box"} {
			if listed := strings.Count(run("list", "--store", name, "--json").out, "\n"); listed > 4 || listed < 1 {
				t.Fatalf("round %d: %s lists %d backups", round, name, listed)
			}
			objects, err := filepath.Glob(filepath.Join(w.path(name), "data", "app", "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			data := map[string]bool{} // a folder without an object is none to a store
			for _, object := range objects {
				data[filepath.Dir(object)] = true
			}
			commits, err := filepath.Glob(filepath.Join(w.path(name), "commits", "app", "*"))
			if err != nil || len(data) != len(commits) {
				t.Errorf("round %d: %s has %d folders of %d backups, error %v", round, name, len(data), len(commits), err)
			}
		}
	}
	run("audit", "verify").expect(t, 0, "records whole")
}
