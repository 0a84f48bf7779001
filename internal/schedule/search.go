package schedule

import (
	"math/bits"
	"time"
)

// horizon is how many months are searched. Nothing that Parse accepts is rarer than a 29 February on one day of the week, which is 40
// years apart where a century without a leap day lies between.
const horizon = 41 * 12

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// atOrAfter returns the first due time on the clock that is w or later.
func (c Calendar) atOrAfter(w wall) (wall, bool) {
	t := time.Unix(int64(w)+minute-1, 0).UTC()
	year, month, date := t.Date()
	from := t.Hour()*60 + t.Minute()
	for range horizon {
		dates := c.dates(year, month) &^ (1<<date - 1)
		if dates&(1<<date) != 0 {
			if due, ok := c.minuteAtOrAfter(from); ok {
				return onClock(year, month, date, due), true
			}
			dates &^= 1 << date
		}
		if dates != 0 {
			due, _ := c.minuteAtOrAfter(0)
			return onClock(year, month, lowest(dates), due), true
		}
		if month++; month > time.December {
			year, month = year+1, time.January
		}
		date, from = 1, 0
	}
	return 0, false
}

// atOrBefore returns the latest due time on the clock that is w or earlier.
func (c Calendar) atOrBefore(w wall) (wall, bool) {
	t := time.Unix(int64(w), 0).UTC()
	year, month, date := t.Date()
	from := t.Hour()*60 + t.Minute()
	for range horizon {
		dates := c.dates(year, month) & (1<<(date+1) - 1)
		if dates&(1<<date) != 0 {
			if due, ok := c.minuteAtOrBefore(from); ok {
				return onClock(year, month, date, due), true
			}
			dates &^= 1 << date
		}
		if dates != 0 {
			due, _ := c.minuteAtOrBefore(day/minute - 1)
			return onClock(year, month, highest(dates), due), true
		}
		if month--; month < time.January {
			year, month = year-1, time.December
		}
		date, from = 31, day/minute-1
	}
	return 0, false
}

func onClock(year int, month time.Month, date, minuteOfDay int) wall {
	return wall(time.Date(year, month, date, 0, minuteOfDay, 0, 0, time.UTC).Unix())
}

// dates returns the due days of a month: bit n is its nth day.
func (c Calendar) dates(year int, month time.Month) uint64 {
	if c.months&(1<<month) == 0 {
		return 0
	}
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	length := first.AddDate(0, 1, -1).Day()
	days := c.days
	if days&lastDay != 0 {
		days |= 1 << length
	}
	const weeks = 1 | 1<<7 | 1<<14 | 1<<21 | 1<<28 | 1<<35 // six of them touch a month at most
	onWeekdays := c.weekdays * weeks >> first.Weekday() << 1
	both := days & onWeekdays
	if c.either {
		both = days | onWeekdays
	}
	return both & (1<<(length+1) - 2)
}

// minuteAtOrAfter returns the first due minute of a day that is from or later.
func (c Calendar) minuteAtOrAfter(from int) (int, bool) {
	h, m := from/60, from%60
	if minutes := c.minutes &^ (1<<m - 1); c.hours&(1<<h) != 0 && minutes != 0 {
		return h*60 + lowest(minutes), true
	}
	if hours := c.hours &^ (1<<(h+1) - 1); hours != 0 {
		return lowest(hours)*60 + lowest(c.minutes), true
	}
	return 0, false
}

// minuteAtOrBefore returns the latest due minute of a day that is from or earlier.
func (c Calendar) minuteAtOrBefore(from int) (int, bool) {
	h, m := from/60, from%60
	if minutes := c.minutes & (1<<(m+1) - 1); c.hours&(1<<h) != 0 && minutes != 0 {
		return h*60 + highest(minutes), true
	}
	if hours := c.hours & (1<<h - 1); hours != 0 {
		return highest(hours)*60 + highest(c.minutes), true
	}
	return 0, false
}

// lowest and highest return the least and the greatest value of a set that has one.
func lowest(set uint64) int  { return bits.TrailingZeros64(set) }
func highest(set uint64) int { return bits.Len64(set) - 1 }
