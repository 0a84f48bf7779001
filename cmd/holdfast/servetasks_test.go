package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
)

// everyTask has a time for each kind of task. At noon all are due, but those that make backups: at two times of the day, so that both are made.
const everyTask = `version: 1
keys: {ops: {recipient: RECIPIENT}}
service: {zone: UTC, retry_wait: 1s}
stores: {main: {kind: local, path: store}, box: {kind: local, path: box}}
sources: {data: {kind: files, paths: [data]}}
jobs:
  app:
    sources: [data]
    store: main
    mirrors: [box]
    recipients: [ops]
    keep: {daily: 60}
    schedule:
      backup: "0 2 * * *"
      hourly: "0 11 * * *"
      mirror: "0 12 * * *"
      verify: "0 12 * * *"
      drill: "0 12 * * *"
      drill_copy: "0 12 * * *"
      drill_old: "0 12 * * *"
      key_check: "0 12 * * *"
      prune: "0 12 * * *"
`

// TestServeEveryTask: whatever a job can have on its schedule is done when it is due, by the command that does it, and status knows of each when
// that last went well.
func TestServeEveryTask(t *testing.T) {
	t.Parallel()
	s := site{newWorkplace(t)}
	s.write(t, "data/a.txt", "one")
	s.write(t, "recipient", strings.TrimSpace(s.good(t, "key", "new", "-o", "key.txt").out))
	s.configure(t, everyTask)
	// One that is old enough to be drilled as such, none missing since, for else nothing would be pruned, and one of each kind that tells when
	// backups were last made.
	for day := -17; day < 0; day++ {
		s.at(t, noon.AddDate(0, 0, day), "backup", "app", "--create-store").expect(t, 0, "committed")
	}
	s.at(t, noon.AddDate(0, 0, -1), "backup", "app", "--kind", "hourly").expect(t, 0, "committed")

	begin := noon.Add(-10 * time.Second) // before it is due, however long the start takes
	v := s.serve(t, begin, "--identity", s.path("key.txt"))
	for _, task := range holdfast.Tasks() {
		v.says(1, fmt.Sprintf("msg=done task=app/%s due=", task))
	}
	v.stop()
	s.left(t)
	if n := v.count("level=ERROR|msg=failed|attempt=[2-9]"); n != 0 {
		t.Errorf("%d lines tell of trouble", n)
	}
	for _, task := range holdfast.Tasks() {
		if n := v.count(fmt.Sprintf("msg=started task=app/%s ", task)); n != 1 {
			t.Errorf("%s was started %d times", task, n)
		}
	}

	var state struct {
		Jobs []struct {
			Tasks []struct {
				Task    holdfast.Task
				Success time.Time
				Result  string
			}
		}
	}
	out := s.at(t, noon.Add(time.Hour), "status", "--json").out
	if err := json.Unmarshal([]byte(out), &state); err != nil || len(state.Jobs) != 1 {
		t.Fatalf("%v:\n%s", err, out)
	}
	told := map[holdfast.Task]time.Time{}
	for _, task := range state.Jobs[0].Tasks {
		told[task.Task] = task.Success
	}
	for _, task := range holdfast.Tasks() {
		if success := told[task]; success.Before(begin) {
			t.Errorf("status says that %s last went well at %s", task, success)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestServeMeetsHand: what somebody runs by hand is waited for. That is no failure and no try, and what was due is done afterwards.
func TestServeMeetsHand(t *testing.T) {
	t.Parallel()
	s := slowSite(t, "")
	hand := s.start(t, noon, "backup", "app")
	s.begun(t)
	v := s.serve(t, noon)
	v.says(1, "msg=\"held by another run; again in a minute\" task=app/backup .*attempt=1 ")
	if n := len(v.runs("backup")); n != 0 {
		t.Errorf("%d runs of the service go on beside the one by hand", n)
	}
	s.write(t, "go", "")
	hand.exits(0)
	v.says(1, "msg=done task=app/backup due=2026-03-02T02:00:00.000Z attempt=1 ")
	v.stop()
	s.left(t)
	if n := v.count("msg=started task=app/backup .*attempt=1 "); n != 2 {
		t.Errorf("%d times it was tried for the first time", n)
	}
	if n := v.count("level=ERROR|level=WARN msg=failed|attempt=[2-9]"); n != 0 {
		t.Errorf("%d lines tell of trouble", n)
	}
	if got := s.events(t); !slices.Equal(got, []string{"BACKUP_CREATED good", "BACKUP_CREATED good", "BACKUP_CREATED good"}) {
		t.Errorf("journal: %q", got)
	}
	if n := s.backups(t); n != 3 {
		t.Errorf("%d backups", n)
	}
}
