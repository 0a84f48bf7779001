package report_test

import (
	"testing"
	"time"

	"holdfast/internal/report"
)

func TestAgainstWhatWasPromised(t *testing.T) {
	for _, c := range []struct {
		measured, promised time.Duration
		want               string
	}{
		{time.Hour, 0, ""},
		{time.Hour, 4 * time.Hour, ", of 4h promised"},
		{4 * time.Hour, 4 * time.Hour, ", of 4h promised"},
		{5 * time.Hour, 4 * time.Hour, ", MORE than the 4h promised"},
		{time.Minute, 90 * time.Minute, ", of 1h30m promised"},
		{time.Second, 10 * time.Second, ", of 10s promised"},
	} {
		if got := report.Against(c.measured, c.promised); got != c.want {
			t.Errorf("%s against %s: %q, want %q", c.measured, c.promised, got, c.want)
		}
	}
}
