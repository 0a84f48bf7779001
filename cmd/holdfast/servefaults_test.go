package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/testbed"
)

// TestServeReload: a configuration that is valid counts from SIGHUP on; one that is not is refused with the place of the mistake, and runs go on
// with the one before, whatever the file holds by then.
func TestServeReload(t *testing.T) {
	t.Parallel()
	s := newSite(t, `, listen: "127.79.1.1:18082"`, "")
	good := fmt.Sprintf(siteConfig, `, listen: "127.79.1.1:18082"`, "")
	early := strings.Replace(good, "0 2 * * *", "0 14 * * *", 1)
	s.configure(t, early)
	v := s.serve(t, time.Date(2026, 3, 2, 1, 59, 50, 0, time.UTC))
	v.says(1, "msg=done") // of the day before, at 14:00
	s.configure(t, good)
	v.signal(syscall.SIGHUP)
	v.says(1, "configuration read anew")
	s.configure(t, strings.Replace(good, "sources: [data]", "sources: [date]", 1))
	v.signal(syscall.SIGHUP)
	v.says(1, `is refused, and the one before stays in force.*holdfast.yaml:6:\d+: .*date`)
	v.says(1, "msg=done task=app/backup due=2026-03-02T02:00:00")
	s.configure(t, good+"\n# a remark\n")
	s.awaitsStatus(t, noon, "config_changed", "is refused, and the service runs with the one before", "holdfast.yaml:6:")
	v.signal(syscall.SIGHUP)
	v.says(2, "configuration read anew")
	awaits(t, "the end of config_changed", func() bool { return !strings.Contains(s.at(t, noon, "status").out, "config_changed") })
	// What is decided once, at the start, and what this service could not do.
	for n, changed := range []string{
		strings.Replace(good, "127.79.1.1", "127.79.1.2", 1),
		strings.Replace(good, "{zone: UTC", `{zone: UTC, queue: {url: "postgres://u@127.79.1.1:1/none"}`, 1),
	} {
		s.configure(t, changed)
		v.signal(syscall.SIGHUP)
		v.says(n+1, "service.queue change when the service is started anew")
	}
	s.configure(t, strings.Replace(good, `, schedule: {backup: "0 2 * * *", verify: never}`, "", 1))
	v.signal(syscall.SIGHUP)
	v.says(1, "no job has a schedule that this service could run")
	v.stop()
}

// TestServeKeepsItsConfiguration: what the service hands on to a run is neither seen nor changed by what that starts.
func TestServeKeepsItsConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	hook := s.script(t, "hook", `touch ran
for fd in /proc/self/fd/*; do
	case $(readlink $fd) in /memfd:*) touch seen; (echo "version: 2" >$fd) 2>/dev/null && touch written ;; esac
done
exit 0
`)
	s.configure(t, fmt.Sprintf(siteConfig, "", fmt.Sprintf(before, hook, s.dir)))
	v := s.serve(t, noon)
	v.says(1, "msg=done task=app/backup")
	v.stop()
	for name, want := range map[string]bool{"ran": true, "seen": false, "written": false} {
		if _, err := os.Stat(s.path(name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServeStall: a run that hangs is ended after a while, with all that it started, and counts as failed; one that works is not.
func TestServeStall(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	const service = ", stall: 2s, retries: 1"
	hook := s.script(t, "hook", "exec sleep 6007\n")
	s.configure(t, fmt.Sprintf(siteConfig, service, fmt.Sprintf(before, hook, s.dir)))
	v := s.serve(t, noon)
	v.says(1, "failed; it is tried again.* attempt=1 .*it showed no sign of life for 2s and was ended")
	v.says(1, "failed; the next time is by the schedule.* attempt=2 .*no sign of life")
	if n := len(processes(t, func(_ int, args []string) bool { return slices.Equal(args, []string{"sleep", "6007"}) })); n != 0 {
		t.Errorf("%d programs of the hook are left", n)
	}
	v.stop()
	if got := s.events(t); !slices.Equal(got, []string{"BACKUP_CREATED good", "BACKUP_FAILED interrupted", "BACKUP_FAILED interrupted"}) {
		t.Errorf("journal: %q", got)
	}

	// It does nothing but use the processor, and that in a program of a program of its own.
	s.script(t, "spin", "end=$(($(date +%s) + 6))\nwhile [ $(date +%s) -lt $end ]; do :; done\n")
	s.script(t, "hook", s.path("spin")+"\n")
	v = s.serve(t, noon.AddDate(0, 0, 1))
	v.says(1, "msg=done task=app/backup .* attempt=1 seconds=[5-9]")
	v.stop()
}

// TestServeQueueFaults: whatever happens to the file of the queue is told in one line, and what is due follows from the schedule.
func TestServeQueueFaults(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	v := s.serve(t, noon)
	v.says(1, "msg=done")
	v.stop()
	queue := s.path("state/serve/queue.db")
	if err := os.WriteFile(queue, []byte(strings.Repeat("garbage ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tomorrow := noon.AddDate(0, 0, 1)
	v = s.serve(t, tomorrow)
	v.says(1, "level=ERROR msg=.the queue's database was damaged and was begun anew.*queue.db.damaged-20260303T120000Z")
	v.says(1, "msg=done task=app/backup due=2026-03-03T02:00:00")
	v.stop()
	if n := v.count("level=ERROR"); n != 1 {
		t.Errorf("%d errors", n)
	}

	// A folder that cannot be written.
	testbed.MountTmpfs(t, s.path("state/serve"), "size=1m")
	if err := unix.Mount("", s.path("state/serve"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	o := s.run(t, "serve")
	o.expect(t, 1, "read-only file system", "hint: choose another state folder with --state")
	if n := strings.Count(o.err, "holdfast: "); n != 1 {
		t.Errorf("%d errors:\n%s", n, o.err)
	}
	if err := unix.Unmount(s.path("state/serve"), 0); err != nil {
		t.Fatal(err)
	}
	v = s.serve(t, tomorrow)
	v.says(1, "msg=serving")
	v.stop()
}

// TestServeWithoutRoom: when the state folder's disk is full, it is told once and to whoever asks for the service's health, and what is due is
// run when there is room again.
func TestServeWithoutRoom(t *testing.T) {
	t.Parallel()
	const service = `, listen: "127.78.1.1:18081"`
	s := newSite(t, service, "")
	testbed.MountTmpfs(t, s.path("state/serve"), "size=4m")
	healthy := func(status int) {
		t.Helper()
		awaits(t, fmt.Sprintf("/healthz with %d", status), func() bool { return get(t, "http://127.78.1.1:18081/healthz") == status })
	}
	v := s.serve(t, time.Date(2026, 3, 3, 1, 59, 50, 0, time.UTC))
	v.says(1, "msg=done task=app/backup due=2026-03-02T02:00:00")
	healthy(200)
	filler, err := os.Create(s.path("state/serve/filler"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = filler.Write(block)
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	healthy(503)
	awaits(t, "the due time", func() bool { return v.count("cannot be told to other commands") > 0 })
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	v.says(1, "the queue can be written again")
	healthy(200)
	v.says(1, "msg=done task=app/backup due=2026-03-03T02:00:00")
	v.stop()
	if n := v.count("the queue cannot be written"); n != 1 {
		t.Errorf("it is said %d times that the queue cannot be written", n)
	}
	if n := v.count("level=ERROR"); n > 2 {
		t.Errorf("%d errors", n)
	}
	if n := s.backups(t); n != 3 {
		t.Errorf("%d backups", n)
	}
}

// TestServeFiveHundred: a configuration of five hundred jobs is served.
func TestServeFiveHundred(t *testing.T) {
	t.Parallel()
	const address = "127.78.1.2:18083"
	s := newSite(t, "", "")
	text := strings.Builder{}
	text.WriteString(fmt.Sprintf(siteConfig, `, listen: "`+address+`"`, ""))
	for i := range 499 {
		fmt.Fprintf(&text, "  job%03d: {sources: [data], store: main, recipients: [ops], schedule: {backup: \"%d %d * * *\"}}\n", i, i%60, i/60)
	}
	s.configure(t, strings.Replace(text.String(), "jobs: {app: {", "jobs:\n  app: {", 1))
	config, err := os.ReadFile(s.path("holdfast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "holdfast.yaml", strings.Replace(string(config), "verify: never}}}\n", "verify: never}}\n", 1))
	v := s.serve(t, noon)
	v.says(1, "msg=serving .*jobs=500")
	v.says(1, "msg=done task=app/backup")
	awaits(t, "/readyz", func() bool { return get(t, "http://"+address+"/readyz") == 200 })
	v.stop()
	if n := v.count("msg=started"); n != 1 {
		t.Errorf("%d runs were started", n)
	}
}

// TestServeDrills: another service with a state folder and an identity of its own proves what the first one backs up, and whoever looks from the
// host of the first sees it; a drill whose signer does not count proves nothing.
func TestServeDrills(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	s.configure(t, strings.Replace(fmt.Sprintf(siteConfig, "", ""), "verify: never", `verify: never, drill: "0 12 * * *", drill_old: never, key_check: "1 0 1 1 *"`, 1))
	justBefore := noon.Add(-4 * time.Second)
	backups := s.serve(t, justBefore, "--tasks", "backups")
	backups.says(1, "msg=done task=app/backup")
	drills := s.serve(t, justBefore, "--tasks", "drills", "--identity", s.path("key.txt"), "--state", s.path("other"))
	drills.says(1, "msg=drilled task=app/drill .*verdict=proven")
	drills.says(1, "msg=done task=app/drill due=2026-03-02T12:00:00")
	backups.stop()
	drills.stop()
	s.left(t)
	if n := backups.count("task=app/drill") + drills.count("task=app/backup"); n != 0 {
		t.Errorf("%d lines are about the other's tasks", n)
	}

	signer := func(state string) string {
		t.Helper()
		key, err := os.ReadFile(s.path(state + "/signer.pub"))
		if err != nil {
			t.Fatal(err)
		}
		return "host " + strings.TrimSpace(string(key)) + "\n"
	}
	s.write(t, "both", signer("state")+signer("other"))
	s.write(t, "one", signer("state"))
	later := noon.Add(time.Hour)
	proven := func(args ...string) bool {
		t.Helper()
		var state struct {
			Jobs []struct {
				Proven, Drilled struct {
					Verdict  string
					Backup   string
					Believed bool
				}
			}
		}
		out := s.at(t, later, append([]string{"status", "--json"}, args...)...).out
		if err := json.Unmarshal([]byte(out), &state); err != nil || len(state.Jobs) != 1 {
			t.Fatalf("%v:\n%s", err, out)
		}
		return state.Jobs[0].Proven.Backup != ""
	}
	for _, c := range []struct {
		args []string
		want bool
	}{{nil, true}, {[]string{"--allowed-signers", s.path("both")}, true}, {[]string{"--allowed-signers", s.path("one")}, false}} {
		if got := proven(c.args...); got != c.want {
			t.Errorf("status %q: proven is %v", c.args, got)
		}
	}
}

// TestVerifyRotates: one call after the other looks at every copy in every store before it looks at one again.
func TestVerifyRotates(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	text := strings.NewReplacer("path: store}}", "path: store}, box: {kind: local, path: box}}", "store: main,", "store: main, mirrors: [box],")
	s.configure(t, text.Replace(fmt.Sprintf(siteConfig, "", "")))
	for day := range 3 {
		s.at(t, noon.AddDate(0, 0, day), "backup", "app", "--create-store").expect(t, 0, "committed")
	}
	at := noon.AddDate(0, 0, 4)
	looks := func() string {
		t.Helper()
		at = at.Add(time.Hour)
		o := s.at(t, at, "verify", "--job", "app", "--rotate")
		o.expect(t, 0, "L1 good")
		match := regexp.MustCompile("looking at ([a-z0-9]+ in store [a-z]+)").FindStringSubmatch(o.err)
		if match == nil {
			t.Fatalf("it does not say at what it looks:\n%s", o.err)
		}
		return match[1]
	}
	const copies = 8 // of four backups
	var order []string
	for range copies {
		order = append(order, looks())
	}
	if len(slices.Compact(slices.Sorted(slices.Values(order)))) != copies {
		t.Errorf("of %d copies it looked at %q", copies, order)
	}
	for i := range copies {
		if got := looks(); got != order[i] {
			t.Errorf("in the second round it looked at %s, want %s", got, order[i])
		}
	}
	// One that is damaged is told, and holds up nothing; what cannot be looked at is left out.
	damaged, _, _ := strings.Cut(order[0], " in store ")
	place := map[bool]string{true: "store", false: "box"}[strings.HasSuffix(order[0], " main")]
	objects, err := filepath.Glob(s.path(place + "/data/app/*" + damaged + "*/data.tar*"))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%q, %v", objects, err)
	}
	data, err := os.ReadFile(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(objects[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(objects[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.at(t, at.Add(time.Hour), "verify", "--job", "app", "--rotate").expect(t, 4, "looking at "+order[0])
	at = at.Add(2 * time.Hour)
	if got := looks(); got != order[1] {
		t.Errorf("after the damaged one it looked at %s, want %s", got, order[1])
	}
	if err := os.Rename(s.path("box"), s.path("away")); err != nil {
		t.Fatal(err)
	}
	if got := looks(); !strings.HasSuffix(got, " main") || strings.HasPrefix(got, damaged+" ") {
		t.Errorf("with one store away it looked at %s", got)
	}
}
