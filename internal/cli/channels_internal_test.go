package cli

import (
	"testing"
	"time"

	"holdfast/internal/alarm"
	"holdfast/internal/config"
	"holdfast/internal/health"
)

// TestPageOfAnAlarm: whoever gets a message can open the page that it names, wherever the pages were put.
func TestPageOfAnAlarm(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "docs/runbooks/alerts/stale.md",
		"https://wiki.example/backup/": "https://wiki.example/backup/stale.md",
		"/usr/share/doc/holdfast/runbooks/alerts": "/usr/share/doc/holdfast/runbooks/alerts/stale.md",
	} {
		file := "version: 1\n"
		if text != "" {
			file += "alarms: {runbooks: '" + text + "'}\n"
		}
		cfg, err := config.Parse("holdfast.yaml", []byte(file), func(string) (string, bool) { return "", false }, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if m := alarmMessage(cfg, time.Time{}, alarm.Due{Finding: health.Finding{Alarm: health.Stale}}); m.Runbook != want {
			t.Errorf("runbooks %q: read on in %q, want %q", text, m.Runbook, want)
		}
	}
}
