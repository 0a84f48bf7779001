package metrics_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/metrics"
)

var update = flag.Bool("update", false, "write the golden file anew")

// wellJob is a job that nothing is wrong with at a moment.
func wellJob(name holdfast.JobName, at time.Time) health.Job {
	job := health.Job{
		Name: name, Scheduled: true, Interval: 24 * time.Hour, RPO: 26 * time.Hour, RTO: 4 * time.Hour,
		Places: []health.Place{
			{Store: "main", Copies: 9, Newest: at.Add(-3 * time.Hour), Verified: at.Add(-20 * time.Hour), Pruned: at.Add(-time.Hour)},
			{Store: "away", Copies: 5, Newest: at.Add(-3 * time.Hour)},
		},
		Proofs: []health.Proof{{
			Time: at.Add(-50 * time.Hour), Of: at.Add(-51 * time.Hour), Backup: "7k2m4p6q8r3t", Verdict: holdfast.Proven, Store: "main", Trusted: true, Compared: 4711,
			RTO: 21 * time.Minute, Phases: map[string]float64{"open": 1.5, "start db": 2, "restore db": 1000.25, "restore data": 200, "compare db": 56.25, "boil": 3},
		}},
	}
	for day := 5; day >= 0; day-- {
		job.Backups = append(job.Backups, health.Backup{
			ID: "7k2m4p6q8r3t", Kind: "full", Time: at.Add(-3*time.Hour - time.Duration(day)*24*time.Hour), Complete: true, Stored: 3_000_000, Took: 90 * time.Second,
			Items: []health.Item{{Source: "db", Name: "dump", Plain: 8_000_000, Stored: 2_500_000}, {Source: "data", Name: "tar", Plain: 1_000_000, Stored: 500_000}},
		})
	}
	for _, task := range holdfast.Tasks() {
		t := health.Task{Task: task, Interval: 24 * time.Hour, Next: at.Add(22 * time.Hour)}
		switch {
		case task == holdfast.TaskHourly:
			continue
		case task.BacksUp():
			t.Attempt, t.Success, t.Result, t.Took = at.Add(-3*time.Hour), at.Add(-3*time.Hour), "good", 90*time.Second
		case task.Opens():
			t.Interval, t.Next = 0, time.Time{}
		}
		if task == holdfast.TaskDrill {
			t.Interval, t.Next, t.Attempt, t.Success, t.Took = 168*time.Hour, at.Add(118*time.Hour), at.Add(-50*time.Hour), at.Add(-50*time.Hour), 22*time.Minute
		}
		job.Tasks = append(job.Tasks, t)
	}
	return job
}

// wellVolume is one that nothing is wrong with at a moment.
func wellVolume(name string, at time.Time) health.Volume {
	return health.Volume{
		Name: name, State: health.Mounted, Wanted: true, LUKS: true, Guarded: true, Slots: 2,
		Keys: []health.VolumeKey{{Role: "operational", Created: at.Add(-900 * time.Hour), Checked: at.Add(-300 * time.Hour)}, {Role: "recovery", Created: at.Add(-900 * time.Hour)}},
		Size: 50_000_000_000, Used: 20_000_000_000, Span: 5 * time.Minute, Busy: 0.125, Latency: 800 * time.Microsecond, BaselineLatency: 700 * time.Microsecond,
		Query: 31 * time.Millisecond, BaselineQuery: 30 * time.Millisecond, HeaderBackup: at.Add(-200 * time.Hour), HeaderChanged: at.Add(-900 * time.Hour),
		Holders: []health.VolumeHolder{{Role: "operational"}, {Role: "recovery"}}, HoldersChecked: at.Add(-300 * time.Hour),
	}
}

// wellState is one in which all is well.
func wellState(at time.Time, jobs ...holdfast.JobName) health.State {
	s := health.State{
		At: at, Host: "app1",
		Stores:  []health.Store{{Name: "main", Free: 70_000_000_000}, {Name: "away", Free: -1}},
		Keys:    []health.Key{{Name: "ops", Created: at.Add(-900 * time.Hour), Expires: at.Add(9000 * time.Hour), Checked: at.Add(-300 * time.Hour), Needed: true}, {Name: "old", Created: at.Add(-2000 * time.Hour)}},
		Volumes: []health.Volume{wellVolume("pg-data", at)},
		Audit:   health.Audit{Records: 321, Checked: at.Add(-time.Minute)},
		Service: health.Service{Running: true, Started: at.Add(-400 * time.Hour), Waiting: 2, Busy: 1, Channels: []health.Channel{{Name: "mail ops@example.org"}}},
	}
	for _, name := range jobs {
		s.Jobs = append(s.Jobs, wellJob(name, at))
	}
	return s
}

// judged shows a state with what is wrong with it.
func judged(s *metrics.Set, state health.State) {
	s.Update(state, health.Limits{}, health.Judge(state, health.Limits{}))
}

func newSet() *metrics.Set {
	return metrics.New(metrics.Build{Version: "1.2.3", GoVersion: "go1.26.0"})
}

// scrape asks as Prometheus does, without gzip.
func scrape(t testing.TB, s *metrics.Set) string {
	t.Helper()
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("answered %d, %v", answer.Code, answer.Header())
	}
	return answer.Body.String()
}

var goldenTime = time.Date(2026, 3, 4, 5, 6, 7, 500_000_000, time.UTC)

// goldenState has a job that is well, one that never ran, and one with most that can be wrong.
func goldenState() health.State {
	state := wellState(goldenTime, "app", "bad")
	bad := &state.Jobs[1]
	bad.Backups[len(bad.Backups)-1].Complete = false
	bad.Places[0].Damaged, bad.Places[0].Blocked, bad.Places[0].Since = 1, "the newest run failed", goldenTime
	bad.Places[1] = health.Place{Store: "away", Down: "connection refused"}
	bad.Proofs = append(bad.Proofs, health.Proof{Time: goldenTime.Add(-time.Hour), Backup: "7k2m4p6q8r3t", Verdict: holdfast.Failed, Trusted: true, Compared: 4711, Differ: 3})
	bad.RTO = time.Minute
	state.Jobs = append(state.Jobs, health.Job{Name: "new", Scheduled: true, Paused: true, Interval: time.Hour, Places: []health.Place{{Store: "main"}}})
	state.Service.Channels = append(state.Service.Channels, health.Channel{Name: `chat "ops"`, Failed: "timeout"})
	state.Service.Config = "the file changed"
	state.Volumes = append(state.Volumes, health.Volume{Name: "new", State: health.Locked, Wanted: true, LUKS: true, Slots: 1, Keys: []health.VolumeKey{{Role: "operational"}},
		BusySince: goldenTime, HeaderBackup: goldenTime.Add(-900 * time.Hour), LastFailed: goldenTime, FailedUnlocks: 2, Migration: "watching", MigrationSince: goldenTime.Add(-time.Hour)})
	return state
}

// TestGolden holds the page of a state against the one that was looked at by a person.
func TestGolden(t *testing.T) {
	s := newSet()
	judged(s, goldenState())
	got := scrape(t, s)
	const name = "testdata/golden.prom"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the page is another (-want +got; -update accepts it):\n%s", diff)
	}
}

var series = regexp.MustCompile(`^([a-z_]+)(\{.*\})? (\S+)$`)

// values returns every series with its value, and fails when one is there twice or a line is none.
func values(t testing.TB, text string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		match := series.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("no series: %q", line)
		}
		if _, twice := all[match[1]+match[2]]; twice {
			t.Errorf("twice: %s%s", match[1], match[2])
		}
		all[match[1]+match[2]] = match[3]
	}
	return all
}

// TestSameSeriesWhateverHappened: a job that never ran has every series of one to which everything happened.
func TestSameSeriesWhateverHappened(t *testing.T) {
	names := func(state health.State) []string {
		s := newSet()
		judged(s, state)
		var all []string
		for name := range values(t, scrape(t, s)) {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
	busy, fresh := goldenState(), goldenState()
	for i, job := range fresh.Jobs {
		places := make([]health.Place, len(job.Places))
		for k, place := range job.Places {
			places[k].Store = place.Store
		}
		fresh.Jobs[i] = health.Job{Name: job.Name, Places: places}
	}
	for i, key := range fresh.Keys {
		fresh.Keys[i] = health.Key{Name: key.Name}
	}
	for i, volume := range fresh.Volumes {
		fresh.Volumes[i] = health.Volume{Name: volume.Name}
	}
	fresh.Audit = health.Audit{}
	fresh.Service = health.Service{Channels: fresh.Service.Channels}
	if diff := cmp.Diff(names(busy), names(fresh)); diff != "" {
		t.Errorf("series differ by what happened:\n%s", diff)
	}
}

// TestWithoutVolumes: where none is configured, nothing is said of volumes; where there are, each has its series of each alarm.
func TestWithoutVolumes(t *testing.T) {
	s, state := newSet(), goldenState()
	judged(s, state)
	all := values(t, scrape(t, s))
	for name, want := range map[string]string{
		`holdfast_alarm{alarm="volume_locked",backup_job="",severity="critical",store="",volume="pg-data"}`: "0",
		`holdfast_alarm{alarm="volume_locked",backup_job="",severity="critical",store="",volume="new"}`:     "1",
		`holdfast_volume_state{state="mounted",volume="pg-data"}`:                                           "1",
		`holdfast_volume_state{state="locked",volume="new"}`:                                                "1",
		`holdfast_volume_busy_ratio{volume="pg-data"}`:                                                      "0.125",
		`holdfast_volume_busy_ratio{volume="new"}`:                                                          "NaN",
	} {
		if all[name] != want {
			t.Errorf("%s is %q, want %s", name, all[name], want)
		}
	}
	state.Volumes = nil
	judged(s, state)
	text := strings.ReplaceAll(scrape(t, s), "it has the label volume when it is about one", "")
	if line := regexp.MustCompile(`(?m)^.*volume.*$`).FindString(text); line != "" {
		t.Errorf("without a volume there is %s", line)
	}
}

// TestAlarms: each alarm has a slot from the start, and one that nobody thought of is shown all the same.
func TestAlarms(t *testing.T) {
	s := newSet()
	state := wellState(goldenTime, "app")
	judged(s, state)
	was := values(t, scrape(t, s))
	for _, alarm := range health.Alarms() {
		found := false
		for name, value := range was {
			if strings.HasPrefix(name, `holdfast_alarm{alarm="`+string(alarm)+`",`) {
				found = true
				if value != "0" {
					t.Errorf("%s is %s where all is well", name, value)
				}
			}
		}
		if !found {
			t.Errorf("%s has no series", alarm)
		}
	}
	s.Update(state, health.Limits{}, []health.Finding{{Alarm: health.Stale, Job: "app"}, {Alarm: "new_kind", Store: "main"}, {Alarm: health.KeyDue, What: "ops/age"}, {Alarm: health.KeyDue, What: "ops/check"}})
	now := values(t, scrape(t, s))
	for name, want := range map[string]string{
		`holdfast_alarm{alarm="stale",backup_job="app",severity="critical",store=""}`:         "1",
		`holdfast_alarm{alarm="failed",backup_job="app",severity="critical",store=""}`:        "0",
		`holdfast_alarm{alarm="new_kind",backup_job="",severity="warning",store="main"}`:      "1",
		`holdfast_alarm{alarm="key_due",backup_job="",severity="warning",store=""}`:           "1",
		`holdfast_alarm{alarm="disk_full",backup_job="",severity="warning",store="main"}`:     "0",
		`holdfast_alarm{alarm="store_down",backup_job="app",severity="warning",store="away"}`: "0",
	} {
		if now[name] != want {
			t.Errorf("%s is %q, want %s", name, now[name], want)
		}
	}
}

// TestNewestBackupIsHealths: rules compute ages from the same backup that health goes by, also where stores do not tell of it.
func TestNewestBackupIsHealths(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(job *health.Job)
		want   time.Time
	}{
		{"the stores tell", func(*health.Job) {}, goldenTime.Add(-3 * time.Hour)},
		{"the own store is down, and the mirror is behind", func(job *health.Job) {
			job.Backups, job.Places[0] = job.Backups[:3], health.Place{Store: "main", Down: "no route"}
		}, goldenTime.Add(-3 * time.Hour)},
		{"one lies in the future", func(job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "3t7k2m4p6q8r", Kind: "full", Time: goldenTime.Add(999 * time.Hour), Complete: true})
		}, goldenTime.Add(-3 * time.Hour)},
		{"none", func(job *health.Job) { *job = health.Job{Name: "app"} }, time.Time{}},
	} {
		s, state := newSet(), wellState(goldenTime, "app")
		c.change(&state.Jobs[0])
		judged(s, state)
		last, age := "0", "+Inf"
		if !c.want.IsZero() {
			last, age = fmt.Sprint(float64(c.want.UnixMilli())/1000), fmt.Sprint(goldenTime.Sub(c.want).Seconds())
		}
		all := values(t, scrape(t, s))
		if got := all[`holdfast_backup_last_timestamp_seconds{backup_job="app"}`]; !sameNumber(t, got, last) {
			t.Errorf("%s: the newest backup is of %s, want %s", c.name, got, last)
		}
		if got := all[`holdfast_objective_measured_seconds{backup_job="app",objective="rpo"}`]; !sameNumber(t, got, age) {
			t.Errorf("%s: its age is %s, want %s", c.name, got, age)
		}
		if stale := all[`holdfast_alarm{alarm="stale",backup_job="app",severity="critical",store=""}`]; stale != "0" && !c.want.IsZero() {
			t.Errorf("%s: health finds another age", c.name)
		}
	}
}

func sameNumber(t *testing.T, x, y string) bool {
	t.Helper()
	left, leftErr := strconv.ParseFloat(x, 64)
	right, rightErr := strconv.ParseFloat(y, 64)
	if leftErr != nil || rightErr != nil {
		t.Errorf("%q and %q: no numbers", x, y)
	}
	return left == right
}

// TestBeforeTheFirstState: nothing is known, and nothing pretends to be.
func TestBeforeTheFirstState(t *testing.T) {
	all := values(t, scrape(t, newSet()))
	for name, want := range map[string]string{
		`holdfast_build_info{goversion="go1.26.0",version="1.2.3"}`: "1", "holdfast_survey_timestamp_seconds": "0", "holdfast_audit_ok": "0", "holdfast_service_running": "0",
	} {
		if all[name] != want {
			t.Errorf("%s is %q, want %s", name, all[name], want)
		}
	}
}

// TestNamesFollowTheRules asks Prometheus' own linter, which also reads the whole page strictly.
func TestNamesFollowTheRules(t *testing.T) {
	s := newSet()
	state := goldenState()
	state.Keys[1].Name = "a\"key\\\n\xff with everything" // what ends a label, a line, and what is no UTF-8
	judged(s, state)
	lint := func(text string) string {
		cmd := exec.Command("promtool", "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	if problem := lint(scrape(t, s)); problem != "" {
		t.Error(problem)
	}
	if lint("# HELP holdfast_age_minutes x\n# TYPE holdfast_age_minutes gauge\nholdfast_age_minutes 1\n") == "" {
		t.Error("the linter finds nothing wrong with minutes: this test looks at nothing")
	}
}

func TestHandler(t *testing.T) {
	s := newSet()
	judged(s, goldenState())
	plain := scrape(t, s)
	for _, test := range []struct {
		method, accept string
		code           int
		packed         bool
	}{
		{"GET", "gzip", 200, true}, {"GET", "deflate, GZIP;q=0.8", 200, true}, {"GET", "gzip;q=0", 200, false}, {"GET", "identity", 200, false}, {"GET", "gzip;q=0.000", 200, false},
		{"HEAD", "", 200, false}, {"POST", "", 405, false},
	} {
		request := httptest.NewRequest(test.method, "/metrics", nil)
		request.Header.Set("Accept-Encoding", test.accept)
		recorder := httptest.NewRecorder()
		s.Handler().ServeHTTP(recorder, request)
		answer := recorder.Result()
		if answer.StatusCode != test.code || (answer.Header.Get("Content-Encoding") == "gzip") != test.packed {
			t.Errorf("%s %q: answered %d, %v", test.method, test.accept, answer.StatusCode, answer.Header)
			continue
		}
		body := io.Reader(answer.Body)
		if test.packed {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = unpacked
		}
		got, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case test.method == "HEAD" && (len(got) > 0 || answer.Header.Get("Content-Length") != fmt.Sprint(len(plain))):
			t.Errorf("HEAD: %d bytes, %v", len(got), answer.Header)
		case test.method == "GET" && string(got) != plain:
			t.Errorf("%q: another page", test.accept)
		}
	}
}

func TestTextfile(t *testing.T) {
	s := newSet()
	judged(s, goldenState())
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast.prom")
	for range 2 { // it replaces what is there
		if err := s.WriteTextfile(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != scrape(t, s) {
		t.Errorf("%d bytes, %v: not what a scrape gets", len(got), err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want the file alone", entries, err)
	}
	if err := s.WriteTextfile(filepath.Join(dir, "holdfast.txt")); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
		t.Errorf("another ending: %v", err)
	}
	if err := s.WriteTextfile(filepath.Join(dir, "none", "holdfast.prom")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// TestScrapesDuringUpdates: each page is of one state, never a mixture; run it with -race.
func TestScrapesDuringUpdates(t *testing.T) {
	s := newSet()
	began := goldenTime.Truncate(time.Second)
	state := func(n int) health.State {
		all := wellState(began.Add(time.Duration(n)*time.Hour), "app")
		all.Audit.Records = int64(n)
		return all
	}
	judged(s, state(0))
	path := filepath.Join(t.TempDir(), "holdfast.prom")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				all := values(t, scrape(t, s))
				var n int
				if _, err := fmt.Sscan(all["holdfast_audit_records"], &n); err != nil {
					t.Error(err)
				}
				if got, want := all["holdfast_survey_timestamp_seconds"], fmt.Sprint(began.Add(time.Duration(n)*time.Hour).Unix()); got != want {
					t.Errorf("records of state %d with the time %s", n, got)
				}
			}
		})
	}
	wait.Go(func() {
		for n := range 200 {
			judged(s, state(n))
		}
	})
	wait.Go(func() {
		for range 50 {
			if err := s.WriteTextfile(path); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
}

// largeState has 500 jobs in two stores each.
func largeState() health.State {
	var names []holdfast.JobName
	for n := range 500 {
		names = append(names, holdfast.JobName(fmt.Sprintf("customer-%03d", n)))
	}
	return wellState(goldenTime, names...)
}

// TestManyJobs: 500 jobs are rendered and sent in less than 50 ms, as the best of a few: the machine has other work.
func TestManyJobs(t *testing.T) {
	state := largeState()
	findings := health.Judge(state, health.Limits{})
	s := newSet()
	best := time.Hour
	for range 10 {
		s.Update(state, health.Limits{}, findings)
		runtime.GC()
		began := time.Now()
		text := scrape(t, s)
		best = min(best, time.Since(began))
		if n := strings.Count(text, "\n"); n < 50_000 {
			t.Fatalf("only %d lines", n)
		}
	}
	t.Logf("%s", best)
	if best > 50*time.Millisecond && !raced() {
		t.Errorf("a scrape of 500 jobs takes %s", best)
	}
}

// raced reports whether the race detector makes everything slower.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// BenchmarkScrape measures the first scrape of a new state of 500 jobs, plain and packed, and one of a state that was shown already. What it
// allocates is garbage of the page alone: the answer has a buffer of its own, as a connection has.
func BenchmarkScrape(b *testing.B) {
	state := largeState()
	findings := health.Judge(state, health.Limits{})
	for _, accept := range []string{"", "gzip"} {
		for _, again := range []bool{false, true} {
			b.Run(fmt.Sprintf("gzip=%t/again=%t", accept != "", again), func(b *testing.B) {
				s := newSet()
				s.Update(state, health.Limits{}, findings)
				request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				request.Header.Set("Accept-Encoding", accept)
				b.ReportAllocs()
				body := bytes.NewBuffer(make([]byte, 0, 10<<20))
				for b.Loop() {
					if !again {
						s.Update(state, health.Limits{}, findings)
					}
					body.Reset()
					answer := httptest.NewRecorder()
					answer.Body = body
					s.Handler().ServeHTTP(answer, request)
					b.SetBytes(int64(body.Len()))
				}
			})
		}
	}
}
