package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/schedule"
	"holdfast/internal/source"
)

func calendar(t rapid.TB, text string) schedule.Calendar {
	t.Helper()
	c, err := schedule.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dueIn lists when calendars are due in a span of time. What two of them have in common comes once.
func dueIn(from time.Time, days int, calendars ...schedule.Calendar) []time.Time {
	all := map[time.Time]bool{}
	for _, c := range calendars {
		for at := c.Next(from, time.UTC); !at.IsZero() && at.Before(from.AddDate(0, 0, days)); at = c.Next(at, time.UTC) {
			all[at] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), time.Time.Compare)
}

// TestHourlyWithoutFull: the timers of hourly backups are due when the service would make one, and never when a full one is due.
func TestHourlyWithoutFull(t *testing.T) {
	for _, test := range []struct {
		hourly, full string
		want         []string
	}{
		{"@hourly", "0 2 * * *", []string{"0 0-1,3-23 * * *"}},
		{"@hourly", "@daily", []string{"0 1-23 * * *"}},
		{"30 * * * *", "0 2 * * *", []string{"30 * * * *"}},
		{"@hourly", "never", []string{"@hourly"}},
		{"*/30 * * * *", "0 2 * * *", []string{"0,30 0-1,3-23 * * *", "30 2 * * *"}},
		{"0 8-18 * * mon-fri", "0 12 * * *", []string{"0 8-11,13-18 * * 1-5"}},
		{"@hourly", "0 3 * * sun", []string{"0 * * * 1-6", "0 0-2,4-23 * * 0"}},
		{"5 * * * *", "0 3 1 * *", []string{"5 * * * *"}},
		{"0 3 15 * *", "0 3 1 * *", []string{"0 3 15 * *"}},
	} {
		got, err := withoutFull(calendar(t, test.hourly), calendar(t, test.full))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s without %s is %q, want %q; error %v", test.hourly, test.full, got, test.want, err)
		}
	}
	_, err := withoutFull(calendar(t, "@hourly"), calendar(t, "0 3 1 * *"))
	if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "another minute") {
		t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
	}
}

func TestHourlyWithoutFullHolds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		field := func(name string, max int) string {
			return rapid.SampledFrom([]string{"*", "*/2", fmt.Sprint(rapid.IntRange(0, max).Draw(r, name)), fmt.Sprintf("%d-%d", max/4, max/2)}).Draw(r, name)
		}
		// Every minute of every hour makes many cases that are alike, and slow.
		minute := rapid.SampledFrom([]string{"0", "30", "*/15", "0,20"})
		hourly := calendar(r, strings.Join([]string{minute.Draw(r, "hourly's minute"), field("hourly's hour", 23), "*", "*", field("hourly's day", 6)}, " "))
		full := calendar(r, strings.Join([]string{minute.Draw(r, "full's minute"), field("full's hour", 23), "*", "*", field("full's day", 6)}, " "))
		parts, err := withoutFull(hourly, full)
		if err != nil {
			r.Fatal(err)
		}
		var calendars []schedule.Calendar
		for _, part := range parts {
			calendars = append(calendars, calendar(r, part))
		}
		from := time.Date(2027, 3, rapid.IntRange(1, 28).Draw(r, "from"), 0, 0, 0, 0, time.UTC)
		fulls := dueIn(from, 15, full)
		want := slices.DeleteFunc(dueIn(from, 15, hourly), func(at time.Time) bool { return slices.ContainsFunc(fulls, at.Equal) })
		if got := dueIn(from, 15, calendars...); !slices.EqualFunc(got, want, time.Time.Equal) {
			r.Fatalf("%s without %s is %q, which is due %d times instead of %d", hourly, full, parts, len(got), len(want))
		}
	})
}

// TestMirrorsTakeTurns: in each month the timers drill from the mirror that the service would take.
func TestMirrorsTakeTurns(t *testing.T) {
	for _, test := range []struct {
		calendar      string
		mirrors, each int // timers that are due in a month
	}{{"0 5 2 * *", 1, 1}, {"0 5 2 * *", 2, 1}, {"@monthly", 3, 1}, {"0 5 2 * *", 4, 1}, {"0 5 2 * *", 5, 5}, {"0 5 2 1-12 *", 2, 2}} {
		job := config.Job{Name: "app", Schedule: config.Schedule{Times: map[holdfast.Task]schedule.Calendar{holdfast.TaskDrillCopy: calendar(t, test.calendar)}}}
		for i := range test.mirrors {
			job.Mirrors = append(job.Mirrors, config.Store{Name: fmt.Sprintf("mirror%d", i)})
		}
		cfg := &config.Config{Jobs: []config.Job{job}}
		turns, err := turnsOf(cfg, job, holdfast.TaskDrillCopy)
		if err != nil || len(turns) != test.mirrors {
			t.Fatalf("%d mirrors have the timers %+v, error %v", test.mirrors, turns, err)
		}
		for month := range 36 {
			from := time.Date(2026, time.January+time.Month(month), 1, 0, 0, 0, 0, time.UTC).Add(-time.Minute)
			var stores []string
			for _, turn := range turns {
				for range dueIn(from, 27, calendar(t, turn.calendar)) {
					stores = append(stores, turn.args[len(turn.args)-1])
				}
			}
			service, err := taskArguments(cfg, "app", holdfast.TaskDrillCopy, from.AddDate(0, 0, 2))
			if err != nil || len(stores) != test.each || !slices.Contains(stores, service[len(service)-1]) {
				t.Errorf("%s with %d mirrors, %s: timers drill from %q, the service from %q", test.calendar, test.mirrors, from.AddDate(0, 0, 2).Format("2006-01"), stores, service)
			}
		}
	}
}

func TestGoodRunsAreNotMailed(t *testing.T) {
	got, err := unmailed("# a note\nSHELL=/bin/sh\n0 2 * * *  holdfast  /bin/hf backup\n*/10 * * * *  hf notify\n# For root:\n# 0 5 * * 0  /bin/hf drill\n")
	want := "# a note\nSHELL=/bin/sh\n0 2 * * *  holdfast  /bin/hf backup >/dev/null\n*/10 * * * *  hf notify >/dev/null\n# For root:\n# 0 5 * * 0  /bin/hf drill >/dev/null\n"
	if err != nil || got != want {
		t.Errorf("it is %q, error %v", got, err)
	}
	if _, err := unmailed("0 2 * * *  " + strings.Repeat("x", longestLine)); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
		t.Errorf("a line that cron would cut: %v", err)
	}
}

// openFolder is a temporary folder that every user can get into.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for above := dir; above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestEyesOfAnotherUser: what an account can read is found out by the kernel, and root's rights are no help.
func TestEyesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look with the eyes of another user")
	}
	dir := openFolder(t)
	write(t, dir+"/open/a", "x", 0o644)
	write(t, dir+"/mixed/private", "x", 0o600)
	write(t, dir+"/mixed/open", "x", 0o644)
	write(t, dir+"/group/shared", "x", 0o640)
	write(t, dir+"/closed/in/a", "x", 0o644)
	write(t, dir+"/app.db", "x", 0o600)
	for path, group := range map[string]int{dir + "/group/shared": 71235, dir + "/mixed/private": 0} {
		if err := os.Chown(path, 71299, group); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/closed", 0o700); err != nil {
		t.Fatal(err)
	}
	files := func(path string, exclude ...string) config.Source {
		return config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: path}}, Exclude: exclude}}
	}
	who := account{name: "backup", uid: 71234, groups: []int{71234, 71235}}
	for name, test := range map[string]struct {
		src  config.Source
		who  account
		want string // "": it can read everything
	}{
		"all open":            {files(dir + "/open"), who, ""},
		"a private file":      {files(dir + "/mixed"), who, "private cannot be read"},
		"that is left out":    {files(dir+"/mixed", "private"), who, ""},
		"of a group":          {files(dir + "/group"), who, ""},
		"of another group":    {files(dir + "/group"), account{name: "x", uid: 71234, groups: []int{71234}}, "shared cannot be read"},
		"its owner":           {files(dir + "/mixed"), account{name: "x", uid: 71299, groups: []int{1}}, ""},
		"behind a closed one": {files(dir + "/closed/in"), who, "permission denied"},
		"within a closed one": {files(dir), who, "/closed cannot be read"},
		"root without rights": {files(dir + "/mixed"), account{name: "root", uid: 0, groups: []int{0}}, "private cannot be read"},
		"root's own":          {files(dir + "/closed"), account{name: "root", uid: 0, groups: []int{0}}, ""},
		"a database":          {config.Source{Kind: holdfast.KindSQLite, SQLite: config.SQLite{Path: dir + "/app.db"}}, who, "app.db cannot be read"},
		"a missing database":  {config.Source{Kind: holdfast.KindSQLite, SQLite: config.SQLite{Path: dir + "/no.db"}}, who, ""},
		"a server":            {config.Source{Kind: holdfast.KindPostgres}, who, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{}
			closed, err := a.closedTo(t.Context(), &config.Config{}, test.src, test.who)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(closed) > 0 || test.want != "" && !slices.ContainsFunc(closed, func(f source.Finding) bool { return strings.Contains(f.Message, test.want) }) {
				t.Errorf("closed is %+v, want %q", closed, test.want)
			}
		})
	}
	if err := unix.Access(dir+"/closed/in/a", unix.R_OK); err != nil || os.Geteuid() != 0 {
		t.Errorf("this process is not what it was: %v", err)
	}
	unknown, err := accountNamed("no-such-user-of-holdfast")
	if err != nil || unknown.uid != nobodysNumber {
		t.Errorf("an account that is not there is %+v, error %v", unknown, err)
	}
}

// TestDoctorGoesByTheUnits: where units make the backups, it counts what their user can read, and who holds an identity.
func TestDoctorGoesByTheUnits(t *testing.T) {
	dir := openFolder(t)
	units := filepath.Join(dir, "units")
	if found := installedIn(units); found != (installed{}) {
		t.Errorf("without a folder there is %+v", found)
	}
	write(t, units+"/holdfast.service", "[Service]\nExecStart=/bin/hf serve --tasks backups\nUser=no-such-user-of-holdfast\nAmbientCapabilities=\n", 0o644)
	here := installedIn(units)
	if want := (installed{unit: "holdfast.service", user: "no-such-user-of-holdfast"}); here != want {
		t.Errorf("found %+v, want %+v", here, want)
	}
	write(t, dir+"/data/private", "x", 0o600)
	src := config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: dir + "/data"}}}}
	a := &app{Process: Process{Now: time.Now}}
	read := func() []source.Finding {
		return a.readerFindings(t.Context(), &config.Config{}, src, installedIn(units), nil)
	}
	if os.Geteuid() == 0 {
		if got := read(); len(got) != 1 || got[0].Severity != source.Fails || !strings.Contains(got[0].Message, "as whom holdfast.service runs, cannot read all of it") || !strings.Contains(got[0].Fix, "CAP_DAC_READ_SEARCH") {
			t.Errorf("found %+v", got)
		}
	}
	write(t, units+"/holdfast.service", "[Service]\nUser=no-such-user-of-holdfast\nAmbientCapabilities=CAP_DAC_READ_SEARCH\n", 0o644)
	if got := read(); len(got) != 0 {
		t.Errorf("with the right to read, found %+v", got)
	}
	host := func() string { return fmt.Sprint(hostFindings(t.Context(), &config.Config{}, nil, installedIn(units))) }
	if got := host(); strings.Contains(got, "holds an identity") || !strings.Contains(got, "no channel is configured") {
		t.Errorf("found %s", got)
	}
	write(t, units+"/holdfast-app-drill.service", "[Service]\nExecStart=/bin/hf drill --identity \"/etc/hold fast/100%%.txt\" --config x\nUser=root\n", 0o644)
	if got := host(); !strings.Contains(got, "holds an identity too") || !strings.Contains(got, "/etc/hold fast/100%.txt") {
		t.Errorf("found %s", got)
	}
	if err := os.Remove(units + "/holdfast.service"); err != nil {
		t.Fatal(err)
	}
	if got := host(); strings.Contains(got, "holds an identity") {
		t.Errorf("on a machine that only drills, found %s", got)
	}
}

func TestUnreadableFixIsThatOfTheSource(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look with the eyes of another user")
	}
	dir := openFolder(t)
	write(t, dir+"/private", "x", 0o600)
	closed, err := (&app{}).closedTo(t.Context(), &config.Config{}, config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: dir}}}},
		account{name: "x", uid: 71234, groups: []int{71234}})
	if err != nil || len(closed) != 1 || !strings.HasPrefix(closed[0].Fix, unreadableFix) {
		t.Errorf("closed is %+v, error %v: doctor would not know it for what it is", closed, err)
	}
}
