package migration

import (
	"testing"
	"time"
)

// TestSlow: a share counts only where it is more than what a machine does besides.
func TestSlow(t *testing.T) {
	o := Options{Overhead: DefaultOverhead}
	for _, test := range []struct {
		before, after time.Duration
		want          bool
	}{
		{time.Second, 1151 * time.Millisecond, true}, {time.Second, 1149 * time.Millisecond, false}, {33 * time.Millisecond, 80 * time.Millisecond, false},
		{33 * time.Millisecond, 84 * time.Millisecond, true}, {time.Second, 500 * time.Millisecond, false}, {0, time.Second, false},
	} {
		if got := o.slow(test.before, test.after); got != test.want {
			t.Errorf("from %s to %s is slow: %v", test.before, test.after, got)
		}
	}
}
