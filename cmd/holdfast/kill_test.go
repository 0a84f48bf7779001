package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/testbed"
)

// TestKilledAnywhere: whatever moment SIGKILL comes at, the list never shows a half backup, the next run removes what was
// left, and everything listed is whole.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE DATABASE app")
	server.Exec(t, "app", "CREATE TABLE t AS SELECT n, md5(n::text) AS what FROM generate_series(1, 20000) n")
	w := newWorkplace(t)
	for i := range 20 {
		w.write(t, fmt.Sprintf("data/%d.txt", i), strings.Repeat("some text ", 1000+i))
	}
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	store := w.path("store")
	args := []string{"backup", "--source", w.path("data"), "--source", server.URL("app"), "--to", store, "--recipient", recipient}
	began := time.Now()
	w.good(t, args...)
	whole := time.Since(began)

	random := rand.New(rand.NewPCG(1, 2))
	committed := 1
	check := func(moment string) {
		t.Helper()
		listed := strings.Count(w.good(t, "list", "--store", store, "--json").out, "\n")
		// The manifest may have become durable just before the end.
		if listed != committed && listed != committed+1 {
			t.Fatalf("killed %s: %d backups are listed, %d were committed", moment, listed, committed)
		}
		committed = listed
		verifyAll(t, w, store, listed)
	}
	kill := func(moment string, due func() bool) {
		t.Helper()
		cmd := w.command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			// How it ended is seen in the store.
			cmd.Wait()
			close(ended)
		}()
		for waiting := true; waiting && !due(); {
			select {
			case <-ended:
				waiting = false
			case <-time.After(50 * time.Microsecond):
			}
		}
		// It may have ended by itself.
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		check(moment)
	}

	// At each moment when something new shows up in the store, temporary files included.
	for n := 1; n <= 9; n++ {
		before := filesIn(t, store)
		kill(fmt.Sprintf("when %d files were new", n), func() bool { return filesIn(t, store) >= before+n })
	}
	for range 5 {
		delay := time.Duration(random.Float64() * float64(whole))
		start := time.Now()
		kill("after "+delay.String(), func() bool { return time.Since(start) >= delay })
	}

	w.good(t, args...)
	committed++
	check("not at all")
	folders, err := os.ReadDir(filepath.Join(store, "data", "default"))
	if err != nil || len(folders) != committed {
		t.Errorf("%d folders of %d backups are left: %v", len(folders), committed, err)
	}
	for _, path := range tree(t, store) {
		if strings.HasPrefix(filepath.Base(path), durable.TempPrefix) {
			t.Errorf("a temporary file is left: %s", path)
		}
	}
	deadline := time.Now().Add(patience)
	for server.Value(t, "app", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid()") != "0" {
		if time.Now().After(deadline) {
			t.Fatal("a session of a killed run is left on the server")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// verifyAll verifies every backup that is listed.
func verifyAll(t *testing.T, w workplace, store string, want int) {
	t.Helper()
	seen := 0
	for line := range strings.Lines(w.good(t, "list", "--store", store).out) {
		id, _, _ := strings.Cut(line, " ")
		if id == "ID" {
			continue
		}
		seen++
		w.good(t, "verify", id, "--store", store, "--level", "L1")
	}
	if seen != want {
		t.Errorf("%d backups were verified, want %d", seen, want)
	}
}

func tree(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		// Files come and go while a run is watched.
		if err == nil && !entry.IsDir() {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func filesIn(t *testing.T, dir string) int { return len(tree(t, dir)) }
