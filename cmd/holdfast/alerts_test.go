package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/testbed"
)

// alertSink follows what an Alertmanager sends to it.
type alertSink struct {
	*sink
	state map[string]string // "firing" or "resolved", by alert
}

func (a *alertSink) read(t *testing.T) {
	t.Helper()
	for _, r := range a.took() {
		if r.path != "/alerts" {
			continue
		}
		var message struct {
			Alerts []struct {
				Status              string
				Labels, Annotations map[string]string
			}
		}
		if err := json.Unmarshal([]byte(r.body), &message); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		for _, alert := range message.Alerts {
			l := alert.Labels
			a.state[alertOf(l["alertname"], l["severity"], l["instance"], l["job"], l["store"], l["volume"])] = alert.Status
			if alert.Annotations["runbook_url"] == "" || strings.Contains(fmt.Sprint(alert.Annotations), "<no value>") {
				t.Errorf("badly annotated: %v", alert)
			}
		}
	}
}

// firing are the alerts that fire now.
func (a *alertSink) firing(t *testing.T) []string {
	t.Helper()
	a.read(t)
	maps.DeleteFunc(a.state, func(_, status string) bool { return status != "firing" })
	return slices.Sorted(maps.Keys(a.state))
}

// awaits waits until these alerts fire, and no other one unless more may.
func (a *alertSink) awaits(t *testing.T, want []string, more bool) {
	t.Helper()
	slices.Sort(want)
	got := a.firing(t)
	for deadline := time.Now().Add(patience); ; got = a.firing(t) {
		lacks := slices.ContainsFunc(want, func(alert string) bool { return !slices.Contains(got, alert) })
		if !lacks && (more || len(got) == len(want)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("these fire:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var (
	alertLine = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	forLine   = regexp.MustCompile(`(?m)^( +for:) \d+[mh]$`)
)

// quickRules writes the shipped rules with their patience shortened, and returns the path and the alerts.
func (o *outage) quickRules() (path string, alerts []string) {
	o.t.Helper()
	shipped, err := os.ReadFile("../../deploy/prometheus/holdfast.rules.yml")
	if err != nil {
		o.t.Fatal(err)
	}
	for _, match := range alertLine.FindAllStringSubmatch(string(shipped), -1) {
		alerts = append(alerts, match[1])
	}
	if n := len(forLine.FindAll(shipped, -1)); n != len(alerts) || n == 0 {
		o.t.Fatalf("%d of %d rules have a for", n, len(alerts))
	}
	return o.write(o.t, "rules.yml", forLine.ReplaceAllString(string(shipped), "$1 2s")), alerts
}

// TestAlerts breaks two hosts, in one way for each alert that ships. What their services show is scraped by a real Prometheus, with the
// shipped rules, and each alert, and no other, reaches a sink through a real Alertmanager. What is mended ends.
func TestAlerts(t *testing.T) {
	t.Parallel()
	all, sealed := failures(), volumeFailures()
	told := &alertSink{newSink(t, nil), map[string]string{}}
	o, other := newOutage(t, all, told.sink), newBrokenJournal(t)
	volumes := newVolumes(o, sealed)
	rules, shipped := o.quickRules()
	manager := testbed.StartAlertmanager(t, fmt.Sprintf(`
route: {receiver: sink, group_by: ['...'], group_wait: 10ms, group_interval: 500ms, repeat_interval: 1h}
receivers: [{name: sink, webhook_configs: [{url: %q, send_resolved: true}]}]
`, told.URL+"/alerts"))
	testbed.StartPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - job_name: holdfast
    static_configs:
      - {targets: ["127.79.2.1:18091"], labels: {instance: web1}}
      - {targets: ["127.79.2.2:18092"], labels: {instance: web2}}
`, rules, strings.TrimPrefix(manager, "http://")))

	// What was broken before is seen by the first look, which is an hour old where the clock is slow; what breaks then, by the second one.
	o.v = o.serve(t, time.Now().UTC())
	service := other.serve(t, time.Now().UTC().Add(-time.Hour))
	first := []string{alertOf("HoldfastAuditBroken", "critical", "web2"), alertOf("HoldfastSurveyOld", "critical", "web2")}
	second := []string{alertOf("HoldfastDown", "critical", "web2", "holdfast")}
	tried := []string{"HoldfastAuditBroken", "HoldfastSurveyOld", "HoldfastDown"}
	var slow failure
	o.v.says(1, `level=WARN msg="CRITICAL: job `)
	for _, f := range all {
		tried = append(tried, f.alert)
		switch {
		case f.alert == "HoldfastDuration":
			slow = f // that takes longer
			continue
		case !f.later:
			first = append(first, f.alerts()...)
		case f.begins != nil:
			f.begins(o)
		}
		second = append(second, f.alerts()...)
	}
	for _, f := range sealed {
		tried = append(tried, f.alert)
		first, second = append(first, f.alerts()...), append(second, f.alerts()...)
	}
	tried = append(tried, mountedAlerts()...)
	if slices.Sort(tried); !slices.Equal(tried, slices.Sorted(slices.Values(shipped))) {
		t.Errorf("these are tried:\n%s\nthese ship:\n%s", tried, shipped)
	}
	told.awaits(t, first, true)

	// Whatever was told of a host that is gone is not known any more.
	service.stop()
	told.awaits(t, second, false)
	unmeasured(t, series(t, "http://127.79.2.1:18091/metrics"), len(volumes))

	// With all of it mended, what is left is the run that was slow, and of volumes what cannot be mended here.
	other.change(journalFile, flipped)
	other.serve(t, time.Now().UTC())
	o.now = time.Now().UTC()
	for _, f := range all {
		if o.job = f.name(); f.mends != nil {
			f.mends(o)
		}
	}
	left := slow.alerts()
	for i, f := range sealed {
		if f.mends != nil {
			f.mends(volumes[i])
		}
		left = append(left, f.left()...)
	}
	slow.begins(o)
	told.awaits(t, left, false)
}

// series are the lines of a page about Holdfast: the value of each series by its name and labels.
func series(t *testing.T, address string) map[string]float64 {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "holdfast_") {
			continue
		}
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all[line[:at]] = value
	}
	return all
}

// TestTextfile: what a service writes for node_exporter comes out of a real one as the series that the service shows itself.
func TestTextfile(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	if err := os.Mkdir(s.path("node"), 0o755); err != nil {
		t.Fatal(err)
	}
	const address = "127.79.2.3:18093"
	s.configure(t, fmt.Sprintf(siteConfig, fmt.Sprintf(`, listen: %q, textfile: %q`, address, s.path("node/holdfast.prom")), ""))
	v := s.serve(t, noon)
	v.says(1, "msg=done task=app/backup")
	node := testbed.StartNodeExporter(t, s.path("node"))
	awaits(t, "the look", func() bool { return get(t, "http://"+address+"/readyz") == 200 })
	var page, file map[string]float64
	awaits(t, "a file of the look that is shown", func() bool {
		const looked = "holdfast_survey_timestamp_seconds"
		page, file = series(t, "http://"+address+"/metrics"), series(t, node+"/metrics")
		return page[looked] > 0 && page[looked] == file[looked]
	})
	for name, value := range page {
		if got, is := file[name]; !is || got != value && !(math.IsNaN(got) && math.IsNaN(value)) {
			t.Errorf("%s is %v, and %v in node_exporter, %v", name, value, got, is)
		}
	}
	if len(page) < 100 || len(file) != len(page) {
		t.Errorf("%d series, and %d in node_exporter", len(page), len(file))
	}
	v.stop()
}
