package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/schedule"
)

// zones are those whose clocks do what others do not.
func zones() []string {
	return []string{
		"UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Moscow", "Europe/Istanbul",
		"America/New_York", "America/Sao_Paulo", "America/Santiago", "America/Asuncion", "America/Havana", "America/St_Johns", "America/Nuuk",
		"America/Scoresbysund", "America/Caracas", "America/Ciudad_Juarez", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "Asia/Gaza",
		"Asia/Tehran", "Asia/Pyongyang", "Asia/Kathmandu", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Apia", "Pacific/Kwajalein",
		"Pacific/Kiritimati", "Pacific/Norfolk", "Pacific/Chatham", "Antarctica/Casey", "Antarctica/Troll",
	}
}

func offset(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// changes returns the days on which a zone's clock is changed.
func changes(zone *time.Location) []time.Time {
	var days []time.Time
	for at := date(1985, 1, 1); at.Before(date(2045, 1, 1)); at = at.AddDate(0, 0, 1) {
		if offset(at, zone) != offset(at.AddDate(0, 0, 1), zone) {
			days = append(days, at)
		}
	}
	return days
}

// drawnField is a field with the values that it was made from.
type drawnField struct {
	text   string
	values map[int]bool
	last   bool // L
}

func drawField(t *rapid.T, name string, least, most int, names ...string) drawnField {
	f := drawnField{values: map[int]bool{}}
	value := func(label string, from int) (int, string) {
		v := rapid.IntRange(from, most).Draw(t, label)
		if v-least < len(names) && rapid.Bool().Draw(t, "named") {
			return v, names[v-least]
		}
		return v, fmt.Sprint(v)
	}
	add := func(from, to, step int) {
		for v := from; v <= to; v += step {
			f.values[v] = true
		}
	}
	var list []string
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, name+" length") {
		kind := rapid.SampledFrom([]string{"*", "*", "*/", "value", "value", "range", "range/", "L"}).Draw(t, name)
		switch kind {
		case "*":
			add(least, most, 1)
			list = append(list, "*")
		case "*/":
			step := rapid.IntRange(1, most-least+1).Draw(t, "step")
			add(least, most, step)
			list = append(list, fmt.Sprintf("*/%d", step))
		case "range", "range/":
			from, fromText := value("from", least)
			to, toText := value("to", from)
			step, stepText := 1, ""
			if kind == "range/" {
				step = rapid.IntRange(1, most-least+1).Draw(t, "step")
				stepText = fmt.Sprintf("/%d", step)
			}
			add(from, to, step)
			list = append(list, fromText+"-"+toText+stepText)
		default:
			if kind == "L" && most == 31 {
				f.last = true
				list = append(list, "L")
				continue
			}
			v, text := value("value", least)
			add(v, v, 1)
			list = append(list, text)
		}
	}
	f.text = strings.Join(list, ",")
	return f
}

// drawn is an expression, understood by other code than that under test.
type drawn struct {
	text                                  string
	minutes, hours, days, months, weekday drawnField
}

func drawExpression(t *rapid.T) drawn {
	d := drawn{
		minutes: drawField(t, "minute", 0, 59),
		hours:   drawField(t, "hour", 0, 23),
		days:    drawField(t, "day", 1, 31),
		months:  drawField(t, "month", 1, 12, "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
		weekday: drawField(t, "weekday", 0, 6, "sun", "mon", "tue", "wed", "thu", "fri", "sat"),
	}
	d.text = strings.Join([]string{d.minutes.text, d.hours.text, d.days.text, d.months.text, d.weekday.text}, " ")
	return d
}

// on reports whether a day is due, of a time in UTC that stands for what a clock shows.
func (d drawn) on(w time.Time) bool {
	if !d.months.values[int(w.Month())] {
		return false
	}
	day := d.days.values[w.Day()] || d.days.last && w.AddDate(0, 0, 1).Day() == 1
	weekday := d.weekday.values[int(w.Weekday())]
	if d.days.text[0] != '*' && d.weekday.text[0] != '*' {
		return day || weekday
	}
	return day && weekday
}

func (d drawn) matches(w time.Time) bool {
	return d.minutes.values[w.Minute()] && d.hours.values[w.Hour()] && d.on(w)
}

func (d drawn) parse(t *rapid.T) schedule.Calendar {
	c, err := schedule.Parse(d.text)
	if err != nil {
		if strings.Contains(err.Error(), "never due") && d.neverDue() {
			t.Skip("never due")
		}
		t.Fatal(err)
	}
	if d.neverDue() {
		t.Fatalf("%q is never due, and is not refused", d.text)
	}
	return c
}

func (d drawn) neverDue() bool {
	for at := date(2000, 1, 1); at.Before(date(2041, 1, 1)); at = at.AddDate(0, 0, 1) {
		if d.on(at) {
			return false
		}
	}
	return true
}

// walk returns what is due from from to to, of whole minutes: it walks the clock and takes the rule of the package by its word.
func (d drawn) walk(from, to time.Time, zone *time.Location) []time.Time {
	const around = 3 * 24 * time.Hour // longer than any change of a clock
	var due []time.Time
	var instants, shown []time.Time
	first := map[time.Time]time.Time{}
	for at := from.Add(-around); !at.After(to.Add(around)); at = at.Add(time.Minute) {
		w := at.Add(offset(at, zone))
		instants, shown = append(instants, at), append(shown, w)
		if _, known := first[w]; !known {
			first[w] = at
		}
	}
	if len(d.hours.values) == 24 {
		for i, w := range shown {
			if d.matches(w) {
				due = append(due, instants[i])
			}
		}
	} else {
		for w := shown[0]; w.Before(shown[len(shown)-1]); w = w.Add(time.Minute) {
			if !d.matches(w) {
				continue
			}
			at, exists := first[w]
			if !exists {
				at = instants[slices.IndexFunc(shown, func(later time.Time) bool { return later.After(w) })]
			}
			due = append(due, at)
		}
	}
	due = slices.DeleteFunc(due, func(at time.Time) bool { return at.Before(from) || at.After(to) })
	return slices.Compact(due)
}

// TestWalk compares with a model that walks over the minutes around changes of clocks.
func TestWalk(t *testing.T) {
	days := map[string][]time.Time{}
	for _, name := range zones() {
		days[name] = append(changes(zone(name)), date(2026, 7, 1))
	}
	rapid.Check(t, func(t *rapid.T) {
		d := drawExpression(t)
		c := d.parse(t)
		name := rapid.SampledFrom(zones()).Draw(t, "zone")
		zone := zone(name)
		from := rapid.SampledFrom(days[name]).Draw(t, "day").AddDate(0, 0, -1)
		to := from.AddDate(0, 0, 3)
		want := d.walk(from, to, zone)
		var got []time.Time
		for at := c.Next(from.Add(-1), zone); !at.After(to); at = c.Next(at, zone) {
			got = append(got, at)
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%q in %s from %v\nis due at %v\nand should be at %v", d.text, name, from.In(zone), got, want)
		}
		got = nil
		for at := c.Last(to, zone); !at.Before(from); at = c.Last(at.Add(-1), zone) {
			got = append(got, at)
		}
		slices.Reverse(got)
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%q in %s before %v\nwas due at %v\nand should have been at %v", d.text, name, to.In(zone), got, want)
		}
	})
}

// TestRare compares with a model that walks over the days of decades.
func TestRare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawExpression(t)
		c := d.parse(t)
		at := date(rapid.IntRange(1850, 2150).Draw(t, "year"), 1, 1).Add(time.Duration(rapid.IntRange(0, 366*24*60).Draw(t, "minute")) * time.Minute)
		day := at.Truncate(24 * time.Hour)
		search := func(step int, wanted func(time.Time) bool) time.Time {
			for offset := 0; ; offset += step {
				today := day.AddDate(0, 0, offset)
				if !d.on(today) {
					continue
				}
				for i := range 24 * 60 {
					if step < 0 {
						i = 24*60 - 1 - i
					}
					if w := today.Add(time.Duration(i) * time.Minute); wanted(w) && d.matches(w) {
						return w
					}
				}
			}
		}
		if got, want := c.Next(at, nil), search(1, func(w time.Time) bool { return w.After(at) }); !got.Equal(want) {
			t.Fatalf("%q after %v is due at %v, and should be at %v", d.text, at, got, want)
		}
		if got, want := c.Last(at, nil), search(-1, func(w time.Time) bool { return !w.After(at) }); !got.Equal(want) {
			t.Fatalf("%q before %v was due at %v, and should have been at %v", d.text, at, got, want)
		}
	})
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawExpression(t).parse(t)
		name := rapid.SampledFrom(zones()).Draw(t, "zone")
		zone := zone(name)
		at := time.Unix(rapid.Int64Range(date(1850, 1, 1).Unix(), date(2150, 1, 1).Unix()).Draw(t, "at"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		if rapid.Bool().Draw(t, "whole") {
			at = at.Truncate(time.Hour)
		}
		last, next := c.Last(at, zone), c.Next(at, zone)
		same := func(what string, got, want time.Time) {
			if !got.Equal(want) {
				t.Fatalf("%q in %s at %v: %s is %v, want %v", c, name, at, what, got, want)
			}
		}
		if last.IsZero() || last.After(at) || !next.After(at) {
			t.Fatalf("%q in %s at %v: last %v, next %v", c, name, at, last, next)
		}
		same("the last at the next", c.Last(next, zone), next)
		same("the last at the last", c.Last(last, zone), last)
		same("the last before the next", c.Last(next.Add(-1), zone), last)
		same("the next after the last", c.Next(last, zone), next)
		same("the next from the last on", c.Next(last.Add(-1), zone), last)
		if gap := c.Gap(at, zone); gap != next.Sub(last) || gap <= 0 {
			t.Fatalf("%q in %s at %v: a gap of %v", c, name, at, gap)
		}
	})
}

// TestOncePerDate counts the runs of daily jobs in every year.
func TestOncePerDate(t *testing.T) {
	skipped := map[string]time.Time{
		"Pacific/Kwajalein":  date(1993, 8, 21),
		"Pacific/Kiritimati": date(1994, 12, 31),
		"Pacific/Apia":       date(2011, 12, 30),
	}
	for _, name := range zones() {
		zone := zone(name)
		for _, text := range []string{"@daily", "30 2 * * *", "59 23 * * *"} {
			c := parse(t, text)
			want := map[int]int{}
			for year := 1990; year <= 2040; year++ {
				want[year] = date(year, 12, 31).YearDay()
			}
			if day, some := skipped[name]; some {
				// It runs at the next midnight, where that of @daily is due anyway.
				want[day.Year()]--
				if text != "@daily" {
					want[day.AddDate(0, 0, 1).Year()]++
				}
			}
			got := map[int]int{}
			end := time.Date(2041, 1, 1, 0, 0, 0, 0, zone)
			for at := c.Next(time.Date(1990, 1, 1, 0, 0, 0, -1, zone), zone); at.Before(end); at = c.Next(at, zone) {
				got[at.Year()]++
			}
			for year := 1990; year <= 2040; year++ {
				if got[year] != want[year] {
					t.Errorf("%s in %s: %d runs in %d, want %d", text, name, got[year], year, want[year])
				}
			}
		}
	}
}
