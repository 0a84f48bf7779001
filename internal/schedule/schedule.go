// Package schedule says when something is due: calendar expressions as cron knows them, jitter, and maintenance windows.
//
// It hides the grammar of expressions, the search for the next and the last due time, and what time zones do to clocks. It is pure: no
// clock, no I/O, the same answer on every machine that knows the same rules of a zone. It is not its job to wait, to start anything, to
// remember what has run, or to load zones.
//
// An expression names times on the wall clock of a zone, to the minute. Which instants these are is clear until the clock is changed:
//
//   - Fixed hours (the hour field does not allow all 24) are due at the first instant at which the clock shows that time or a later
//     one. What the clock skips is so due once, at the end of the gap, however many times fell into it; what the clock shows twice is
//     due at its first showing alone. A job of 02:30 runs once on both days on which summer time begins and ends, and @daily once on a
//     day that has no midnight. A day that a zone skips as a whole is made up for at the midnight that ends the gap.
//   - Every hour (the hour field allows all 24, such as *) is due whenever the clock shows that time. A skipped hour is not made up
//     for and a repeated one is due again, so that the time from one run to the next stays what it was.
//
// Its laws, each held against random expressions, zones and instants by a test, and against a model that walks the clock:
//   - Next(t) is later than t, Last(t) is not, and nothing is due between the two.
//   - Last of a due time, and Next of the nanosecond before one, is that due time.
//   - A daily time is due once for every date, in every year and zone; where a zone skips a date, that of 00:00 falls together with the
//     next date's.
//   - What Parse accepts comes true within 40 years; what String returns, Parse reads as the same.
package schedule

import "time"

// Calendar is a calendar expression: a set of due times. The zero Calendar is never due. Two that were written alike are equal. It may be
// used from many goroutines.
type Calendar struct {
	text string

	// Bit n stands for the value n. Among the days, bit 0 is the last one of the month, and Sunday is weekday 0.
	minutes, hours, days, months, weekdays uint64

	either bool // day of month or day of week; otherwise both
}

// String returns the expression as it was written, with single spaces; "never" of the zero Calendar.
func (c Calendar) String() string {
	if c.text == "" {
		return never
	}
	return c.text
}

// IsZero reports whether nothing is ever due.
func (c Calendar) IsZero() bool { return c.minutes == 0 }

// Sets returns what is due of minutes, hours, days of the month, months and days of the week, in this order, to say the same to another
// program: bit n stands for the value n. Bit 0 of the days is the last one of a month, and Sunday is day 0 of the week. With either a day is due
// that is in one of the two sets of days, otherwise it is in both. All sets are empty when nothing is ever due.
func (c Calendar) Sets() (sets [5]uint64, either bool) {
	return [5]uint64{c.minutes, c.hours, c.days, c.months, c.weekdays}, c.either
}

// everyHour reports whether hours that a zone repeats are due again, and those that it skips are not.
func (c Calendar) everyHour() bool { return c.hours == 1<<24-1 }

// Next returns the first due time after after, in zone; nil is UTC. It is the zero time when nothing is ever due.
func (c Calendar) Next(after time.Time, zone *time.Location) time.Time {
	if c.IsZero() {
		return time.Time{}
	}
	k := clock{zone}
	if c.everyHour() {
		return c.nextShown(k, after.Unix()+1)
	}
	due, ok := c.atOrAfter(k.highest(after.Unix()) + 1)
	if !ok {
		return time.Time{}
	}
	return k.time(k.reaches(due))
}

// nextShown returns the first time from from on at which the clock shows a due time.
func (c Calendar) nextShown(k clock, from int64) time.Time {
	for {
		p := k.period(from)
		due, ok := c.atOrAfter(p.shows(from))
		if at := p.when(due); ok && at < p.end {
			return k.time(at)
		}
		// From the end on the clock shows no earlier time that is due than this one, and this one not long before its time.
		soonest, ok := c.atOrAfter(p.shows(p.end) - drift)
		if !ok {
			return time.Time{}
		}
		from = max(p.end, p.when(soonest)-drift)
	}
}

// Last returns the latest due time that is not after at, in zone; nil is UTC. It is the zero time when nothing is ever due.
func (c Calendar) Last(at time.Time, zone *time.Location) time.Time {
	if c.IsZero() {
		return time.Time{}
	}
	k := clock{zone}
	if c.everyHour() {
		return c.lastShown(k, at.Unix())
	}
	due, ok := c.atOrBefore(k.highest(at.Unix()))
	if !ok {
		return time.Time{}
	}
	return k.time(k.reaches(due))
}

// lastShown returns the latest time not after at at which the clock shows a due time.
func (c Calendar) lastShown(k clock, at int64) time.Time {
	for {
		p := k.period(at)
		due, ok := c.atOrBefore(p.shows(at))
		if at := p.when(due); ok && at >= p.start {
			return k.time(at)
		}
		// Before the start the clock shows no later time that is due than this one, and this one not long after its time.
		latest, ok := c.atOrBefore(p.shows(p.start-1) + drift)
		if !ok {
			return time.Time{}
		}
		at = min(p.start-1, p.when(latest)+drift)
	}
}

// Gap returns how far apart, in real time, the due times around at are: from Last to Next. It is 0 when nothing is ever due.
func (c Calendar) Gap(at time.Time, zone *time.Location) time.Duration {
	return c.Next(at, zone).Sub(c.Last(at, zone))
}
