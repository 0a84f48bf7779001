package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed"
)

// noon is the time of day at which most of these stories begin; what was due at two in the night is made up for at once.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// site is a workplace with a configuration: one job "app", backed up at two in the night, and last the day before.
type site struct{ workplace }

// siteConfig is what most stories need; %s is where a story puts its own.
const siteConfig = `version: 1
keys: {ops: {recipient: RECIPIENT}}
service: {zone: UTC, retry_wait: 1s%s}
stores: {main: {kind: local, path: store}}
sources: {data: {kind: files, paths: [data]}}
jobs: {app: {sources: [data], store: main, recipients: [ops]%s, schedule: {backup: "0 2 * * *", verify: never}}}
`

// newSite writes the configuration and makes the first backup. Of hooks nothing is run by that.
func newSite(t *testing.T, service, job string) site {
	t.Helper()
	s := site{newWorkplace(t)}
	s.write(t, "data/a.txt", "one")
	s.write(t, "recipient", strings.TrimSpace(s.good(t, "key", "new", "-o", "key.txt").out))
	s.configure(t, fmt.Sprintf(siteConfig, service, ""))
	s.at(t, noon.AddDate(0, 0, -1), "backup", "--create-store").expect(t, 0, "committed")
	s.configure(t, fmt.Sprintf(siteConfig, service, job))
	return s
}

func (s *site) configure(t *testing.T, text string) {
	t.Helper()
	recipient, err := os.ReadFile(s.path("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	path := s.write(t, "holdfast.yaml", strings.ReplaceAll(text, "RECIPIENT", string(recipient)))
	if at := "HOLDFAST_CONFIG=" + path; !slices.Contains(s.env, at) {
		s.env = append(s.env, at)
	}
}

// script writes a program and returns its path.
func (s site) script(t *testing.T, name, text string) string {
	t.Helper()
	path := s.write(t, name, "#!/bin/sh\n"+text)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// service is a running `holdfast serve`.
type service struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   string // file
	ended chan struct{}
}

// serve starts a service whose clock begins at a time, as does that of each of its runs.
func (s site) serve(t *testing.T, at time.Time, args ...string) *service {
	t.Helper()
	return s.start(t, at, append([]string{"serve"}, args...)...)
}

// start starts a command that goes on.
func (s site) start(t *testing.T, at time.Time, args ...string) *service {
	t.Helper()
	log, err := os.CreateTemp(s.dir, "serve-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := s.command(args...)
	cmd.Env = append(slices.Clone(cmd.Env), storyClock+"="+at.Format(time.RFC3339))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &service{t, cmd, log.Name(), make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is asked later
		close(v.ended)
	}()
	t.Cleanup(func() {
		v.signal(syscall.SIGKILL)
		<-v.ended
		if t.Failed() {
			t.Logf("the service said:\n%s", v.said())
		}
	})
	return v
}

func (v *service) said() string {
	text, err := os.ReadFile(v.log)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(text)
}

func (v *service) signal(s syscall.Signal) {
	_ = v.cmd.Process.Signal(s) // it may have ended
}

// awaits waits until it is so.
func awaits(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this did not come: %s", what)
		}
	}
}

// says waits until a line of its log matches, n times.
func (v *service) says(n int, pattern string) {
	v.t.Helper()
	awaits(v.t, fmt.Sprintf("%d times %s", n, pattern), func() bool { return v.count(pattern) >= n })
}

// awaitsStatus waits until status says all of it: what the service tells others lies a moment behind what it does.
func (s site) awaitsStatus(t *testing.T, at time.Time, texts ...string) {
	t.Helper()
	awaits(t, fmt.Sprintf("%q in status", texts), func() bool {
		out := s.at(t, at, "status").out
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(out, text) })
	})
}

func (v *service) count(pattern string) int {
	return len(regexp.MustCompile(pattern).FindAllString(v.said(), -1))
}

// exits waits for its end.
func (v *service) exits(code int) {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(patience):
		v.t.Fatal("the service did not end")
	}
	if got := v.cmd.ProcessState.ExitCode(); got != code {
		v.t.Fatalf("the service ended with %d, want %d", got, code)
	}
}

func (v *service) stop() {
	v.t.Helper()
	v.signal(syscall.SIGTERM)
	v.exits(0)
}

func get(t *testing.T, address string) (status int) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// runs are the processes that the service started and that run a command of holdfast.
func (v *service) runs(command string) []int {
	v.t.Helper()
	return processes(v.t, func(parent int, args []string) bool {
		return parent == v.cmd.Process.Pid && slices.Contains(args, command)
	})
}

// processes lists those that match.
func processes(t *testing.T, is func(parent int, args []string) bool) []int {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, folder := range folders {
		stat, err := os.ReadFile(filepath.Join(folder, "stat"))
		if err != nil {
			continue // it has ended meanwhile
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		line, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		if is(parent, strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")) {
			pid, err := strconv.Atoi(filepath.Base(folder))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
	}
	return all
}

// left requires that nothing runs any more that has a path of the site among its arguments.
func (s site) left(t *testing.T) {
	t.Helper()
	awaits(t, "the end of all that was started", func() bool {
		return len(processes(t, func(_ int, args []string) bool { return strings.Contains(strings.Join(args, " "), s.dir+"/") })) == 0
	})
}

// backups counts those that are listed.
func (s site) backups(t *testing.T) int {
	t.Helper()
	return strings.Count(s.good(t, "list", "--json").out, "\n")
}

// waiting is a program for hooks that waits until a file "go" is there, and says with "begun" that it waits.
const waiting = "touch begun\nuntil [ -e go ]; do sleep 0.05; done\n"

const before = ", hooks: {backup: {before: [{run: [%q], dir: %q, timeout: 1h}]}}"

func (s site) begun(t *testing.T) {
	t.Helper()
	awaits(t, "the hook", func() bool { _, err := os.Stat(s.path("begun")); return err == nil })
	if err := os.Remove(s.path("begun")); err != nil {
		t.Fatal(err)
	}
}

// slowSite is one whose backups wait for a file "go".
func slowSite(t *testing.T, service string) site {
	t.Helper()
	s := newSite(t, service, "")
	hook := s.script(t, "hook", waiting)
	s.configure(t, fmt.Sprintf(siteConfig, service, fmt.Sprintf(before, hook, s.dir)))
	return s
}

// events lists the journal's events of the job.
func (s site) events(t *testing.T) []string {
	t.Helper()
	var events []string
	for line := range strings.Lines(s.good(t, "audit", "show", "--job", "app", "--json").out) {
		var record struct{ Event, Detail, Result string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		events = append(events, strings.TrimSpace(record.Event+" "+record.Result))
	}
	return events
}

// TestServeStops: what runs is shown; the first SIGTERM waits for it, the second one ends it, and the next start runs again what was ended.
func TestServeStops(t *testing.T) {
	t.Parallel()
	s := slowSite(t, "")
	v := s.serve(t, noon)
	s.begun(t)
	v.says(1, "msg=started task=app/backup due=2026-03-02T02:00:00")
	s.awaitsStatus(t, noon, "backup since", "service: running for", "1 busy, 0 waiting")
	v.signal(syscall.SIGTERM)
	v.says(1, "waiting for what runs")
	if len(v.runs("backup")) != 1 {
		t.Errorf("while it waits these run: %v", v.runs("backup"))
	}
	s.write(t, "go", "")
	v.exits(0)
	v.says(1, "msg=done task=app/backup")
	s.left(t)
	if n := s.backups(t); n != 2 {
		t.Errorf("%d backups", n)
	}
	if o := s.at(t, noon, "status"); strings.Contains(o.out, "service:") || strings.Contains(o.out, "backup since") {
		t.Errorf("it is gone, and status says:\n%s", o.out)
	}

	tomorrow := noon.AddDate(0, 0, 1)
	if err := os.Remove(s.path("go")); err != nil {
		t.Fatal(err)
	}
	v = s.serve(t, tomorrow)
	s.begun(t)
	v.signal(syscall.SIGTERM)
	v.says(1, "waiting for what runs")
	v.signal(syscall.SIGTERM)
	v.exits(0)
	v.says(1, "interrupted; again when the service is back")
	s.left(t)
	if n := s.backups(t); n != 2 {
		t.Errorf("after it was ended there are %d backups", n)
	}

	s.write(t, "go", "")
	v = s.serve(t, tomorrow)
	v.says(1, "msg=started task=app/backup due=2026-03-03T02:00:00.000Z attempt=1")
	v.says(1, "msg=done")
	v.stop()
	if n := s.backups(t); n != 3 {
		t.Errorf("after the next start there are %d backups", n)
	}
	if got := s.events(t); !slices.Equal(got, []string{"BACKUP_CREATED good", "BACKUP_CREATED good", "BACKUP_FAILED interrupted", "BACKUP_CREATED good"}) {
		t.Errorf("journal: %q", got)
	}
}

// TestServeKilled: SIGKILL of the service takes its runs along, and of a run alone is a failure like others. Whatever was left is cleaned up, and
// the run is made up for.
func TestServeKilled(t *testing.T) {
	t.Parallel()
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE DATABASE app")
	server.Exec(t, "app", "CREATE TABLE t AS SELECT 1 AS n")
	s := newSite(t, "", "")
	text := strings.NewReplacer("sources: {data:", "sources: {app: {kind: postgres, url: "+strconv.Quote(server.URL("app"))+"}, data:", "sources: [data]", "sources: [data, app]")
	s.configure(t, text.Replace(fmt.Sprintf(siteConfig, "", "")))
	lock := server.Connect(t, "app")
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	objects := func() int { return filesIn(t, s.path("store/data/app")) }
	whole := objects()
	half := func(what string) {
		t.Helper()
		awaits(t, what+" in its middle", func() bool {
			return objects() > whole && server.Value(t, "app", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND wait_event_type = 'Lock'") != "0"
		})
	}
	sessions := func() {
		t.Helper()
		awaits(t, "the end of all sessions", func() bool {
			return server.Value(t, "app", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'") == "0"
		})
	}

	v := s.serve(t, noon)
	half("the first try")
	v.signal(syscall.SIGKILL)
	<-v.ended
	s.left(t)
	sessions()

	v = s.serve(t, noon)
	v.says(1, "a run was interrupted by the end of its process.* task=app/backup .*attempt=1 of=3")
	v.says(1, "msg=started task=app/backup .*attempt=2")
	half("the second try")
	runs := v.runs("backup")
	if len(runs) != 1 {
		t.Fatalf("these run: %v", runs)
	}
	if err := syscall.Kill(runs[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v.says(1, "it is tried again.*ended by signal killed")
	v.says(1, "msg=started task=app/backup .*attempt=3")
	if err := lock.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.says(1, "msg=done task=app/backup")
	v.stop()
	s.left(t)
	sessions()
	if n, folders := s.backups(t), s.folders(t); n != 2 || folders != 2 {
		t.Errorf("%d backups and %d folders", n, folders)
	}
	events := s.events(t)
	if !slices.Contains(events, "RUN_INTERRUPTED interrupted") || events[len(events)-1] != "BACKUP_CREATED good" {
		t.Errorf("journal: %q", events)
	}
	s.good(t, "audit", "verify")
	s.good(t, "verify", "--level", "L1")
}

// folders counts those with objects of backups.
func (s site) folders(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(s.path("store/data/app/*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
