package unit

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast"
)

// days are the three-letter names that both cron and systemd know; cron's week begins with Sunday.
func days() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

func months() []string {
	return []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
}

// expression is a calendar expression in five fields, as sets: true at n says that n is due.
type expression struct {
	fields                                 [5]string // as any cron reads them, without names
	minutes, hours, dates, months, weekday []bool
	last                                   bool // the last day of the month
	either                                 bool // date or weekday; otherwise both
}

// OnCalendar returns the calendar events of systemd.time(7) that together are due when a calendar expression is: five fields as in
// crontab(5), L for the last day of a month, names of months and days, or one of the words @hourly, @daily, @midnight, @weekly,
// @monthly, @quarterly, @yearly and @annually. zone is the name of a time zone, "" for the server's. There are several where a day
// is due by its date or by its weekday, and where L stands beside other days.
//
// What is no expression, or is never due, is a [holdfast.ErrUsage].
func OnCalendar(expr, zone string) ([]string, error) {
	if zone != "" && !zoneRule.MatchString(zone) {
		return nil, refused("time zone", zone, "write it as Europe/Berlin")
	}
	e, err := parse(expr)
	if err != nil {
		return nil, err
	}
	year, clock := "*-"+list(e.months, 1)+"-", " "+list(e.hours, 0)+":"+list(e.minutes, 0)+":00"
	if zone != "" {
		clock += " " + zone
	}
	week := weekdays(e.weekday)
	if week != "" {
		week += " "
	}
	var due []string
	with := func(week string) {
		if e.comesTrue() {
			due = append(due, week+year+list(e.dates, 1)+clock)
		}
		if e.last {
			due = append(due, week+"*-"+list(e.months, 1)+"~01"+clock)
		}
	}
	if !e.either {
		with(week)
		return due, nil
	}
	with("")
	return append(due, week+year+"*"+clock), nil
}

func parse(text string) (expression, error) {
	e := expression{}
	given := strings.Fields(text)
	if len(given) == 1 {
		given = strings.Fields(word(given[0]))
	}
	if len(given) != 5 {
		return e, wrong(text, "write minute, hour, day of month, month and day of week, as in 30 2 * * *, or a word such as @daily")
	}
	e.fields = [5]string(given)
	e.fields[3], e.fields[4] = numbers(given[3], months(), 1), numbers(given[4], days(), 0)
	for i, f := range []struct {
		into     *[]bool
		min, max int
		names    []string
	}{{&e.minutes, 0, 59, nil}, {&e.hours, 0, 23, nil}, {&e.dates, 1, 31, nil}, {&e.months, 1, 12, months()}, {&e.weekday, 0, 7, days()}} {
		*f.into = make([]bool, f.max+1)
		for element := range strings.SplitSeq(given[i], ",") {
			if f.max == 31 && strings.EqualFold(element, "L") {
				e.last = true
			} else if !fill(*f.into, element, f.min, f.names) {
				return e, wrong(text, fmt.Sprintf("%q is none of %d-%d, or a range of these, or a step", element, f.min, f.max))
			}
		}
	}
	// Sunday is 0 and 7.
	e.weekday[0] = e.weekday[0] || e.weekday[7]
	e.weekday = e.weekday[:7]
	e.either = !strings.HasPrefix(given[2], "*") && !strings.HasPrefix(given[4], "*")
	if !e.last && !e.either && !e.comesTrue() {
		return e, wrong(text, "no month has such a day; L is the last of each")
	}
	return e, nil
}

// comesTrue reports whether one of the months has one of the dates.
func (e expression) comesTrue() bool {
	for month, length := range []int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31} {
		if e.months[month] && contains(e.dates[:length+1]) {
			return true
		}
	}
	return false
}

func word(text string) string {
	switch strings.ToLower(text) {
	case "@hourly":
		return "0 * * * *"
	case "@daily", "@midnight":
		return "0 0 * * *"
	case "@weekly":
		return "0 0 * * 0"
	case "@monthly":
		return "0 0 1 * *"
	case "@quarterly":
		return "0 0 1 1,4,7,10 *"
	case "@yearly", "@annually":
		return "0 0 1 1 *"
	}
	return text
}

func wrong(text, hint string) error {
	return holdfast.WithHint(fmt.Errorf("%w: %q is no calendar expression that comes true", holdfast.ErrUsage, text), hint)
}

// fill sets what an element of a list stands for: a value, a range or *, and a step.
func fill(set []bool, element string, min int, names []string) bool {
	span, stepText, stepped := strings.Cut(element, "/")
	from, to, step := min, min+size(set, min)-1, 1
	if stepped {
		var ok bool
		if step, ok = value(stepText, 1, size(set, min), nil); !ok {
			return false
		}
	}
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		var ok, okLast bool
		from, ok = value(first, min, len(set)-1, names)
		to, okLast = from, true
		if ranged {
			to, okLast = value(last, min, len(set)-1, names)
			if len(set) == 8 && strings.EqualFold(last, names[0]) && from > 0 {
				to = 7 // a week that ends with Sunday
			}
		}
		if !ok || !okLast || from > to || stepped && !ranged {
			return false
		}
	}
	for v := from; v <= to; v += step {
		set[v] = true
	}
	return true
}

// size is how many different values a field has: Sunday is two of the numbers of a week.
func size(set []bool, min int) int {
	if len(set) == 8 {
		return 7
	}
	return len(set) - min
}

// numbers replaces names. Some crons know none in ranges, and none knows a week that ends with Sunday as 0.
func numbers(field string, names []string, min int) string {
	field = strings.ToLower(field)
	if min == 0 {
		field = strings.ReplaceAll(strings.ReplaceAll(field, "sun-sun", "0"), "-sun", "-7")
	}
	for i, name := range names {
		field = strings.ReplaceAll(field, name, strconv.Itoa(i+min))
	}
	return field
}

func value(text string, min, max int, names []string) (int, bool) {
	for i, name := range names {
		if strings.EqualFold(text, name) {
			return i + min, true
		}
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= min && n <= max && !strings.ContainsAny(text, "+-")
}

func contains(set []bool) bool {
	for _, due := range set {
		if due {
			return true
		}
	}
	return false
}

// list writes a set as systemd does: * for all, ranges, and single values with two digits. The first value is min.
func list(set []bool, min int) string {
	if step := steps(set, min); step > 1 {
		return fmt.Sprintf("%02d/%d", min, step)
	}
	var parts []string
	for v := min; v < len(set); v++ {
		if !set[v] {
			continue
		}
		end := v
		for end+1 < len(set) && set[end+1] {
			end++
		}
		switch {
		case v == min && end == len(set)-1:
			return "*"
		case end == v:
			parts = append(parts, fmt.Sprintf("%02d", v))
		default:
			parts = append(parts, fmt.Sprintf("%02d..%02d", v, end))
		}
		v = end
	}
	return strings.Join(parts, ",")
}

// steps returns n when every n-th value from min on is set, and no other one, and there are at least three; otherwise 0. It is 0 too where
// the last step is shorter than the others, as it always is in a month: systemd 252 takes *-*-01/4 for the 33rd of December, which is the
// 2nd of January, and so passes over the 1st.
func steps(set []bool, min int) int {
	for step := 2; 3*step <= len(set)-min; step++ {
		if len(set) == 32 || (len(set)-min)%step != 0 {
			continue
		}
		every := true
		for v := min; v < len(set); v++ {
			every = every && set[v] == ((v-min)%step == 0)
		}
		if every {
			return step
		}
	}
	return 0
}

// weekdays writes days of the week, "" for all of them.
func weekdays(set []bool) string {
	var parts []string
	for i := range 7 {
		day := (i + 1) % 7 // systemd's week begins with Monday
		if set[day] {
			name := days()[day]
			parts = append(parts, strings.ToUpper(name[:1])+name[1:])
		}
	}
	if len(parts) == 7 {
		return ""
	}
	return strings.Join(parts, ",")
}
