package retention

import (
	"fmt"
	"strings"
	"time"
)

// Rule says how much of one kind of backup is kept. Counts are of the newest periods that have a backup: they do not look at the
// clock. -1 is without limit; the zero Rule keeps nothing by itself.
type Rule struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	Within                                       time.Duration // counted from the newest complete backup
	Forever                                      bool
}

// String is the rule as people say it: "7 daily, 4 weekly, 12 monthly, yearly for ever".
func (r Rule) String() string {
	if r.Forever {
		return "everything, for ever"
	}
	var parts []string
	if r.Last != 0 {
		parts = append(parts, counted("last", r.Last))
	}
	for _, p := range periods() {
		if n := p.count(r); n != 0 {
			parts = append(parts, counted(p.name, n))
		}
	}
	if r.Within > 0 {
		parts = append(parts, "within "+span(r.Within))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func counted(name string, n int) string {
	if n < 0 {
		return name + " for ever"
	}
	return fmt.Sprintf("%d %s", n, name)
}

func span(d time.Duration) string {
	switch {
	case d%day == 0 && d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}

// Longest is how long the rule may keep a backup while one is made in every period; 0: for ever, or not known, as for a rule that only counts
// the last ones.
func (r Rule) Longest() time.Duration {
	if r.Forever {
		return 0
	}
	longest := r.Within
	for _, p := range periods() {
		n := p.count(r)
		if n < 0 {
			return 0
		}
		longest = max(longest, time.Duration(n)*p.longest)
	}
	return longest
}

// For is the rule that a kind is kept by, and whether that kind is counted apart.
func (p Policy) For(kind Kind) (rule Rule, apart bool) {
	if rule, own := p.Kinds[kind]; own {
		return rule, true
	}
	switch kind {
	case Manual:
		return Rule{Within: manualWithin}, true
	case Safety:
		return Rule{Within: safetyWithin}, true
	}
	return p.Default, false
}

func (p Policy) minAge() time.Duration {
	if p.MinAge > 0 {
		return p.MinAge
	}
	return defaultMinAge
}

func (p Policy) interval() time.Duration {
	if p.Interval > 0 {
		return p.Interval
	}
	return defaultInterval
}

func (p Policy) zone() *time.Location {
	if p.Zone != nil {
		return p.Zone
	}
	return time.UTC
}

// period is one way to cut time. Its start is the same for all times of one period and differs between periods, also where a
// clock is put forward or back.
type period struct {
	name    string
	of      string // what it is called in "not the first of its day"
	longest time.Duration
	count   func(Rule) int
	start   func(time.Time) time.Time // of a time in the policy's zone
	add     func(start time.Time, n int) time.Time
}

// periods are in the order of their length.
func periods() []period {
	return []period{
		{"hourly", "hour", time.Hour, func(r Rule) int { return r.Hourly },
			// The hour that comes twice is two hours: an offset tells them apart. The instant is cut, so a zone of half hours is too.
			func(t time.Time) time.Time {
				return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
			},
			func(s time.Time, n int) time.Time { return s.Add(time.Duration(n) * time.Hour) }},
		{"daily", "day", day, func(r Rule) int { return r.Daily },
			func(t time.Time) time.Time { return dayFrom(t, 0) },
			func(s time.Time, n int) time.Time { return dayFrom(s, n) }},
		{"weekly", "week", 7 * day, func(r Rule) int { return r.Weekly },
			func(t time.Time) time.Time { return dayFrom(t, -(int(t.Weekday())+6)%7) }, // ISO weeks begin on Monday
			func(s time.Time, n int) time.Time { return dayFrom(s, 7*n) }},
		{"monthly", "month", 31 * day, func(r Rule) int { return r.Monthly },
			func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location()) },
			func(s time.Time, n int) time.Time { return s.AddDate(0, n, 0) }},
		{"yearly", "year", 366 * day, func(r Rule) int { return r.Yearly },
			func(t time.Time) time.Time { return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, t.Location()) },
			func(s time.Time, n int) time.Time { return s.AddDate(n, 0, 0) }},
	}
}

// dayFrom is the beginning of the day that is n days after the one of t. It counts days and not hours: where the clock is put
// forward at midnight a day begins at one o'clock, and the one before it does not.
func dayFrom(t time.Time, n int) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+n, 0, 0, 0, 0, t.Location())
}
