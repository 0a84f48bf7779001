package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

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
	recipient, err := os.ReadFile(s.path("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	path := s.write(t, name+".yaml", strings.ReplaceAll(fmt.Sprintf(fleetConfig, name, queue), "RECIPIENT", string(recipient)))
	s.env = slices.DeleteFunc(slices.Clone(s.env), func(pair string) bool { return strings.HasPrefix(pair, "HOLDFAST_CONFIG=") })
	s.env = append(s.env, "HOLDFAST_CONFIG="+path, "HOLDFAST_STATE="+s.path("state-"+name))
	return s
}

// TestFleet: one machine says what is due, three work. The backup of web2's files is made by web2, drills where the identity is; what a machine
// was at that was killed is done by another.
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
