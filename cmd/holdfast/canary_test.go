package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/testbed"
)

// TestCanaries: words that stand only in the data, or are passwords, are nowhere afterwards but where they were: in no
// stored byte, log, report to machines, argument of a process, or file on a disk.
func TestCanaries(t *testing.T) {
	t.Parallel()
	const (
		row      = "canary-row-6f1d0c55"
		table    = "canary_table_77ab"
		cell     = "canary-sqlite-90be12"
		content  = "canary-content-31aa07"
		name     = "canary-name-5512ff.txt"
		env      = "canary-env-c0ffee11"
		password = "canary-password-8842aa"
	)
	words := []string{row, table, cell, content, name, env, password}
	server := testbed.Postgres(t, 15, testbed.ServerOptions{Password: password})
	server.Exec(t, "postgres", "CREATE DATABASE app")
	// Enough of it to be caught on its way.
	server.Exec(t, "app", "CREATE TABLE "+table+" AS SELECT '"+row+"' || n AS what, repeat(md5(n::text), 20) AS filler FROM generate_series(1, 20000) n")
	w := newWorkplace(t)
	w.write(t, "data/"+name, strings.Repeat(content+"\n", 5000))
	w.write(t, "data/.env", "KEY="+env)
	database := w.path("auth.db")
	if out, err := exec.Command("sqlite3", database, "CREATE TABLE s AS SELECT '"+cell+"' AS what").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	address, err := url.Parse(server.TCPURL("app"))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.User(server.User)
	w.env = append(w.env, "PGPASSWORD="+password)
	store, log := w.path("store"), w.path("holdfast.log")

	var said []string
	for _, args := range [][]string{
		{"doctor", "--source", address.String(), "--to", store, "--recipient", recipient},
		{"backup", "--source", address.String(), "--source", database, "--source", w.path("data"), "--to", store, "--recipient", recipient, "--json"},
		{"backup", "--source", address.String(), "--source", database, "--source", w.path("data"), "--to", store, "--recipient", recipient, "--compression", "none"},
		{"list", "--store", store},
		{"verify", "--store", store, "--identity", w.path("key.txt")},
		{"drill", "--store", store, "--identity", w.path("key.txt"), "--json"},
		{"drill", "--store", store, "--identity", w.path("key.txt")},
		{"config", "show"},
	} {
		said = append(said, w.watched(t, words, append(args, "--log-file", log)...))
	}
	for _, word := range words {
		for _, text := range said {
			if strings.Contains(text, word) {
				t.Errorf("%s was printed:\n%s", word, text)
			}
		}
	}
	// A wrong password is not repeated either.
	w.env = append(slices.DeleteFunc(w.env, func(pair string) bool { return strings.HasPrefix(pair, "PGPASSWORD=") }), "PGPASSWORD=wrong-"+password)
	o := w.run(t, "backup", "--source", address.String(), "--to", store, "--recipient", recipient, "--log-file", log)
	o.expect(t, 1, "is wrong")
	if strings.Contains(o.out+o.err, password) {
		t.Errorf("the password was printed:\n%s", o.err)
	}

	if wordIn(t, database, words) != cell || wordIn(t, w.path("data/.env"), words) != env {
		t.Fatal("the search does not find what is there")
	}
	// The reports in the state folder name tables, for their owner alone. Everything else holds no word at all.
	kept := []string{w.path("data"), database, filepath.Join(w.path("state"), "reports")}
	for _, path := range tree(t, w.dir) {
		if slices.ContainsFunc(kept, func(own string) bool { return path == own || strings.HasPrefix(path, own+"/") }) {
			continue
		}
		if found := wordIn(t, path, words); found != "" {
			t.Errorf("%s stands in %s", found, path)
		}
	}
	for _, path := range tree(t, filepath.Join(w.path("state"), "reports")) {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("report %s has mode %v, %v", path, info.Mode(), err)
		}
		if found := wordIn(t, path, []string{row, cell, content, env, password}); found != "" {
			t.Errorf("%s stands in report %s", found, path)
		}
	}
}

// wordIn looks for words in a file as they are, in hexadecimal and in the three alignments of base64.
func wordIn(t *testing.T, path string, words []string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		if bytes.Contains(data, []byte(word)) || bytes.Contains(bytes.ToLower(data), []byte(hex.EncodeToString([]byte(word)))) {
			return word
		}
		for skip := range 3 {
			inner := base64.RawStdEncoding.EncodeToString([]byte(word)[skip : skip+(len(word)-skip)/3*3])
			if bytes.Contains(data, []byte(inner)) {
				return word
			}
		}
	}
	return ""
}

// watched runs holdfast to a good end, looks at it and all its children while they run, and returns what was printed.
func (w workplace) watched(t *testing.T, words []string, args ...string) string {
	t.Helper()
	var said bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	looked, problems := 0, map[string]bool{}
	for {
		select {
		case err := <-ended:
			for problem := range problems {
				t.Errorf("holdfast %s: %s", args[0], problem)
			}
			if err != nil {
				t.Fatalf("holdfast %s: %v\n%s", strings.Join(args, " "), err, said.String())
			}
			if looked == 0 && (args[0] == "backup" || args[0] == "drill") {
				t.Errorf("holdfast %s was never seen running", args[0])
			}
			return said.String()
		case <-time.After(10 * time.Millisecond):
		}
		for _, pid := range family(cmd.Process.Pid) {
			looked++
			arguments, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended by now
			for _, word := range words {
				if bytes.Contains(arguments, []byte(word)) {
					problems[fmt.Sprintf("%s stands in the arguments %q", word, arguments)] = true
				}
			}
			for _, path := range writesTo(pid) {
				if !w.mayWrite(path) {
					problems["a process writes to "+path] = true
				}
			}
		}
	}
}

// mayWrite reports whether a run may write to a file: what is sealed, its own records, and memory.
func (w workplace) mayWrite(path string) bool {
	for _, prefix := range []string{w.path("store") + "/", w.path("state") + "/", w.path("holdfast.log"), "/dev/", "/memfd:"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	// A throwaway server sees its scratch folder, which is in memory, at another path.
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.TMPFS_MAGIC
}

// family lists a process and its descendants.
func family(root int) []int {
	all := []int{root}
	for i := 0; i < len(all); i++ {
		// Every thread has its own children. Any of them may have ended by now.
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// writesTo lists the regular files that a process has open for writing, by the paths that it sees.
func writesTo(pid int) []string {
	var paths []string
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		info, err := os.Stat(fd)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		target, err := os.Readlink(fd)
		if err != nil || !filepath.IsAbs(target) {
			continue
		}
		details, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(fd)))
		if err != nil {
			continue
		}
		var fs unix.Statfs_t
		if unix.Statfs(fd, &fs) == nil && fs.Type == unix.TMPFS_MAGIC {
			continue
		}
		for line := range strings.Lines(string(details)) {
			if flags, found := strings.CutPrefix(line, "flags:"); found {
				if value, err := strconv.ParseInt(strings.TrimSpace(flags), 8, 64); err == nil && value&(unix.O_WRONLY|unix.O_RDWR) != 0 {
					paths = append(paths, target)
				}
			}
		}
	}
	return paths
}
