package metrics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/metrics"
	"holdfast/internal/testbed"
)

// patience bounds every wait for a condition; all of them together take seconds.
const patience = 40 * time.Second

// breakage makes one alarm true, of a job or a volume of its own where it is about one.
type breakage struct {
	alarm  health.Alarm
	job    func(j *health.Job, now time.Time)
	volume func(v *health.Volume, now time.Time)
	host   func(s *health.State, now time.Time)
	store  string       // of the alert
	also   health.Alarm // of the same volume; "": none
}

func breakages() []breakage {
	newest := func(j *health.Job) *health.Backup { return &j.Backups[len(j.Backups)-1] }
	drilled := func(verdict holdfast.Verdict) func(j *health.Job, now time.Time) {
		return func(j *health.Job, now time.Time) {
			j.Proofs = append(j.Proofs, health.Proof{Time: now.Add(-time.Hour), Backup: newest(j).ID, Verdict: verdict, Trusted: true})
		}
	}
	return []breakage{
		{alarm: health.Stale, job: func(j *health.Job, _ time.Time) {
			const older = -30 * time.Hour
			for i := range j.Backups {
				j.Backups[i].Time = j.Backups[i].Time.Add(older)
			}
			for i := range j.Places {
				j.Places[i].Newest = j.Places[i].Newest.Add(older)
			}
			j.RPO = 0
		}},
		{alarm: health.RunFailed, job: func(j *health.Job, now time.Time) {
			j.Tasks[0].Attempt, j.Tasks[0].Result = now.Add(-time.Minute), "failed"
		}},
		{alarm: health.Incomplete, job: func(j *health.Job, now time.Time) {
			j.Backups = append(j.Backups, health.Backup{ID: "3t7k2m4p6q8r", Kind: "full", Time: now.Add(-time.Hour)})
		}},
		{alarm: health.CopyMissing, store: "away", job: func(j *health.Job, now time.Time) { j.Places[1].Newest = now.Add(-27 * time.Hour) }},
		{alarm: health.StoreDown, store: "away", job: func(j *health.Job, _ time.Time) {
			j.Places[1] = health.Place{Store: "away", Down: "connection refused"}
		}},
		{alarm: health.SizeOdd, job: func(j *health.Job, _ time.Time) {
			newest(j).Items = []health.Item{{Source: "db", Name: "dump", Plain: 9, Stored: 9}, {Source: "data", Name: "tar", Plain: 1_000_000, Stored: 500_000}}
		}},
		{alarm: health.DurationOdd, job: func(j *health.Job, _ time.Time) { newest(j).Took = time.Hour }},
		{alarm: health.DrillOverdue, job: func(j *health.Job, now time.Time) { j.Proofs[0].Time = now.Add(-200 * time.Hour) }},
		{alarm: health.DrillFailed, job: drilled(holdfast.Failed)},
		{alarm: health.DrillImpossible, job: drilled(holdfast.CannotTest)},
		{alarm: health.ObjectiveMissed, job: func(j *health.Job, _ time.Time) { j.RTO = time.Minute }},
		{alarm: health.VerifyFailed, store: "away", job: func(j *health.Job, _ time.Time) { j.Places[1].Damaged = 1 }},
		{alarm: health.PruneBlocked, store: "main", job: func(j *health.Job, now time.Time) {
			j.Places[0].Blocked, j.Places[0].Since = "the newest run failed", now
		}},
		{alarm: health.RecipientUnknown, job: func(j *health.Job, _ time.Time) { j.Recipient = []string{"age1unknown"} }},
		{alarm: health.ClockOff, job: func(j *health.Job, now time.Time) {
			j.Backups = append(j.Backups, health.Backup{ID: "3t7k2m4p6q8r", Kind: "full", Time: now.Add(time.Hour), Complete: true})
		}},
		{alarm: health.DiskFull, store: "main", host: func(s *health.State, now time.Time) {
			for day := 5; day >= 0; day-- {
				s.Stores[0].Used = append(s.Stores[0].Used, health.Sample{Time: now.AddDate(0, 0, -day), Free: s.Stores[0].Free * int64(day+1) / 2})
			}
		}},
		{alarm: health.KeyDue, host: func(s *health.State, now time.Time) { s.Keys[0].Expires = now.AddDate(0, 0, 10) }},
		{alarm: health.AuditBroken, host: func(s *health.State, _ time.Time) { s.Audit.Broken = "record 7 was changed" }},
		{alarm: health.ConfigChanged, host: func(s *health.State, _ time.Time) { s.Service.Config = "line 3 is refused" }},
		{alarm: health.QueueFailing, host: func(s *health.State, _ time.Time) { s.Service.Queue = "the disk is full" }},
		{alarm: health.ChannelFailing, host: func(s *health.State, _ time.Time) { s.Service.Channels[0].Failed = "timeout" }},
		{alarm: health.VolumeLocked, volume: func(v *health.Volume, _ time.Time) { v.State = health.Locked }},
		{alarm: health.VolumeNotLUKS, volume: func(v *health.Volume, _ time.Time) { v.LUKS = false }},
		{alarm: health.VolumeElsewhere, volume: func(v *health.Volume, _ time.Time) { v.Guarded = false }},
		{alarm: health.VolumeSlots, volume: func(v *health.Volume, _ time.Time) { v.Slots, v.Keys = 1, v.Keys[:1] }},
		{alarm: health.VolumeUnlockFailed, volume: func(v *health.Volume, now time.Time) { v.FailedUnlocks, v.LastFailed = 1, now.Add(-time.Hour) }},
		{alarm: health.VolumeFull, also: health.VolumeFilling, volume: func(v *health.Volume, _ time.Time) { v.Used = v.Size }},
		{alarm: health.VolumeFilling, volume: func(v *health.Volume, _ time.Time) { v.Used = v.Size / 10 * 9 }},
		{alarm: health.VolumeBusy, volume: func(v *health.Volume, now time.Time) { v.Busy, v.BusySince = 1, now.Add(-time.Hour) }},
		{alarm: health.VolumeSlow, volume: func(v *health.Volume, _ time.Time) { v.Latency = time.Second }},
		{alarm: health.VolumeHeaderBackup, volume: func(v *health.Volume, now time.Time) { v.HeaderChanged = now }},
		{alarm: health.VolumeKeyDue, volume: func(v *health.Volume, _ time.Time) { v.Holders = nil }},
		{alarm: health.VolumeMigration, volume: func(v *health.Volume, now time.Time) {
			v.Migration, v.MigrationSince = "watching", now.AddDate(0, 0, -8)
		}},
	}
}

// name is that of the job or the volume that an alarm is tried with.
func (b breakage) name() string { return "with-" + strings.ReplaceAll(string(b.alarm), "_", "-") }

// jobOf is the job that an alarm is tried with.
func (b breakage) jobOf() holdfast.JobName {
	if b.job == nil {
		return ""
	}
	return holdfast.JobName(b.name())
}

// alerts are those that it raises.
func (b breakage) alerts() []string {
	volume := ""
	if b.volume != nil {
		volume = b.name()
	}
	all := []string{about(alertOf(b.alarm), b.alarm.Severity().String(), string(b.jobOf()), b.store, volume)}
	if b.also != "" {
		all = append(all, about(alertOf(b.also), b.also.Severity().String(), "", "", volume))
	}
	return all
}

// states returns one in which all is well, and one in which everything is broken.
func states(t *testing.T, now time.Time) (well, broken health.State) {
	t.Helper()
	var jobs []holdfast.JobName
	for _, b := range breakages() {
		if b.job != nil {
			jobs = append(jobs, b.jobOf())
		}
	}
	well, broken = wellState(now, jobs...), wellState(now, jobs...)
	for _, b := range breakages() {
		if b.volume == nil {
			continue
		}
		v := wellVolume(b.name(), now)
		well.Volumes = append(well.Volumes, v)
		b.volume(&v, now)
		broken.Volumes = append(broken.Volumes, v)
	}
	if found := health.Judge(well, health.Limits{}); len(found) > 0 {
		t.Fatalf("not all is well: %v", found)
	}
	var tried []health.Alarm
	for _, b := range breakages() {
		tried = append(tried, b.alarm)
		switch {
		case b.host != nil:
			b.host(&broken, now)
		case b.job != nil:
			b.job(&broken.Jobs[slices.Index(jobs, b.jobOf())], now)
		}
	}
	for _, alarm := range health.Alarms() {
		if !slices.Contains(tried, alarm) {
			t.Errorf("alarm %s is not tried", alarm)
		}
	}
	return well, broken
}

// sink is who is told at last: a webhook.
type sink struct {
	heard chan struct{} // something came

	mu    sync.Mutex        // guards what follows
	state map[string]string // "firing" or "resolved", by alert and what it is about
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	for _, alert := range message.Alerts {
		s.state[about(alert.Labels["alertname"], alert.Labels["severity"], alert.Labels["job"], alert.Labels["store"], alert.Labels["volume"])] = alert.Status
		if strings.Contains(fmt.Sprint(alert.Annotations), "<no value>") || alert.Annotations["runbook_url"] == "" {
			s.state["badly annotated: "+fmt.Sprint(alert)] = alert.Status
		}
	}
	s.mu.Unlock()
	select {
	case s.heard <- struct{}{}:
	default:
	}
}

func about(alert, severity, job, store, volume string) string {
	return strings.TrimSpace(strings.Join([]string{alert, severity, job, store, volume}, " "))
}

// await waits until exactly these are in the state, and no other.
func (s *sink) await(t *testing.T, status string, want []string) {
	t.Helper()
	slices.Sort(want)
	limit := time.After(patience)
	for {
		var got []string
		s.mu.Lock()
		for key, now := range s.state {
			if now == status {
				got = append(got, key)
			}
		}
		s.mu.Unlock()
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-s.heard:
		case <-limit:
			t.Fatalf("%s:\n%s\nwant\n%s", status, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// api is a Prometheus server's.
type api string

// get decodes the data of an answer.
func (a api) get(t *testing.T, path string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, string(a)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if body.Status != "success" {
		t.Fatalf("%s: %s", path, body.Error)
	}
	if err := json.Unmarshal(body.Data, into); err != nil {
		t.Fatal(err)
	}
}

// query returns how many series an expression gives, and the value of the first.
func (a api) query(t *testing.T, expr string) (int, string) {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	a.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	if len(data.Result) == 0 {
		return 0, ""
	}
	return len(data.Result), fmt.Sprint(data.Result[0].Value[1])
}

// await waits until an expression gives something.
func (a api) await(t *testing.T, expr string) {
	t.Helper()
	limit := time.After(patience)
	for {
		if n, _ := a.query(t, expr); n > 0 {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			t.Fatalf("%s gives nothing", expr)
		}
	}
}

var forLine = regexp.MustCompile(`(?m)^( +for:) \d+[mh]$`)

// quickRules are the shipped rules with their patience shortened.
func quickRules(t *testing.T) string {
	t.Helper()
	shipped := read(t, filepath.Join(prometheusDir, "holdfast.rules.yml"))
	if n := len(forLine.FindAllString(shipped, -1)); n != len(rules(t)) {
		t.Fatalf("%d of %d rules have a for", n, len(rules(t)))
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(forLine.ReplaceAllString(shipped, "$1 2s")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve shows a Set as a target.
func serve(t *testing.T, s *metrics.Set) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

// TestPrometheus breaks everything at once, and sees each alert, and no other, go from the page through a real Prometheus and a real
// Alertmanager to a webhook; and end.
func TestPrometheus(t *testing.T) {
	now := time.Now()
	well, broken := states(t, now)
	told := &sink{heard: make(chan struct{}, 1), state: map[string]string{}}
	hook := httptest.NewServer(told)
	t.Cleanup(hook.Close)
	main, still, gone := newSet(), newSet(), newSet()
	for _, s := range []*metrics.Set{main, still, gone} {
		judged(s, well)
	}
	address := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	goneServer := serve(t, gone)

	manager := testbed.StartAlertmanager(t, fmt.Sprintf(`
route: {receiver: sink, group_by: ['...'], group_wait: 10ms, group_interval: 500ms, repeat_interval: 1h}
receivers: [{name: sink, webhook_configs: [{url: %q, send_resolved: true}]}]
`, hook.URL))
	server := api(testbed.StartPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - job_name: holdfast
    static_configs:
      - targets: [%q, %q, %q]
`, quickRules(t), strings.TrimPrefix(manager, "http://"), address(serve(t, main)), address(serve(t, still)), address(goneServer))))

	// For four scrapes, which is longer than any rule waits, nothing is wrong.
	server.await(t, `count(count_over_time(holdfast_survey_timestamp_seconds[1m]) >= 4) == 3`)
	if n, _ := server.query(t, `ALERTS`); n > 0 {
		t.Errorf("%d alerts where all is well", n)
	}
	everyRuleWorks(t, server)

	judged(main, broken)
	old := well
	old.At = now.Add(-time.Hour)
	judged(still, old)
	goneServer.Close()
	var want []string
	for _, b := range breakages() {
		want = append(want, b.alerts()...)
	}
	down := about("HoldfastDown", "critical", "holdfast", "", "")
	want = append(want, about("HoldfastSurveyOld", "critical", "", "", ""))
	told.await(t, "firing", append(slices.Clone(want), down))

	t.Run("dashboard", func(t *testing.T) { everyPanelShows(t, server) })

	judged(main, well)
	judged(still, well)
	told.await(t, "resolved", want)
	told.await(t, "firing", []string{down})
}

// everyRuleWorks: each was evaluated, without an error.
func everyRuleWorks(t *testing.T, server api) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	server.get(t, "/api/v1/rules", &data)
	seen := 0
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			seen++
			if r.Health != "ok" {
				t.Errorf("rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if seen != len(rules(t)) {
		t.Errorf("Prometheus has %d rules, want %d", seen, len(rules(t)))
	}
}

// everyPanelShows: each expression of the dashboard gives data, for all jobs and stores and for one of each.
func everyPanelShows(t *testing.T, server api) {
	variables := []*strings.Replacer{
		strings.NewReplacer("$job", ".*", "$store", ".*"),
		strings.NewReplacer("$job", string(breakage{alarm: health.SizeOdd, job: func(*health.Job, time.Time) {}}.jobOf()), "$store", "main"),
	}
	for _, query := range queries(t) {
		for _, variable := range variables {
			expr := variable.Replace(query)
			if strings.Contains(expr, "$") {
				t.Errorf("%s has a variable that the dashboard has not", expr)
			} else if n, value := server.query(t, expr); n == 0 || value == "NaN" {
				t.Errorf("%s gives %d series, the first %q", expr, n, value)
			}
		}
	}
}
