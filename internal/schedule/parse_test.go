package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/schedule"
)

func parse(t testing.TB, text string) schedule.Calendar {
	t.Helper()
	c, err := schedule.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestParse compares expressions with others that mean the same, by the times they are due at.
func TestParse(t *testing.T) {
	for _, test := range []struct{ text, same string }{
		{"  30\t2  * * * ", "30 2 * * *"},
		{"00 03 * * *", "0 3 * * *"},
		{"*/15 * * * *", "0,15,30,45 * * * *"},
		{"*/1 * * * *", "* * * * *"},
		{"*/60 */24 * * *", "0 0 * * *"},
		{"*/40 * * * *", "0,40 * * * *"},
		{"1-30/5 * * * *", "1,6,11,16,21,26 * * * *"},
		{"10-12,11-13,50 4 * * *", "10,11,12,13,50 4 * * *"},
		{"0 0-23 * * *", "0 * * * *"},
		{"0 0 * JAN,Feb-apr *", "0 0 * 1-4 *"},
		{"0 0 * * Mon-FRI", "0 0 * * 1-5"},
		{"0 0 * * sun", "0 0 * * 0"},
		{"0 0 * * 7", "0 0 * * 0"},
		{"0 0 * * 5-7", "0 0 * * 0,5,6"},
		{"0 0 * * sat-sun", "0 0 * * 0,6"},
		{"0 0 * * sun-sun", "0 0 * * 0"},
		{"0 0 * * 0-7", "0 0 * * *"},
		{"0 0 * * */2", "0 0 * * sun,tue,thu,sat"},
		{"0 0 l * *", "0 0 L * *"},
		{"@hourly", "0 * * * *"},
		{"@daily", "0 0 * * *"},
		{"@Midnight", "0 0 * * *"},
		{"@weekly", "0 0 * * sun"},
		{"@monthly", "0 0 1 * *"},
		{"@quarterly", "0 0 1 jan,apr,jul,oct *"},
		{"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
	} {
		one, other := parse(t, test.text), parse(t, test.same)
		for at := date(2026, 1, 1); at.Before(date(2027, 6, 1)); {
			next := one.Next(at, nil)
			if want := other.Next(at, nil); !next.Equal(want) {
				t.Errorf("%q and %q: after %v they are due at %v and %v", test.text, test.same, at, next, want)
				break
			}
			at = next.Add(37 * time.Minute)
		}
	}
	if got := parse(t, "  0\t22  * *   SAT ").String(); got != "0 22 * * SAT" {
		t.Errorf("%q", got)
	}
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func TestNever(t *testing.T) {
	for text, shown := range map[string]string{"": "never", "  ": "never", "never": "never", " Never": "never", "manual": "manual", "MANUAL": "MANUAL"} {
		c := parse(t, text)
		at := date(2026, 7, 1)
		if !c.IsZero() || !c.Next(at, nil).IsZero() || !c.Last(at, nil).IsZero() || c.Gap(at, nil) != 0 || c.String() != shown {
			t.Errorf("%q: %v %q %v %v %v", text, c.IsZero(), c, c.Next(at, nil), c.Last(at, nil), c.Gap(at, nil))
		}
	}
	if parse(t, "never") != (schedule.Calendar{}) || parse(t, "@daily").IsZero() {
		t.Error("the zero Calendar is never due, and @daily is")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, says, hint string }{
		{"60 * * * *", `minute "60": 60 is out of range, 0-59 are allowed`, ""},
		{"0 1,24 * * *", `hour "1,24": 24 is out of range, 0-23 are allowed`, ""},
		{"0 0 0 * *", `day-of-month "0": 0 is out of range, 1-31 and L are allowed`, ""},
		{"0 0 * 13 *", `month "13": 13 is out of range, 1-12 and jan-dec are allowed`, ""},
		{"0 0 * * 8", `day-of-week "8": 8 is out of range, 0-7 and sun-sat are allowed`, ""},
		{"0 0 * * 99999999999999999999", "out of range", ""},
		{"0 0 * january *", `"january" is no month`, "names have three letters: jan"},
		{"0 0 * * Tuesday", `"Tuesday" is no day-of-week`, "tue"},
		{"0 0 * * jan", `"jan" is no day-of-week`, ""},
		{"mon 0 * * *", `minute "mon": "mon" is no minute`, ""},
		{"1,,2 * * * *", `minute "1,,2": "" is no minute`, "1,15"},
		{"-5 * * * *", `"" is no minute`, "1-5"},
		{"+5 * * * *", `"+5" is no minute`, ""},
		{"1-2-3 * * * *", `"2-3" is no minute`, ""},
		{"٣ * * * *", `"٣" is no minute`, ""},
		{"0 0 ? * mon", `"?" is no day-of-month`, "write * for any"},
		{"0 0 15W * *", `"15W"`, "only L is known"},
		{"0 0 L-3 * *", `"L"`, "only L is known"},
		{"0 0 * * 5L", `"5L"`, "only L is known"},
		{"0 0 * * mon#2", `"mon#2"`, "three letters"},
		{"0 0 * * 1#2", `"1#2"`, "only L is known"},
		{"0 0 L/2 * *", `"L" is no day-of-month`, "only L is known"},
		{"* * * * L", `"L" is no day-of-week`, "only L is known"},
		{"* * 32 * *", "32 is out of range", ""},
		{"*-5 * * * *", `"*" is no minute`, ""},
		{"1, * * * *", `"" is no minute`, "1,15"},
		{"10-5 * * * *", "runs backwards", "write 10-59,0-5"},
		{"*/61 * * * *", `step "61" is out of range`, ""},
		{"5/10 * * * *", `"5/10" has a step and no range`, "write 5-59/10 to begin at 5, or */10"},
		{"0 0 * * 2/2", "no range", "write 2-6/2"},
		{"*/0 * * * *", `minute "*/0": step "0" is out of range, 1-60 are allowed`, ""},
		{"*/90 * * * *", `step "90" is out of range`, ""},
		{"0 */x * * *", `step "x" is out of range, 1-24`, ""},
		{"0 1-5/ * * *", `step "" is out of range`, ""},
		{"*/2/2 * * * *", `step "2/2"`, ""},
		{"** * * * *", `"**" is no minute`, ""},
		{"0 22-3 * * *", `hour "22-3": range "22-3" runs backwards`, "write 22-23,0-3"},
		{"0 23-0 * * *", "runs backwards", "write 23,0"},
		{"0 22-4/2 * * *", "runs backwards", "write 22,0,2,4"},
		{"0 0 * nov-feb *", "runs backwards", "write nov-dec,jan-feb"},
		{"0 0 * * fri-mon", "runs backwards", "write fri-sat,sun-mon"},
		{"0 0 * * sat-mon", "runs backwards", "write sat,sun-mon"},
		{"0 0 * * 7-2", "runs backwards", "write sun,mon,tue"},
		{"0 0 30 2 *", `it is never due: day-of-month "30" is in no month of "2"`, "write L"},
		{"0 0 31 4,6 *", "never due", "write L"},
		{"0 0 31 feb */2", "never due", "write L"},
		{"0 30 2 * * *", "six fields", `if the first is seconds, write "30 2 * * *"`},
		{"30 2 * * * 2026", "six fields", `years, "30 2 * * *"`},
		{"30 2 * *", "4 fields instead of five", "day of week"},
		{"daily", "1 fields", "write @daily"},
		{"02:30", "1 fields", "such as @daily"},
		{"@reboot", "start of a machine", "@daily"},
		{"@every 5m", "interval", `write "*/5 * * * *"`},
		{"@every 1h", "interval", "write @hourly"},
		{"@every 6h", "interval", `write "0 */6 * * *"`},
		{"@EVERY 24h", "interval", "write @daily"},
		{"@every 7m", "interval", "write when it is due"},
		{"@every 90m", "interval", "write when it is due"},
		{"@every 10s", "interval", "write when it is due"},
		{"@every", "interval", "write when it is due"},
		{"@fortnightly", "not known", "@quarterly"},
		{"@daily 3", "not known", "@daily"},
		{"TZ=Europe/Berlin 30 2 * * *", "time zone of its own", `write "30 2 * * *", and the zone beside it`},
		{"CRON_TZ=UTC @daily", `"CRON_TZ=UTC"`, `write "@daily"`},
	} {
		c, err := schedule.Parse(test.text)
		if !errors.Is(err, holdfast.ErrUsage) || c != (schedule.Calendar{}) {
			t.Errorf("%q: %v, %v", test.text, c, err)
			continue
		}
		if said := holdfast.Sentence(err); !strings.HasPrefix(said, "schedule \"") || !strings.Contains(said, test.says) {
			t.Errorf("%q: it says %s, want %s", test.text, said, test.says)
		}
		if hint := holdfast.Hint(err); !strings.Contains(hint, test.hint) || test.hint == "" && hint != "" {
			t.Errorf("%q: the hint is %q, want %q", test.text, hint, test.hint)
		}
	}
}

// TestHintsAreUnderstood takes what hints say.
func TestHintsAreUnderstood(t *testing.T) {
	for _, text := range []string{
		"5/10 * * * *", "0 22-3 * * *", "0 23-0 * * *", "0 22-4/2 * * *", "0 0 * nov-feb *", "0 0 * * fri-mon", "0 0 * * sat-mon", "0 0 * * 7-5", "0 0 * * 6-0/3",
	} {
		_, err := schedule.Parse(text)
		if err == nil {
			t.Errorf("%q is not refused", text)
			continue
		}
		instead, _, _ := strings.Cut(strings.TrimPrefix(holdfast.Hint(err), "write "), " ")
		fields := strings.Fields(text)
		for i, field := range fields {
			if strings.ContainsAny(field, "/-") {
				fields[i] = instead
			}
		}
		if _, err := schedule.Parse(strings.Join(fields, " ")); err != nil {
			t.Errorf("%q: what its hint says is refused: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"30 2 * * *", "*/15 1-30/5 L,15 jan-mar fri-sun", "@daily", "never", "", "5/10 * * * *", "0 0 * * fri-mon", "@every 5m",
		"TZ=UTC 0 0 * * *", "0 0 30 2 *", "0 0 29 2 */7", "99999999999999999999 * * * *", "0 0 * * 7-5", "* * 29 2 *", "\x80 * * * *",
	} {
		f.Add(text)
	}
	at := date(2026, 3, 29).Add(90 * time.Minute)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := schedule.Parse(text)
		if err != nil {
			if !errors.Is(err, holdfast.ErrUsage) {
				t.Fatalf("not a mistake of usage: %v", err)
			}
			return
		}
		if again, err := schedule.Parse(c.String()); err != nil || again != c {
			t.Fatalf("%q is %q, which is read as %+v: %v", text, c, again, err)
		}
		if c.IsZero() {
			return
		}
		next, last := c.Next(at, berlin), c.Last(at, berlin)
		if !next.After(at) || last.After(at) || last.IsZero() || next.Sub(at) > 41*366*24*time.Hour {
			t.Fatalf("%q: due at %v and %v, around %v", text, last, next, at)
		}
	})
}
