package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestClockBackwards: a clock that goes backwards, by whatever, must not make a new backup older than those before it.
func TestClockBackwards(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.write(t, "data/a.txt", "one")
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	store := w.path("store")
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	backup := []string{"backup", "--source", w.path("data"), "--to", store, "--recipient", recipient}

	w.at(t, noon, backup...).expect(t, 0, "committed")
	w.write(t, "data/a.txt", "two")
	w.at(t, noon.AddDate(-1, 0, 0), backup...).expect(t, 0, "committed",
		"the clock says 2025-03-01T12:00:00Z, but the newest backup is of 2026-03-01T12:00:00Z", "check the clock")
	w.write(t, "data/a.txt", "three")
	// Within the minute nothing is wrong: two runs may come at once.
	if o := w.at(t, noon.Add(time.Second), backup...); strings.Contains(o.err, "clock") {
		t.Errorf("a clock that is right is blamed:\n%s", o.err)
	}

	var times []time.Time
	for line := range strings.Lines(w.at(t, noon.AddDate(-1, 0, 0), "list", "--store", store, "--json").out) {
		var entry struct{ Time time.Time }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		times = append(times, entry.Time)
	}
	if len(times) != 3 || !times[0].Before(times[1]) || !times[1].Before(times[2]) {
		t.Errorf("times of the backups: %v", times)
	}
	// The newest is the one that was made last.
	out := w.path("out")
	w.at(t, noon, "restore", "--latest", "--store", store, "--identity", w.path("key.txt"), "--item", "data.tar", "--to", out).expect(t, 0)
	if o := w.at(t, noon, "restore", "--latest", "--store", store, "--identity", w.path("key.txt"), "--item", "data.tar", "--to", "-"); !strings.Contains(o.out, "three") {
		t.Error("the newest backup does not hold what was there last")
	}
	w.at(t, noon.AddDate(-2, 0, 0), "drill", "--store", store, "--identity", w.path("key.txt")).expect(t, 0, "PROVEN", "RPO 0.0 s")
	w.at(t, noon, "list", "--store", store).expect(t, 0, "proven")
}

// TestKeyExpires: the last day counts, the day after does not, and reading is never refused.
func TestKeyExpires(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.write(t, "data/a.txt", "one")
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	config := w.write(t, "holdfast.yaml", `version: 1
keys:
  ops: {recipient: `+recipient+`, expires: 2026-03-01}
stores:
  main: {kind: local, path: store}
sources:
  data: {kind: files, paths: [data]}
jobs:
  app: {sources: [data], store: main, recipients: [ops]}
`)
	last := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	after := last.AddDate(0, 0, 2)
	w.at(t, last, "backup", "app", "--create-store", "--config", config).expect(t, 0, "committed")
	w.at(t, last, "doctor", "--config", config).expect(t, 0, "key ops expires on 2026-03-01")
	w.at(t, after, "backup", "app", "--config", config).expect(t, 2, "holdfast.yaml:3:", "expire")
	w.at(t, after, "list", "--config", config).expect(t, 0, "app")
	w.at(t, after, "drill", "--config", config, "--identity", w.path("key.txt")).expect(t, 0, "PROVEN")
}
