package schedule_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/internal/schedule"
)

func TestJitter(t *testing.T) {
	due := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	// These may not change: a machine that was updated would run what it ran before the update.
	for _, test := range []struct {
		name string
		most time.Duration
		want string
	}{
		{"orders/backup", 10 * time.Minute, "6m11.693286803s"},
		{"orders/drill", 10 * time.Minute, "5m25.251982149s"},
		{"orders/backup", 1, "0s"},
		{"orders/backup", 0, "0s"},
		{"orders/backup", -time.Hour, "0s"},
	} {
		if got := schedule.Jitter(test.name, due, test.most); got.String() != test.want {
			t.Errorf("%s in %v: %v, want %s", test.name, test.most, got, test.want)
		}
	}
	if schedule.Jitter("a", due, time.Hour) != schedule.Jitter("a", due.In(berlin), time.Hour) {
		t.Error("it depends on the zone")
	}
}

// TestJitterSpreads counts how often each tenth of the time is chosen.
func TestJitterSpreads(t *testing.T) {
	const most, n = 10 * time.Minute, 10_000
	var tenths [10]int
	for i := range n {
		due := date(2026, 1, 1).AddDate(0, 0, i/100)
		j := schedule.Jitter(fmt.Sprintf("job-%d", i%100), due, most)
		if j < 0 || j >= most {
			t.Fatalf("%v is out of range", j)
		}
		tenths[j*10/most]++
	}
	for i, got := range tenths {
		if got < n/10*8/10 || got > n/10*12/10 {
			t.Errorf("tenth %d is chosen %d times of %d", i, got, n)
		}
	}
}
