package unit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/schedule"
	"holdfast/internal/unit"
)

// analyze runs the real systemd-analyze.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("%v: install the package systemd", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// put writes files below root, and returns the paths of units there.
func put(t *testing.T, root string, files []unit.File) (paths []string) {
	t.Helper()
	for _, file := range files {
		path := filepath.Join(root, file.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.Text), file.Mode); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".service") || strings.HasSuffix(path, ".timer") {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestSystemdTakesIt(t *testing.T) {
	for name, o := range cases() {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			// verify looks whether the program is there.
			o.Program = filepath.Join(root, "hold fast")
			if err := os.WriteFile(o.Program, []byte("#!/bin/true\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			paths := put(t, root, all(t, o))
			if len(paths) != 2+2*len(o.Jobs) {
				t.Fatalf("%d units, of %d timers", len(paths), len(o.Jobs))
			}
			for _, path := range paths {
				// It ends with 0 in spite of a directive that it does not know: nothing at all may be said.
				output, err := analyze(t, "verify", "--man=no", "--recursive-errors=yes", path)
				if err != nil || output != "" {
					t.Errorf("verify %s: %v\n%s", filepath.Base(path), err, output)
				}
			}
		})
	}
}

func TestVerifySeesMistakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.service")
	if err := os.WriteFile(path, []byte("[Service]\nExecStart=/bin/true\nReadWritePath=/x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if output, _ := analyze(t, "verify", "--man=no", path); output == "" {
		t.Error("verify says nothing of an unknown directive, so TestSystemdTakesIt proves nothing")
	}
}

// exposures are the scores by systemd 252: of holdfast.service and of holdfast-drill.service. The package's documentation states what
// is least and most.
var exposures = map[string][2]float64{
	"plain": {1.4, 3.4}, "hooks": {1.5, 3.4}, "container": {1.4, 3.6}, "readall": {1.7, 3.5}, "full": {1.9, 3.6}, "root": {2.1, 3.7},
}

func TestExposure(t *testing.T) {
	const most = "25" // the promise, in tenths
	for name, o := range cases() {
		t.Run(name, func(t *testing.T) {
			for _, path := range put(t, t.TempDir(), all(t, o)) {
				base := filepath.Base(path)
				if !strings.HasSuffix(base, ".service") {
					continue
				}
				want, threshold := exposures[name][0], most
				if strings.HasSuffix(base, "drill.service") {
					want, threshold = exposures[name][1], "100"
				}
				output, err := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold="+threshold, path)
				if err != nil {
					t.Errorf("security %s: %v\n%s", base, err, output)
				}
				found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(output)
				if found == nil || found[1] != strconv.FormatFloat(want, 'f', 1, 64) {
					t.Errorf("%s: exposure %q, stated is %.1f\n%s", base, found, want, output)
				}
			}
		})
	}
}

func TestOnCalendar(t *testing.T) {
	const zone = "Europe/Berlin"
	for _, c := range []struct {
		expr, zone string
		want       []string
		base, next string // next is the earliest of all lines, in UTC
	}{
		{"30 2 * * *", "", []string{"*-*-* 02:30:00"}, "2026-01-01 00:00", "2026-01-01 02:30"},
		{"30 2 * * *", zone, []string{"*-*-* 02:30:00 Europe/Berlin"}, "2026-07-01 00:30", "2026-07-02 00:30"},
		{"30 2 * * *", zone, []string{"*-*-* 02:30:00 Europe/Berlin"}, "2026-01-01 00:30", "2026-01-01 01:30"},
		// The hour that comes twice: its first showing.
		{"30 2 * * *", zone, []string{"*-*-* 02:30:00 Europe/Berlin"}, "2026-10-24 12:00", "2026-10-25 00:30"},
		{"30 2 * * *", zone, []string{"*-*-* 02:30:00 Europe/Berlin"}, "2026-10-25 00:30", "2026-10-26 01:30"},
		// The hour that does not come: systemd leaves that day out (see BUG in the package's documentation).
		{"30 2 * * *", zone, []string{"*-*-* 02:30:00 Europe/Berlin"}, "2026-03-28 12:00", "2026-03-30 00:30"},
		{"*/15 * * * *", "", []string{"*-*-* *:00/15:00"}, "2026-01-01 10:46", "2026-01-01 11:00"},
		{"* * * * *", "", []string{"*-*-* *:*:00"}, "2026-01-01 10:46", "2026-01-01 10:47"},
		{"5-20/7 8-18/2 * * *", "", []string{"*-*-* 08,10,12,14,16,18:05,12,19:00"}, "2026-01-01 18:19", "2026-01-02 08:05"},
		{"0 */5 * * *", "", []string{"*-*-* 00,05,10,15,20:00:00"}, "2026-01-01 20:00", "2026-01-02 00:00"},
		{"0 */6 * * *", "", []string{"*-*-* 00/6:00:00"}, "2026-01-01 18:00", "2026-01-02 00:00"},
		// Written as 01/4 it would pass over the first day of the year.
		{"0 0 */4 * *", "", []string{"*-*-01,05,09,13,17,21,25,29 00:00:00"}, "2024-12-29 00:59", "2025-01-01 00:00"},
		{"0 9-17 * * 1-5", "", []string{"Mon,Tue,Wed,Thu,Fri *-*-* 09..17:00:00"}, "2026-01-02 17:00", "2026-01-05 09:00"},
		{"0 0 * * 0", "", []string{"Sun *-*-* 00:00:00"}, "2026-01-01 00:00", "2026-01-04 00:00"},
		{"0 0 * * 7", "", []string{"Sun *-*-* 00:00:00"}, "2026-01-01 00:00", "2026-01-04 00:00"},
		{"0 0 * * fri-SUN", "", []string{"Fri,Sat,Sun *-*-* 00:00:00"}, "2026-01-04 00:00", "2026-01-09 00:00"},
		{"0 0 * * */3", "", []string{"Wed,Sat,Sun *-*-* 00:00:00"}, "2026-01-01 00:00", "2026-01-03 00:00"},
		// Two lines: the 13th, or a Friday.
		{"0 0 13 * 5", "", []string{"*-*-13 00:00:00", "Fri *-*-* 00:00:00"}, "2026-01-12 00:00", "2026-01-13 00:00"},
		{"0 0 13 * 5", "", []string{"*-*-13 00:00:00", "Fri *-*-* 00:00:00"}, "2026-01-13 00:00", "2026-01-16 00:00"},
		{"0 0 31 feb 1", "", []string{"Mon *-02-* 00:00:00"}, "2026-01-01 00:00", "2026-02-02 00:00"},
		// One that begins with * restricts nothing by itself: both must match.
		{"0 0 */2 * mon", "", []string{"Mon *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 00:00:00"}, "2026-01-01 00:00", "2026-01-05 00:00"},
		{"0 0 13 * */5", "", []string{"Fri,Sun *-*-13 00:00:00"}, "2026-01-01 00:00", "2026-02-13 00:00"},
		{"0 2 L * *", "UTC", []string{"*-*~01 02:00:00 UTC"}, "2028-02-01 00:00", "2028-02-29 02:00"},
		{"0 2 L feb *", "", []string{"*-02~01 02:00:00"}, "2026-03-01 00:00", "2027-02-28 02:00"},
		{"0 2 15,L * *", "", []string{"*-*-15 02:00:00", "*-*~01 02:00:00"}, "2026-04-15 02:00", "2026-04-30 02:00"},
		{"0 2 L * mon", "", []string{"*-*~01 02:00:00", "Mon *-*-* 02:00:00"}, "2026-03-30 02:00", "2026-03-31 02:00"},
		{"0 2 l * */2", "", []string{"Tue,Thu,Sat,Sun *-*~01 02:00:00"}, "2026-02-01 00:00", "2026-02-28 02:00"},
		{"0 5 15 1,4,7,10 *", "", []string{"*-01/3-15 05:00:00"}, "2026-01-15 05:00", "2026-04-15 05:00"},
		{"0 0 29 2 *", "", []string{"*-02-29 00:00:00"}, "2026-01-01 00:00", "2028-02-29 00:00"},
		{"0 0 31 jan-JUN/2,dec *", "", []string{"*-01,03,05,12-31 00:00:00"}, "2026-05-31 00:00", "2026-12-31 00:00"},
		{"@hourly", "", []string{"*-*-* *:00:00"}, "2026-01-01 00:00", "2026-01-01 01:00"},
		{"@Daily", zone, []string{"*-*-* 00:00:00 Europe/Berlin"}, "2026-01-01 00:00", "2026-01-01 23:00"},
		{"@weekly", "", []string{"Sun *-*-* 00:00:00"}, "2026-01-01 00:00", "2026-01-04 00:00"},
		{"@monthly", "", []string{"*-*-01 00:00:00"}, "2026-01-01 00:00", "2026-02-01 00:00"},
		{"@quarterly", "", []string{"*-01/3-01 00:00:00"}, "2026-01-01 00:00", "2026-04-01 00:00"},
		{"@yearly", "", []string{"*-01-01 00:00:00"}, "2026-01-01 00:00", "2027-01-01 00:00"},
	} {
		t.Run(c.expr+" "+c.zone+" after "+c.base, func(t *testing.T) {
			got := events(t, must(c.expr), c.zone)
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("it is %q, want %q", got, c.want)
			}
			base, err := time.Parse("2006-01-02 15:04", c.base)
			if err != nil {
				t.Fatal(err)
			}
			if next := elapse(t, got, base); next.Format("2006-01-02 15:04") != c.next {
				t.Errorf("systemd is due at %s, want %s", next, c.next)
			}
		})
	}
}

// events are the calendar events of a timer.
func events(t testing.TB, c schedule.Calendar, zone string) (calendars []string) {
	t.Helper()
	files, err := unit.Timers(unit.Options{Jobs: []unit.Timer{{Name: "x", Args: []string{"backup"}, Calendar: c, Zone: zone}}})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(files[1].Text) {
		if event, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "OnCalendar="); is {
			calendars = append(calendars, event)
		}
	}
	return calendars
}

// elapse is when systemd finds the first of several events due after base.
func elapse(t *testing.T, calendars []string, base time.Time) time.Time {
	t.Helper()
	var first time.Time
	for _, calendar := range calendars {
		output, err := analyze(t, "calendar", "--base-time="+base.UTC().Format("2006-01-02 15:04:05 UTC"), calendar)
		found := regexp.MustCompile(`(?m)^ *(?:Next elapse|\(in UTC\)): \w+ (\S+ \S+) UTC$`).FindStringSubmatch(output)
		if err != nil || found == nil {
			t.Fatalf("calendar %q: %v\n%s", calendar, err, output)
		}
		next, err := time.Parse(time.DateTime, found[1])
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() || next.Before(first) {
			first = next
		}
	}
	return first
}
