package cli

import (
	"encoding/json"
	"strings"
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

// TestAlarmOfAVolume: which volume it is stands in a message and in status, for people and for machines.
func TestAlarmOfAVolume(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	f := health.Finding{Alarm: health.VolumeHeaderBackup, Volume: "pg-data", Text: "there is none", Hint: "make one"}
	if m := alarmMessage(d.cfg, noon, alarm.Due{Finding: f}); m.Volume != "pg-data" || m.Job != "" || !strings.HasSuffix(m.Title, ": volume pg-data: volume header backup") {
		t.Errorf("told is %+v", m)
	}
	var out strings.Builder
	d.Out = &out
	show := func() string {
		t.Helper()
		out.Reset()
		if err := d.showState(health.State{At: noon}, []health.Finding{f, {Alarm: health.Stale, Job: "app", Text: "old", Hint: "do"}}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	// The longest word and the shortest leave what follows in one column.
	for _, want := range []string{"\n  warning   volume_header_backup  volume pg-data: there is none\n" + strings.Repeat(" ", 34) + "make one\n", "\n  critical  stale                 job app: old\n"} {
		if text := show(); !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	d.flags.json = true
	var told struct {
		Findings []struct{ Alarm, Job, Volume string }
	}
	if err := json.Unmarshal([]byte(show()), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Findings) != 2 || told.Findings[0].Volume != "pg-data" || told.Findings[0].Job != "" || told.Findings[1].Volume != "" {
		t.Errorf("told is %+v", told)
	}
}
