package schedule

import (
	"fmt"
	"strings"
	"time"

	"holdfast"
)

const never = "never"

// Parse reads a calendar expression: five fields as in crontab(5), or a word.
//
// The fields are minute (0-59), hour (0-23), day of month (1-31), month (1-12 or jan-dec) and day of week (0-7 or sun-sat, 0 and 7 are
// Sunday). Each is a list of *, values and ranges; * and ranges may have a step: "*/15", "8-18/2". L among the days of the month is its
// last. When neither day field begins with *, a day is due that matches one of them; otherwise it must match both. That is the rule of
// POSIX crontab, with what Vixie's cron makes of "*/2".
//
// The words are @hourly, @daily or @midnight, @weekly (Sunday), @monthly, @quarterly, @yearly or @annually, each at its first minute,
// and never, manual and "", which are never due. Words and names are read in upper and lower case.
//
// What is not understood, or can never be due, is a [holdfast.ErrUsage] that says what is allowed, mostly with a hint.
func Parse(text string) (Calendar, error) {
	c, err := parse(text)
	if err != nil {
		return Calendar{}, fmt.Errorf("%w: schedule %q: %w", holdfast.ErrUsage, text, err)
	}
	return c, nil
}

// parse is Parse; its errors say neither that it is bad usage, nor of what.
func parse(text string) (Calendar, error) {
	parts := strings.Fields(text)
	c := Calendar{text: strings.Join(parts, " ")}
	switch strings.ToLower(c.text) {
	case "", never:
		return Calendar{}, nil
	case "manual":
		return c, nil
	}
	if expression, known := word(c.text); known {
		parts = strings.Fields(expression)
	}
	if err := foreign(parts); err != nil {
		return Calendar{}, err
	}
	sets := [5]*uint64{&c.minutes, &c.hours, &c.days, &c.months, &c.weekdays}
	for i, f := range fields() {
		var err error
		if *sets[i], err = f.parse(parts[i]); err != nil {
			return Calendar{}, err
		}
	}
	if c.weekdays&(1<<7) != 0 {
		c.weekdays = c.weekdays&^(1<<7) | 1
	}
	c.either = !strings.HasPrefix(parts[2], "*") && !strings.HasPrefix(parts[4], "*")
	if !c.comesTrue() {
		return Calendar{}, holdfast.WithHint(fmt.Errorf("it is never due: day-of-month %q is in no month of %q", parts[2], parts[3]),
			"write L for the last day of a month, or never for no time at all")
	}
	return c, nil
}

// word returns the fields that a word stands for.
func word(text string) (string, bool) {
	switch strings.ToLower(text) {
	case "@hourly":
		return "0 * * * *", true
	case "@daily", "@midnight":
		return "0 0 * * *", true
	case "@weekly":
		return "0 0 * * 0", true
	case "@monthly":
		return "0 0 1 * *", true
	case "@quarterly":
		return "0 0 1 1,4,7,10 *", true
	case "@yearly", "@annually":
		return "0 0 1 1 *", true
	}
	return "", false
}

// foreign tells what is no expression of five fields, and what to write for what other programs understand.
func foreign(parts []string) error {
	const form = `write minute, hour, day of month, month and day of week, as in "30 2 * * *", or a word such as @daily`
	first := strings.ToLower(parts[0])
	switch {
	case strings.HasPrefix(first, "tz=") || strings.HasPrefix(first, "cron_tz="):
		return holdfast.WithHint(fmt.Errorf("it has a time zone of its own, %q", parts[0]),
			fmt.Sprintf("write %q, and the zone beside it as zone", strings.Join(parts[1:], " ")))
	case first == "@reboot":
		return holdfast.WithHint(fmt.Errorf("the start of a machine is no time of a calendar"), "write when it is due, such as @daily")
	case first == "@every":
		return holdfast.WithHint(fmt.Errorf("an interval that begins with a start is no time of a calendar"), everyHint(parts[1:]))
	case strings.HasPrefix(first, "@"):
		return holdfast.WithHint(fmt.Errorf("the word is not known"),
			"words are @hourly, @daily, @weekly, @monthly, @quarterly, @yearly, never and manual")
	case len(parts) == 6:
		return holdfast.WithHint(fmt.Errorf("it has six fields, and seconds or years are none of the five"),
			fmt.Sprintf("if the first is seconds, write %q; if the last is years, %q", strings.Join(parts[1:], " "), strings.Join(parts[:5], " ")))
	case len(parts) != 5:
		hint := form
		if _, known := word("@" + first); known && len(parts) == 1 {
			hint = "write @" + first
		}
		return holdfast.WithHint(fmt.Errorf("it has %d fields instead of five", len(parts)), hint)
	}
	return nil
}

// everyHint returns what is closest to "@every" with these arguments.
func everyHint(arguments []string) string {
	every, err := time.ParseDuration(strings.Join(arguments, ""))
	switch minutes := every / time.Minute; {
	case err != nil || every < time.Minute || every%time.Minute != 0:
	case every == time.Hour:
		return "write @hourly"
	case every == 24*time.Hour:
		return "write @daily"
	case every < time.Hour && 60%minutes == 0:
		return fmt.Sprintf(`write "*/%d * * * *"`, minutes)
	case every < 24*time.Hour && 24*60%minutes == 0 && minutes%60 == 0:
		return fmt.Sprintf(`write "0 */%d * * *"`, minutes/60)
	}
	return `write when it is due, such as "*/15 * * * *" or "0 */6 * * *"`
}

// comesTrue reports whether there is a due day. Over 400 years every date falls on every day of the week.
func (c Calendar) comesTrue() bool {
	if c.either {
		return true
	}
	const leapYear = 2000
	days := c
	days.weekdays = 1<<7 - 1
	for month := time.January; month <= time.December; month++ {
		if days.dates(leapYear, month) != 0 {
			return true
		}
	}
	return false
}
