package metrics_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"holdfast/internal/health"
)

const (
	prometheusDir = "../../deploy/prometheus"
	dashboardFile = "../../deploy/grafana/holdfast.json"
	alertPages    = "../../docs/runbooks/alerts"
)

// rule is one alert as the file of rules has it.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// page is the word under which the alert has a page.
func (r rule) page() string {
	return strings.TrimSuffix(strings.TrimPrefix(r.Annotations["runbook_url"], "docs/runbooks/alerts/"), ".md")
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func rules(t testing.TB) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(prometheusDir, "holdfast.rules.yml"))), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// alertOf is the name of the alert of an alarm: drill_failed is HoldfastDrillFailed.
func alertOf(alarm health.Alarm) string {
	name := "Holdfast"
	for part := range strings.SplitSeq(string(alarm), "_") {
		name += strings.ToUpper(part[:1]) + part[1:]
	}
	return name
}

// TestEveryAlarmHasARule: with the severity of the alarm, a sentence, and a page that begins with its word.
func TestEveryAlarmHasARule(t *testing.T) {
	severities := map[string]string{"HoldfastDown": "critical", "HoldfastSurveyOld": "critical"}
	pages := map[string]string{"HoldfastDown": "down", "HoldfastSurveyOld": "survey_old"}
	for _, alarm := range health.Alarms() {
		severities[alertOf(alarm)], pages[alertOf(alarm)] = alarm.Severity().String(), string(alarm)
	}
	index := read(t, filepath.Join(alertPages, "README.md"))
	for _, r := range rules(t) {
		want, known := severities[r.Alert]
		if !known {
			t.Errorf("%s is no alarm, or is there twice", r.Alert)
			continue
		}
		delete(severities, r.Alert)
		if r.Labels["severity"] != want || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.page() != pages[r.Alert] {
			t.Errorf("%s: severity %s, %v; want %s and docs/runbooks/alerts/%s.md", r.Alert, r.Labels["severity"], r.Annotations, want, pages[r.Alert])
		}
		text := read(t, filepath.Join(alertPages, pages[r.Alert]+".md"))
		severity := strings.ToUpper(want[:1]) + want[1:]
		if !strings.HasPrefix(text, "# "+pages[r.Alert]+": ") || !strings.Contains(text, "**"+severity+": act ") || strings.Count(text, "```sh\n") == 0 {
			t.Errorf("the page of %s does not begin with its word, tells another severity, or has no command", r.Alert)
		}
		if row := "| [" + pages[r.Alert] + "](" + pages[r.Alert] + ".md) | " + r.Alert + " | " + want + " |"; !strings.Contains(index, row) {
			t.Errorf("the index of pages has no %s", row)
		}
	}
	for alert := range severities {
		t.Errorf("%s has no rule", alert)
	}
}

// TestRules: Prometheus' and Alertmanager's own tools take all files, and see every alert fire and not fire.
func TestRules(t *testing.T) {
	for _, args := range [][]string{
		{"promtool", "check", "rules", "holdfast.rules.yml"},
		{"promtool", "check", "config", "scrape.example.yml"},
		{"promtool", "test", "rules", "holdfast.rules.test.yml"},
		{"amtool", "check-config", "alertmanager.example.yml"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = prometheusDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestEveryRuleIsTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Alerts []struct {
				Name string           `yaml:"alertname"`
				Want []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(prometheusDir, "holdfast.rules.test.yml"))), &file); err != nil {
		t.Fatal(err)
	}
	firing, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, alert := range test.Alerts {
			firing[alert.Name] = firing[alert.Name] || len(alert.Want) > 0
			silent[alert.Name] = silent[alert.Name] || len(alert.Want) == 0
		}
	}
	for _, r := range rules(t) {
		if !firing[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: seen firing: %t, seen not firing: %t", r.Alert, firing[r.Alert], silent[r.Alert])
		}
	}
}

// TestRoutes: who is told of what by the example for Alertmanager.
func TestRoutes(t *testing.T) {
	for labels, want := range map[string]string{
		"alertname=HoldfastStale severity=critical job=app": "pager",
		"alertname=HoldfastSize severity=warning job=app":   "mail",
		"alertname=HoldfastDown severity=critical":          "pager",
		"alertname=DiskOnFire severity=critical":            "mail",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=alertmanager.example.yml"}, strings.Fields(labels)...)
		cmd := exec.Command("amtool", args...)
		cmd.Dir = prometheusDir
		if got, err := cmd.Output(); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s goes to %q, %v; want %s", labels, got, err, want)
		}
	}
}

var metricName = regexp.MustCompile(`\bholdfast_[a-z_]+\b`)

// TestNamesExist: what rules and dashboard ask for is on the page.
func TestNamesExist(t *testing.T) {
	s := newSet()
	judged(s, goldenState())
	known := map[string]bool{}
	for _, line := range strings.Split(scrape(t, s), "\n") {
		if name, is := strings.CutPrefix(line, "# TYPE "); is {
			known[strings.TrimSuffix(name, " gauge")] = true
		}
	}
	var asked []string
	for _, r := range rules(t) {
		asked = append(asked, metricName.FindAllString(r.Expr, -1)...)
	}
	asked = append(asked, metricName.FindAllString(read(t, filepath.Join(prometheusDir, "holdfast.rules.test.yml")), -1)...)
	for _, query := range queries(t) {
		asked = append(asked, metricName.FindAllString(query, -1)...)
	}
	if len(asked) < 100 {
		t.Errorf("only %d names found: this test looks at nothing", len(asked))
	}
	for _, name := range asked {
		if !known[name] {
			t.Errorf("%s is not on the page", name)
		}
	}
}

// queries are all expressions of the dashboard: those of panels, and those of variables as the series that they read.
func queries(t testing.TB) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct {
				Name, Type string
				Definition string
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, panel := range dashboard.Panels {
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, variable := range dashboard.Templating.List {
		if variable.Type != "query" {
			continue
		}
		match := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(variable.Definition)
		if match == nil {
			t.Errorf("variable %s is no label_values(series, label): %s", variable.Name, variable.Definition)
			continue
		}
		all = append(all, match[1]+"{"+match[2]+`!=""}`)
	}
	return all
}
