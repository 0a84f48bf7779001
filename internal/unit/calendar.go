package unit

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"holdfast/internal/schedule"
)

// days are the three-letter names that both cron and systemd know; cron's week begins with Sunday.
func days() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

func months() []string {
	return []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
}

// lastDay is what schedule has in the set of days for the last one of a month.
const lastDay = 1

// onCalendar returns the calendar events of systemd.time(7) that together are due when a calendar is, in a time zone, "" for the server's.
// There are several where a day is due by its date or by its weekday, and where L stands beside other days.
func onCalendar(c schedule.Calendar, zone string) []string {
	sets, either := c.Sets()
	dates, ofYear := sets[2]&^lastDay, sets[3]
	year, clock := "*-"+list(ofYear, 1, 12)+"-", " "+list(sets[1], 0, 23)+":"+list(sets[0], 0, 59)+":00"
	if zone != "" {
		clock += " " + zone
	}
	week := weekdays(sets[4])
	if week != "" {
		week += " "
	}
	var due []string
	with := func(week string) {
		if comesTrue(dates, ofYear) {
			due = append(due, week+year+list(dates, 1, 31)+clock)
		}
		if sets[2]&lastDay != 0 {
			due = append(due, week+strings.TrimSuffix(year, "-")+"~01"+clock)
		}
	}
	if !either {
		with(week)
		return due
	}
	with("")
	return append(due, week+year+"*"+clock)
}

// comesTrue reports whether one of the months has one of the dates.
func comesTrue(dates, months uint64) bool {
	for month, length := range []int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31} {
		if months&(1<<month) != 0 && dates&(1<<(length+1)-1) != 0 {
			return true
		}
	}
	return false
}

// cronFields writes a calendar in five fields as any cron reads them: without words, of which not all know the same, and without names. Its L
// is as it was written.
func cronFields(c schedule.Calendar) []string {
	if fields := strings.Fields(c.String()); len(fields) == 5 {
		fields[3], fields[4] = numbers(fields[3], months(), 1), numbers(fields[4], days(), 0)
		return fields
	}
	// A word has one value in a field, or all, or the first months of quarters.
	sets, _ := c.Sets()
	var fields []string
	for i, size := range []int{60, 24, 31, 12, 7} {
		var values []string
		for set := sets[i]; set != 0; set &= set - 1 {
			values = append(values, strconv.Itoa(bits.TrailingZeros64(set)))
		}
		if len(values) == size {
			values = []string{"*"}
		}
		fields = append(fields, strings.Join(values, ","))
	}
	return fields
}

// numbers replaces names. Some crons know none in ranges, and none knows a week that ends with Sunday as 0.
func numbers(field string, names []string, min int) string {
	elements := strings.Split(strings.ToLower(field), ",")
	for i, element := range elements {
		if from, step, ends := strings.Cut(element, "-sun"); ends {
			element = from + "-7" + step
			if strings.Trim(from, "0") == "" || from == "sun" {
				element = "0" // nothing but Sunday, and no week
			}
		}
		for n, name := range names {
			element = strings.ReplaceAll(element, name, strconv.Itoa(n+min))
		}
		elements[i] = element
	}
	return strings.Join(elements, ",")
}

// list writes a set as systemd does: * for all, ranges, and single values with two digits.
func list(set uint64, min, max int) string {
	if step := steps(set, min, max); step > 1 {
		return fmt.Sprintf("%02d/%d", min, step)
	}
	has := func(v int) bool { return v <= max && set&(1<<v) != 0 }
	var parts []string
	for v := min; v <= max; v++ {
		if !has(v) {
			continue
		}
		end := v
		for has(end + 1) {
			end++
		}
		switch {
		case v == min && end == max:
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
func steps(set uint64, min, max int) int {
	size := max - min + 1
	for step := 2; 3*step <= size && max != 31; step++ {
		if size%step != 0 {
			continue
		}
		var every uint64
		for v := min; v <= max; v += step {
			every |= 1 << v
		}
		if set == every {
			return step
		}
	}
	return 0
}

// weekdays writes days of the week, "" for all of them.
func weekdays(set uint64) string {
	var parts []string
	for i := range 7 {
		day := (i + 1) % 7 // systemd's week begins with Monday
		if set&(1<<day) != 0 {
			name := days()[day]
			parts = append(parts, strings.ToUpper(name[:1])+name[1:])
		}
	}
	if len(parts) == 7 {
		return ""
	}
	return strings.Join(parts, ",")
}
