package cli

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/health"
	"holdfast/internal/journal"
)

// TestDisksOfHosts: a watchman knows how the disk of a host fills from what its runs recorded, for as long as that is of these days.
func TestDisksOfHosts(t *testing.T) {
	const day = 24 * time.Hour
	filling := &trail{host: "web1"}
	for n := range 10 {
		filling.records.Add(journal.Record{Event: journal.BackupCreated, Job: "app", Store: "main", Time: noon.Add(time.Duration(n-9) * day), Result: "good",
			Figures: map[string]float64{"free": float64(100 - 5*n)}})
	}
	all := trails{"web1-aaaaaaaaaa": filling, "web2-bbbbbbbbbb": {host: "web2"}}
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{time.Hour, []string{"main of web1: it is full in 11 days, if it goes on as in the last 9 days"}},
		{trailFor + time.Hour, nil},
	} {
		at := noon.Add(c.after)
		state := health.State{At: at, Stores: all.disks(at)}
		var got []string
		for _, f := range health.Judge(state, health.Limits{DiskDays: 14}) {
			if f.Alarm == health.DiskFull {
				got = append(got, f.Store+": "+f.Text)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s later: %q, want %q", c.after, got, c.want)
		}
	}
}
