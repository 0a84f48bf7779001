package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed"
)

// fleetConfig has two jobs: one that any machine may back up, and one whose files are on web2 alone. Drills are due an hour after backups.
const fleetConfig = `version: 1
host: %s
keys: {ops: {recipient: RECIPIENT}}
service: {zone: UTC, retry_wait: 1s, queue: {url: "%s"}}
stores: {main: {kind: local, path: store}}
sources: {data: {kind: files, paths: [data]}}
jobs:
  any: {sources: [data], store: main, recipients: [ops], schedule: {backup: "0 2 * * *", drill: "0 3 * * *"}}
  own: {sources: [data], store: main, recipients: [ops], schedule: {backup: "0 2 * * *", drill: "0 3 * * *", host: web2}}
`

// machine is a host of the fleet: its own state folder, the shared store and queue.
func (s site) machine(t *testing.T, name, queue string) site {
	t.Helper()
	return s.member(t, name, fmt.Sprintf(fleetConfig, name, queue))
}

// member is a host with a state folder and a configuration of its own.
func (s site) member(t *testing.T, name, config string) site {
	t.Helper()
	recipient, err := os.ReadFile(s.path("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	path := s.write(t, name+".yaml", strings.ReplaceAll(config, "RECIPIENT", string(recipient)))
	s.env = slices.DeleteFunc(slices.Clone(s.env), func(pair string) bool { return strings.HasPrefix(pair, "HOLDFAST_CONFIG=") })
	s.env = append(s.env, "HOLDFAST_CONFIG="+path, "HOLDFAST_STATE="+s.path("state-"+name))
	return s
}

// TestFleet: one machine says what is due, three work. The backup of web2's files is made by web2, drills where the identity is.
func TestFleet(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	s := newSite(t, "", "")
	queue := pg.URL("postgres")
	for _, job := range []string{"any", "own"} {
		s.machine(t, "web1", queue).at(t, noon.AddDate(0, 0, -1), "backup", job).expect(t, 0, "committed")
		s.machine(t, "web1", queue).at(t, noon.AddDate(0, 0, -1), "drill", "--job", job, "--identity", s.path("key.txt")).expect(t, 0, "PROVEN")
	}
	// The journal of web1 knows what was done the day before; so what was due in the night is made up for.
	web1 := s.machine(t, "web1", queue).serve(t, noon, "--tasks", "backups")
	web1.says(1, "msg=done task=any/backup")
	web2 := s.machine(t, "web2", queue).start(t, noon, "worker", "--tasks", "backups")
	web2.says(1, "msg=done task=own/backup")
	if n := web1.count("task=own/backup"); n != 0 {
		t.Errorf("web1 ran a backup of web2's files, %d lines", n)
	}
	s.machine(t, "drill1", queue).at(t, noon, "worker", "--tasks", "drills").expect(t, 2, "drills need an identity", "give --identity FILE, or --tasks backups")
	drill1 := s.machine(t, "drill1", queue).start(t, noon, "worker", "--tasks", "drills", "--identity", s.path("key.txt"))
	drill1.says(2, "msg=done task=(any|own)/drill ")
	if n := web1.count("/drill .*started|started task=[a-z]+/drill"); n != 0 {
		t.Errorf("a machine without an identity drilled, %d lines", n)
	}
	for _, v := range []*service{web1, web2, drill1} {
		v.stop()
	}
	out := s.machine(t, "web1", queue).at(t, noon, "list", "--json").out
	if n := strings.Count(out, `"state":"proven"`); n < 3 { // the two of the day before, and at least one since
		t.Errorf("%d backups are proven: %s", n, out)
	}
	s.left(t)
}

// longDrill is a job whose drill lasts for some seconds, in which its throwaway server is up.
const longDrill = `version: 1
host: %s
keys: {ops: {recipient: RECIPIENT}}
service: {zone: UTC, retry_wait: 1s, queue: {url: "%s"}}
stores: {main: {kind: local, path: store}}
sources: {db: {kind: postgres, url: "%s"}}
jobs:
  app:
    sources: [db]
    store: main
    recipients: [ops]
    drill: {scratch: scratch, assertions: [{source: db, sql: "SELECT pg_sleep(%d) IS NOT NULL"}]}
    schedule: {backup: never, verify: never, drill: "%s", drill_old: never, key_check: never}
`

// TestFleetTakesOver: of two machines that drill one is killed while it is at it. The other one does the drill, so much later that both are never
// at it at once, and it is one more try.
func TestFleetTakesOver(t *testing.T) {
	t.Parallel()
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	pg.Exec(t, "postgres", "CREATE DATABASE app")
	pg.Exec(t, "app", "CREATE TABLE t AS SELECT 1 AS n")
	s := newSite(t, "", "")
	testbed.MountTmpfs(t, s.path("scratch"), "size=512m,mode=755")
	scratch := func() int {
		folders, err := os.ReadDir(s.path("scratch"))
		if err != nil {
			t.Fatal(err)
		}
		return len(folders)
	}
	now := time.Now().UTC()
	due := now.Add(-10 * time.Minute).Format("4 15 * * *")
	machine := func(name string, seconds int) site {
		return s.member(t, name, fmt.Sprintf(longDrill, name, pg.URL("postgres"), pg.URL("app"), seconds, due))
	}
	// What was due ten minutes ago is made up for, for the journal knows of the drill of the day before.
	machine("web1", 0).at(t, now.Add(-25*time.Hour), "backup", "app").expect(t, 0, "committed")
	machine("web1", 0).at(t, now.Add(-24*time.Hour), "drill", "--job", "app", "--identity", s.path("key.txt")).expect(t, 0, "PROVEN")

	const started, done = "msg=started task=app/drill ", "msg=done task=app/drill "
	var drills []*service
	for _, name := range []string{"drill1", "drill2"} {
		v := machine(name, 8).start(t, now, "worker", "--tasks", "drills", "--identity", s.path("key.txt"))
		v.says(1, "msg=serving")
		drills = append(drills, v)
	}
	web1 := machine("web1", 8).serve(t, now, "--tasks", "backups")
	var victim, heir *service
	awaits(t, "a drill in its middle", func() bool {
		for i, v := range drills {
			if v.count(started) > 0 && len(v.runs("drill")) > 0 && scratch() > 0 {
				victim, heir = v, drills[1-i]
			}
		}
		return victim != nil
	})
	victim.signal(syscall.SIGKILL)
	<-victim.ended
	killed := time.Now()
	awaits(t, "the end of what the killed one ran", func() bool {
		return len(processes(t, func(_ int, args []string) bool {
			return slices.Contains(args, "drill") && strings.Contains(strings.Join(args, " "), s.dir+"/")
		})) == 0
	})
	if heir.count(started) != 0 {
		t.Fatal("both were at it")
	}

	// It takes a minute and a half in which nobody held the lock, and the looks before and after.
	const most = 5 * time.Minute
	for deadline := killed.Add(most); heir.count(done) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody did the drill within %s", most)
		}
	}
	line := regexp.MustCompile("time=([^ ]+) .*" + started + ".*attempt=2 ").FindStringSubmatch(heir.said())
	if line == nil {
		t.Fatal("the second one is no second try")
	}
	begun, err := time.Parse(time.RFC3339, line[1])
	if err != nil {
		t.Fatal(err)
	}
	if after := begun.Sub(killed); after < 90*time.Second {
		t.Errorf("it was begun anew after %s", after)
	}
	for _, v := range []*service{web1, heir} {
		v.stop()
	}
	const interrupted = "interrupted by the end of its process.* task=app/drill .*attempt=1 "
	if n := web1.count(interrupted) + heir.count(interrupted); n != 1 {
		t.Errorf("it was told %d times that a run was interrupted", n)
	}
	if first, second := victim.count(started), heir.count(started); first != 1 || second != 1 || victim.count(done) != 0 || heir.count(done) != 1 || web1.count(started) != 0 {
		t.Errorf("the killed one began it %d times, the other one %d times", first, second)
	}
	if n := strings.Count(machine("web1", 8).at(t, time.Now(), "list", "--job", "app", "--json").out, `"state":"proven"`); n != 1 {
		t.Errorf("%d backups are proven", n)
	}
	s.left(t)
}
