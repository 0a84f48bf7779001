package schedule_test

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata" // the tests are of rules that a host may lack

	"holdfast/internal/schedule"
)

var berlin = zone("Europe/Berlin")

func zone(name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return zone
}

// TestDue lists what is due after from: all of it, forwards and backwards.
func TestDue(t *testing.T) {
	for _, test := range []struct {
		name, text, zone, from string
		want                   []string
	}{
		{"a plain day", "30 2 * * *", "Europe/Berlin", "2026-07-01T02:29:59+02:00", []string{"2026-07-01T02:30:00+02:00", "2026-07-02T02:30:00+02:00"}},
		{"strictly after", "30 2 * * *", "Europe/Berlin", "2026-07-01T02:30:00+02:00", []string{"2026-07-02T02:30:00+02:00"}},
		{"steps", "*/25 4 * * *", "UTC", "2026-07-01T00:00:00Z", []string{"2026-07-01T04:00:00Z", "2026-07-01T04:25:00Z", "2026-07-01T04:50:00Z", "2026-07-02T04:00:00Z"}},
		{"day of month or day of week", "0 0 13 * fri", "UTC", "2026-02-01T00:00:00Z",
			[]string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"}},
		{"day of month or day of week, apart", "0 0 1,15 * wed", "UTC", "2026-07-10T00:00:00Z", []string{"2026-07-15T00:00:00Z", "2026-07-22T00:00:00Z", "2026-07-29T00:00:00Z", "2026-08-01T00:00:00Z"}},
		{"day of month with a star, and day of week", "0 0 */2 * mon", "UTC", "2026-07-01T00:00:00Z", []string{"2026-07-13T00:00:00Z", "2026-07-27T00:00:00Z", "2026-08-03T00:00:00Z"}},
		{"day of week with a star, and day of month", "0 0 13 * */5", "UTC", "2026-01-01T00:00:00Z", []string{"2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-09-13T00:00:00Z"}},
		{"the last day", "59 23 L * *", "UTC", "2027-12-31T00:00:00Z",
			[]string{"2027-12-31T23:59:00Z", "2028-01-31T23:59:00Z", "2028-02-29T23:59:00Z", "2028-03-31T23:59:00Z", "2028-04-30T23:59:00Z"}},
		{"the last day of another February", "0 3 15,L feb *", "UTC", "2027-01-01T00:00:00Z", []string{"2027-02-15T03:00:00Z", "2027-02-28T03:00:00Z", "2028-02-15T03:00:00Z", "2028-02-29T03:00:00Z"}},
		{"the last day or a Sunday", "0 3 L * sun", "UTC", "2026-07-20T00:00:00Z", []string{"2026-07-26T03:00:00Z", "2026-07-31T03:00:00Z", "2026-08-02T03:00:00Z"}},
		{"the 31st", "0 0 31 * *", "UTC", "2026-03-31T00:00:00Z", []string{"2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z", "2026-08-31T00:00:00Z"}},
		{"the leap day", "0 0 29 2 *", "UTC", "2092-03-01T00:00:00Z", []string{"2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"}},
		{"a leap day on a Sunday", "0 0 29 2 */7", "UTC", "2060-01-01T00:00:00Z", []string{"2060-02-29T00:00:00Z", "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z"}},
		{"weekend", "0 12 * * sat-sun", "UTC", "2026-07-03T00:00:00Z", []string{"2026-07-04T12:00:00Z", "2026-07-05T12:00:00Z", "2026-07-11T12:00:00Z"}},
		{"quarterly", "@quarterly", "UTC", "2026-08-01T00:00:00Z", []string{"2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-04-01T00:00:00Z"}},

		{"summer time begins", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00",
			[]string{"2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"summer time ends", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", []string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"a gap's first and last minute", "0,59 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"several in a gap, and one at its end", "*/15 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-29T03:45:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"in a gap and later", "45 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:45:00+02:00"}},
		{"every hour over a gap", "30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00",
			[]string{"2026-03-29T00:30:00+01:00", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00"}},
		{"every hour over an overlap", "30 * * * *", "Europe/Berlin", "2026-10-25T01:00:00+02:00",
			[]string{"2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"}},
		{"all hours are every hour", "0 0-23 * * *", "Europe/Berlin", "2026-10-25T01:30:00+02:00",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"}},
		{"every second hour is fixed", "0 */2 * * *", "Europe/Berlin", "2026-10-25T00:30:00+02:00", []string{"2026-10-25T02:00:00+02:00", "2026-10-25T04:00:00+01:00"}},
		{"every second hour over a gap", "0 */2 * * *", "Europe/Berlin", "2026-03-29T00:30:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"every hour of one day", "0 * 25 10 *", "Europe/Berlin", "2026-10-25T22:30:00+01:00", []string{"2026-10-25T23:00:00+01:00", "2027-10-25T00:00:00+02:00"}},
		{"every hour of a leap day", "0 * 29 2 *", "Europe/Berlin", "2096-02-29T22:30:00+01:00", []string{"2096-02-29T23:00:00+01:00", "2104-02-29T00:00:00+01:00"}},
		{"only in the overlap that has begun", "30 2 25 10 *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", []string{"2027-10-25T02:30:00+02:00"}},

		{"half an hour of summer time", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", []string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"half an hour twice", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00+11:00", []string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"}},
		{"half an hour twice, every hour", "45 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00:00+11:00",
			[]string{"2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30", "2026-04-05T02:45:00+10:30"}},
		{"no midnight", "@daily", "America/Santiago", "2025-09-06T12:00:00-04:00", []string{"2025-09-07T01:00:00-03:00", "2025-09-08T00:00:00-03:00"}},
		{"two times before midnight", "30 23 * * *", "America/Santiago", "2026-04-04T12:00:00-03:00", []string{"2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"}},
		{"no midnight in Cairo", "@daily", "Africa/Cairo", "2026-04-23T12:00:00+02:00", []string{"2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"}},
		{"no midnight in Beirut", "@daily", "Asia/Beirut", "2026-03-28T12:00:00+02:00", []string{"2026-03-29T01:00:00+03:00", "2026-03-30T00:00:00+03:00"}},
		{"midnight twice in Beirut", "@daily", "Asia/Beirut", "2026-10-24T12:00:00+03:00", []string{"2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+02:00"}},
		{"a minute after midnight the day began anew", "@daily", "America/St_Johns", "2010-11-06T12:00:00-02:30", []string{"2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30"}},
		{"a gap up to midnight", "30 23 * * *", "America/Nuuk", "2026-03-28T12:00:00-02:00", []string{"2026-03-29T00:00:00-01:00", "2026-03-29T23:30:00-01:00"}},
		{"a day that was skipped", "@daily", "Pacific/Apia", "2011-12-28T12:00:00-10:00", []string{"2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"}},
		{"a day that was skipped, later", "30 2 * * *", "Pacific/Apia", "2011-12-29T00:00:00-10:00",
			[]string{"2011-12-29T02:30:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T02:30:00+14:00"}},
		{"only on a day that was skipped", "0 12 30 12 *", "Pacific/Apia", "2011-01-01T00:00:00-10:00", []string{"2011-12-31T00:00:00+14:00", "2012-12-30T12:00:00+14:00"}},
		{"hourly over a day that was skipped", "0 * * * *", "Pacific/Apia", "2011-12-29T22:30:00-10:00", []string{"2011-12-29T23:00:00-10:00", "2011-12-31T00:00:00+14:00"}},
		{"a day that came twice", "30 2 * * *", "Pacific/Kwajalein", "1969-09-29T12:00:00+11:00", []string{"1969-09-30T02:30:00+11:00", "1969-10-01T02:30:00-12:00"}},
		{"late on a day that came twice", "30 23 * * *", "Pacific/Kwajalein", "1969-09-30T22:00:00-12:00", []string{"1969-10-01T23:30:00-12:00", "1969-10-02T23:30:00-12:00"}},
		{"every hour of the day that began anew", "0 * 7 11 *", "America/St_Johns", "2010-11-06T23:30:00-02:30",
			[]string{"2010-11-07T00:00:00-02:30", "2010-11-07T00:00:00-03:30", "2010-11-07T01:00:00-03:30"}},
		{"half an hour back for good", "@daily", "Asia/Pyongyang", "2015-08-14T12:00:00+09:00", []string{"2015-08-15T00:00:00+08:30", "2015-08-16T00:00:00+08:30"}},
		{"half an hour on for good", "45 23 * * *", "Asia/Pyongyang", "2018-05-03T12:00:00+08:30", []string{"2018-05-03T23:45:00+08:30", "2018-05-05T00:00:00+09:00", "2018-05-05T23:45:00+09:00"}},
		{"31 December of a leap year", "@hourly", "America/New_York", "2040-12-31T22:30:00-05:00", []string{"2040-12-31T23:00:00-05:00", "2041-01-01T00:00:00-05:00"}},
		{"a change among the last ones", "30 23 29 11 *", "America/Ciudad_Juarez", "2022-11-29T12:00:00-06:00", []string{"2022-11-29T23:30:00-06:00", "2023-11-29T23:30:00-07:00"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, zone := parse(t, test.text), zone(test.zone)
			at, err := time.Parse(time.RFC3339, test.from)
			if err != nil {
				t.Fatal(err)
			}
			from := at
			for i, want := range test.want {
				if at = c.Next(at, zone); at.Format(time.RFC3339) != want {
					t.Fatalf("time %d is %v, want %s", i, at, want)
				}
			}
			for i := len(test.want) - 1; i >= 0; i-- {
				if got := c.Last(at, zone); got.Format(time.RFC3339) != test.want[i] {
					t.Fatalf("backwards, time %d is %v, want %s", i, got, test.want[i])
				}
				at = c.Last(at, zone).Add(-1)
			}
			if last := c.Last(at, zone); last.After(from) {
				t.Fatalf("backwards, %v is due too", last)
			}
		})
	}
}

// TestTimeOfTheSun is of offsets with seconds, and a change by some of them.
func TestTimeOfTheSun(t *testing.T) {
	for _, test := range []struct{ text, zone, from, want, offset string }{
		{"30 2 * * *", "Europe/Amsterdam", "1890-05-01T00:00:00Z", "1890-05-01 02:30:00", ""},
		{"20 15 * * *", "America/Juneau", "1867-10-20T00:11:13Z", "1867-10-20 15:20:00", "-08:57:41"}, // the day came twice
		{"@hourly", "America/New_York", "1880-05-01T00:00:00Z", "1880-04-30 20:00:00", "-04:56:02"},
		{"58 23 31 3 *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-03-31 23:58:00", "+00:53:28"},
		{"3 0 1 4 *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-04-01 00:06:32", "+01:00:00"},
		{"0 0 1 4 *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-04-01 00:06:32", "+01:00:00"},
		{"7 0 1 4 *", "Europe/Berlin", "1893-03-31T12:00:00Z", "1893-04-01 00:07:00", "+01:00:00"},
		{"* * * * *", "Europe/Berlin", "1893-03-31T23:06:30Z", "1893-04-01 00:07:00", "+01:00:00"},
	} {
		from, err := time.Parse(time.RFC3339, test.from)
		if err != nil {
			t.Fatal(err)
		}
		c, zone := parse(t, test.text), zone(test.zone)
		next := c.Next(from, zone)
		if got := next.Format(time.DateTime); got != test.want || test.offset != "" && next.Format("-07:00:00") != test.offset {
			t.Errorf("%q in %s: %s %s, want %s %s", test.text, test.zone, got, next.Format("-07:00:00"), test.want, test.offset)
		}
		if last := c.Last(next, zone); !last.Equal(next) {
			t.Errorf("%q in %s: last is %v, next was %v", test.text, test.zone, last, next)
		}
	}
}

func TestSets(t *testing.T) {
	const allHours, allDays, allMonths, allWeek = 1<<24 - 1, 1<<32 - 2, 1<<13 - 2, 1<<7 - 1
	for text, want := range map[string]struct {
		sets   [5]uint64
		either bool
	}{
		"*/30 1-3 * * *":   {[5]uint64{1 | 1<<30, 1<<1 | 1<<2 | 1<<3, allDays, allMonths, allWeek}, false},
		"0 * 1,L feb *":    {[5]uint64{1, allHours, 1 | 1<<1, 1 << 2, allWeek}, false},
		"59 23 13 dec 5,7": {[5]uint64{1 << 59, 1 << 23, 1 << 13, 1 << 12, 1<<5 | 1}, true},
		"0 0 13 * */5":     {[5]uint64{1, 1, 1 << 13, allMonths, 1 | 1<<5}, false},
		"@quarterly":       {[5]uint64{1, 1, 1 << 1, 1<<1 | 1<<4 | 1<<7 | 1<<10, allWeek}, false},
		"never":            {},
		"manual":           {},
	} {
		c, err := schedule.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if sets, either := c.Sets(); sets != want.sets || either != want.either {
			t.Errorf("%q is %b, either %t, want %b, either %t", text, sets, either, want.sets, want.either)
		}
	}
}

func TestGap(t *testing.T) {
	for _, test := range []struct {
		text string
		at   time.Time
		want time.Duration
	}{
		{"@daily", time.Date(2026, 7, 1, 12, 0, 0, 0, berlin), 24 * time.Hour},
		{"@daily", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), 23 * time.Hour},
		{"@daily", time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 25 * time.Hour},
		{"@hourly", time.Date(2026, 3, 29, 1, 30, 0, 0, berlin), time.Hour},
		{"@hourly", time.Date(2026, 10, 25, 2, 30, 0, 0, berlin), time.Hour},
		{"@monthly", time.Date(2026, 2, 14, 0, 0, 0, 0, berlin), 28 * 24 * time.Hour},
	} {
		if got := parse(t, test.text).Gap(test.at, berlin); got != test.want {
			t.Errorf("%s around %v: %v, want %v", test.text, test.at, got, test.want)
		}
	}
}

// TestZones: the zone of a time that is asked about does not matter, that of the answer is the one that was given.
func TestZones(t *testing.T) {
	c := parse(t, "30 2 * * *")
	at := time.Date(2026, 7, 1, 1, 0, 0, 0, time.UTC)
	here, there := c.Next(at, berlin), c.Next(at.In(zone("Asia/Tokyo")), berlin)
	if here != there || here.Location() != berlin {
		t.Errorf("%v and %v", here, there)
	}
	if got, want := c.Next(at, nil), time.Date(2026, 7, 1, 2, 30, 0, 0, time.UTC); got != want {
		t.Errorf("without a zone: %v, want %v", got, want)
	}
	if got := c.Next(at, time.FixedZone("far", 30*60*60)).Format(time.DateTime); got != "2026-07-03 02:30:00" {
		t.Errorf("in a zone that is none: %s", got)
	}
}

func BenchmarkNext(b *testing.B) {
	for _, text := range []string{"30 2 * * *", "* * * * *", "0 3 L * *", "0 * 29 2 *", "0 0 29 2 */7"} {
		for _, name := range []string{"UTC", "Europe/Berlin"} {
			b.Run(fmt.Sprintf("%s %s", text, name), func(b *testing.B) {
				c, err := schedule.Parse(text)
				if err != nil {
					b.Fatal(err)
				}
				at, zone := date(2089, 3, 1), zone(name)
				for b.Loop() {
					c.Next(at, zone)
				}
			})
		}
	}
}
