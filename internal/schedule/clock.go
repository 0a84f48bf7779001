package schedule

import (
	"sort"
	"time"
)

// wall is what a wall clock shows, in seconds, counted as if it were the clock of UTC since 1970.
type wall int64

const (
	// drift is more than any two offsets of one zone differ by, in seconds: zones crossed the date line, and had the time of the sun
	// before.
	drift = 26 * hour
	// chunk is how much of time is looked at at once, in seconds, a power of two. No zone ever changed its clock twice in so little.
	chunk = 1 << 17
)

// clock is the wall clock of a zone. Instants are whole seconds since 1970: offsets have no fractions.
type clock struct{ zone *time.Location }

func (k clock) time(unix int64) time.Time {
	if k.zone == nil {
		return time.Unix(unix, 0).UTC()
	}
	return time.Unix(unix, 0).In(k.zone)
}

func (k clock) offset(unix int64) int64 {
	_, offset := k.time(unix).Zone()
	return int64(offset)
}

// period is a time from start up to end, end excluded, without a change of the clock.
type period struct{ start, end, offset int64 }

func (p period) shows(unix int64) wall { return wall(unix + p.offset) }

// when is the inverse of shows, within the period or not.
func (p period) when(w wall) int64 { return int64(w) - p.offset }

// period returns one that an instant is in. Its ends are changes of the clock or those of a chunk.
//
// The end that [time.Time.ZoneBounds] tells would not do: with rules instead of a list of changes, as zone files have them for the years to
// come, it lies in the past on 31 December of a leap year, and it can hide a change that is on the list.
func (k clock) period(unix int64) period {
	start := unix &^ (chunk - 1)
	p := period{start, start + chunk, k.offset(unix)}
	if k.offset(p.start) != p.offset {
		p.start += int64(sort.Search(int(unix-p.start), func(i int) bool { return k.offset(p.start+int64(i)) == p.offset }))
	}
	if k.offset(p.end-1) != p.offset {
		p.end = unix + int64(sort.Search(int(p.end-unix), func(i int) bool { return k.offset(unix+int64(i)) != p.offset }))
	}
	return p
}

// highest returns the latest time that the clock has shown up to and with the second unix.
func (k clock) highest(unix int64) wall {
	p := k.period(unix)
	most := p.shows(unix)
	for p.start > unix-drift {
		p = k.period(p.start - 1)
		most = max(most, p.shows(p.end-1))
	}
	return most
}

// reaches returns the first instant at which the clock shows w or a later time.
func (k clock) reaches(w wall) int64 {
	for p := k.period(int64(w) - k.offset(int64(w)) - drift); ; p = k.period(p.end) {
		if at := max(p.start, p.when(w)); at < p.end {
			return at
		}
	}
}
