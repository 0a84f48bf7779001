package alarm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast/internal/alarm"
	"holdfast/internal/health"
)

var (
	stale = health.Finding{Alarm: health.Stale, Job: "app", Text: "old", Hint: "do"}
	size  = health.Finding{Alarm: health.SizeOdd, Job: "app", What: "db/dump", Text: "small", Hint: "look"}
)

// diary is a book that is looked at again and again, through its encoded form, by somebody who takes everything.
type diary struct {
	t     *testing.T
	book  alarm.Book
	now   time.Time
	p     alarm.Policy
	every time.Duration
	deaf  bool // nobody takes anything
}

// newDiary returns one that is looked at every five minutes.
func newDiary(t *testing.T) *diary {
	return &diary{t: t, now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), every: 5 * time.Minute}
}

// pass passes so much time with the findings, and returns what was told, each with the time since the beginning of the day.
func (d *diary) pass(span time.Duration, findings ...health.Finding) []string {
	d.t.Helper()
	var told []string
	for end := d.now.Add(span); d.now.Before(end); d.now = d.now.Add(d.every) {
		data, err := json.Marshal(d.book)
		if err != nil {
			d.t.Fatal(err)
		}
		d.book = alarm.Book{}
		if err := json.Unmarshal(data, &d.book); err != nil {
			d.t.Fatal(err)
		}
		for _, due := range d.book.Look(d.now, findings, d.p) {
			word := "begins"
			switch {
			case due.Ended:
				word = "ended after " + due.Lasted.String()
			case due.Again:
				word = "lasts for " + due.Lasted.String()
			}
			if due.Often {
				word += ", often"
			}
			told = append(told, fmt.Sprintf("%s %s %s", d.now.Format("02 15:04"), due.Finding.Alarm, word))
			if !d.deaf {
				d.book.Took(due, d.now)
			}
		}
	}
	return told
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOneAlarm(t *testing.T) {
	d := newDiary(t)
	expect(t, d.pass(time.Hour))
	expect(t, d.pass(50*time.Hour, stale), "22 01:00 stale begins", "23 01:00 stale lasts for 24h0m0s", "24 01:00 stale lasts for 48h0m0s")
	expect(t, d.pass(24*time.Hour), "24 03:10 stale ended after 49h55m0s")
	expect(t, d.pass(30*time.Hour))
	if len(d.book.Entries) != 0 {
		t.Errorf("remembers %v", d.book.Entries)
	}
}

// What is gone for a moment, as when a store is restarted, is neither ended nor begun anew.
func TestShortAbsence(t *testing.T) {
	d := newDiary(t)
	expect(t, d.pass(time.Hour, stale), "22 00:00 stale begins")
	expect(t, d.pass(10*time.Minute))
	expect(t, d.pass(time.Hour, stale))
}

func TestFlapping(t *testing.T) {
	d := newDiary(t)
	var told []string
	for range 10 {
		told = append(told, d.pass(30*time.Minute, size)...)
		told = append(told, d.pass(30*time.Minute)...)
	}
	expect(t, told,
		"22 00:00 size begins", "22 00:40 size ended after 25m0s",
		"22 01:00 size begins", "22 01:40 size ended after 25m0s",
		"22 02:00 size begins, often")
	expect(t, d.pass(7*time.Hour), "22 15:25 size ended after 7h25m0s, often")
}

// Whoever looks seldom sees no alarm come and go that lasts, and its end at the first look without it.
func TestSeldomLooks(t *testing.T) {
	d := newDiary(t)
	d.every = 20 * time.Minute
	expect(t, d.pass(10*time.Hour, stale), "22 00:00 stale begins")
	expect(t, d.pass(time.Hour), "22 10:00 stale ended after 9h40m0s")
	expect(t, d.pass(time.Hour, stale), "22 11:00 stale begins")
	expect(t, d.pass(time.Hour), "22 12:00 stale ended after 40m0s")
	expect(t, d.pass(time.Hour, stale), "22 13:00 stale begins, often")
}

func TestQuietHours(t *testing.T) {
	d := newDiary(t)
	d.p.Quiet = true
	expect(t, d.pass(2*time.Hour, size, stale), "22 00:00 stale begins")
	d.p.Quiet = false
	expect(t, d.pass(time.Hour, size, stale), "22 02:00 size begins")
	d.p.Quiet = true
	expect(t, d.pass(2*time.Hour, stale))
	d.p.Quiet = false
	expect(t, d.pass(time.Hour, stale), "22 05:00 size ended after 2h55m0s")
	// What began and ended in quiet hours was nothing.
	d.p.Quiet = true
	d.pass(time.Hour, stale, health.Finding{Alarm: health.PruneBlocked, Text: "x", Hint: "y"})
	d.pass(time.Hour, stale)
	d.p.Quiet = false
	expect(t, d.pass(time.Hour, stale))
}

// What nobody takes stays due.
func TestDeafChannels(t *testing.T) {
	d := newDiary(t)
	d.deaf = true
	if told := d.pass(time.Hour, stale); len(told) != 12 {
		t.Errorf("told %d times in an hour of five minutes each: %q", len(told), told)
	}
	d.deaf = false
	expect(t, d.pass(time.Hour, stale), "22 01:00 stale begins")
	d.deaf = true
	if told := d.pass(30 * time.Minute); len(told) != 4 {
		t.Errorf("that it ended is told %d times: %q", len(told), told)
	}
	d.deaf = false
	expect(t, d.pass(time.Hour), "22 02:30 stale ended after 1h55m0s")
}

func TestClockSetBack(t *testing.T) {
	d := newDiary(t)
	d.pass(time.Hour, stale)
	d.now = d.now.Add(-365 * 24 * time.Hour)
	expect(t, d.pass(time.Hour, stale), "22 01:00 stale lasts for -8759h0m0s")
}

// Whatever comes and goes: an alarm is told of before its end is, ends are not told twice, and what holds for a day was told.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var book alarm.Book
		now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		all := []health.Finding{stale, size, {Alarm: health.KeyDue, What: "k", Text: "x", Hint: "y"}}
		open := map[string]bool{}
		since := map[string]time.Time{}
		lastTold := map[string]time.Time{}
		for range rapid.IntRange(1, 300).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "minutes")) * time.Minute)
			var findings []health.Finding
			for _, f := range all {
				if rapid.Bool().Draw(t, "holds") {
					findings = append(findings, f)
					if since[f.Key()].IsZero() {
						since[f.Key()] = now
					}
				} else {
					delete(since, f.Key())
				}
			}
			for _, due := range book.Look(now, findings, alarm.Policy{}) {
				key := due.Finding.Key()
				switch {
				case due.Ended && !open[key]:
					t.Fatalf("%s ended and was never told", key)
				case !due.Ended && due.Again != open[key]:
					t.Fatalf("%s: again %v, and it was told: %v", key, due.Again, open[key])
				}
				open[key] = !due.Ended
				lastTold[key] = now
				book.Took(due, now)
			}
			for key, at := range since {
				if now.Sub(at) >= 24*time.Hour && now.Sub(lastTold[key]) > 24*time.Hour {
					t.Fatalf("%s holds since %s and was last told at %s, and it is %s", key, at, lastTold[key], now)
				}
			}
			for key := range book.Entries {
				if strings.Count(key, "/") < 3 {
					t.Fatalf("key %q", key)
				}
			}
		}
	})
}
