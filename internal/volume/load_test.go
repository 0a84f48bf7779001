package volume_test

import (
	"testing"
	"time"

	"holdfast/internal/volume"
)

func TestCounters(t *testing.T) {
	got, err := volume.ParseCounters("  100 0 800 250 50 1 400 750 2 600 1010 0 0 0 0 0 0\n")
	if want := (volume.Counters{Requests: 150, Waited: time.Second, Busy: 600 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "1 2 3", "1 2 3 4 5 6 7 8 9 10 x", "1 2 3 -4 5 6 7 8 9 10 11"} {
		if got, err := volume.ParseCounters(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestLoad(t *testing.T) {
	at := today()
	before := volume.Counters{At: at, Requests: 100, Waited: time.Second, Busy: 5 * time.Second}
	for _, test := range []struct {
		name string
		now  volume.Counters
		want volume.Load
	}{
		{"half busy", volume.Counters{At: at.Add(10 * time.Second), Requests: 300, Waited: 3 * time.Second, Busy: 10 * time.Second}, volume.Load{Busy: 0.5, Latency: 10 * time.Millisecond, Span: 10 * time.Second}},
		{"idle", volume.Counters{At: at.Add(time.Second), Requests: 100, Waited: time.Second, Busy: 5 * time.Second}, volume.Load{Span: time.Second}},
		{"busier than time passed", volume.Counters{At: at.Add(time.Second), Requests: 101, Waited: time.Second, Busy: 7 * time.Second}, volume.Load{Busy: 1, Span: time.Second}},
		{"opened anew", volume.Counters{At: at.Add(time.Second), Requests: 3, Waited: time.Second, Busy: 6 * time.Second}, volume.Load{}},
		{"its busy time went back", volume.Counters{At: at.Add(time.Second), Requests: 200, Waited: time.Second, Busy: time.Second}, volume.Load{}},
		{"the same moment", volume.Counters{At: at, Requests: 200, Waited: time.Second, Busy: 6 * time.Second}, volume.Load{}},
		{"a clock that was set back", volume.Counters{At: at.Add(-time.Second), Requests: 200, Waited: time.Second, Busy: 6 * time.Second}, volume.Load{}},
	} {
		if got := test.now.Since(before); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
