package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/schedule"
	"holdfast/internal/unit"
)

// timers are those of all jobs' schedules, and of the alarms.
func (p *plan) timers() ([]unit.Timer, error) {
	var all []unit.Timer
	for _, job := range p.cfg.Jobs {
		switch {
		case !job.Schedule.Given:
			p.remark("job %s has no schedule, and gets no timer", job.Name)
			continue
		case job.Schedule.Paused || p.cfg.Service.Paused:
			p.remark("job %s is paused, and gets no timer", job.Name)
			continue
		case len(job.Schedule.Windows)+len(p.cfg.Service.Windows) > 0:
			p.remark("job %s has maintenance windows, which `holdfast serve` heeds, and timers do not", job.Name)
		}
		timers, err := p.timersOf(job)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", job.Name, err)
		}
		all = append(all, timers...)
	}
	if len(p.cfg.Channels) > 0 {
		all = append(all, unit.Timer{Name: "notify-alarms", Args: slices.Concat([]string{"notify", "alarms", "--quiet"}, p.more), Calendar: "*/10 * * * *"})
	}
	if len(all) == 0 {
		return nil, errNoSchedule()
	}
	return all, nil
}

func errNoSchedule() error {
	return holdfast.WithHint(fmt.Errorf("%w: no job has a schedule to go by", holdfast.ErrUsage), `put schedule: {backup: "0 2 * * *"} into a job: docs/cron.md`)
}

func (p *plan) timersOf(job config.Job) ([]unit.Timer, error) {
	var all []unit.Timer
	zone := ""
	if job.Schedule.Zone != time.Local {
		zone = job.Schedule.Zone.String()
	}
	for _, task := range holdfast.Tasks() {
		if job.Schedule.Times[task].IsZero() {
			continue
		}
		if task.Opens() && p.flags.identity == "" {
			p.remark("drills and key checks get no timer without --identity; they belong on a machine that holds it: `holdfast install systemd --drill`")
			continue
		}
		turns, err := turnsOf(p.cfg, job, task)
		if err != nil {
			return nil, err
		}
		for _, turn := range turns {
			args := slices.Concat(turn.args, []string{"--quiet"}, p.more)
			if task.Opens() {
				args = append(args, "--identity", p.cfg.Identity)
			}
			all = append(all, unit.Timer{
				Name: string(job.Name) + "-" + string(task) + turn.suffix, Args: args, Calendar: turn.calendar, Zone: zone, Jitter: job.Schedule.Jitter, Drill: task.Opens(),
			})
		}
	}
	return all, nil
}

// turn is one of the timers that a task needs: the service works out at each due time what is to be done, and a timer always does the same.
type turn struct {
	suffix   string // of the timer's name
	calendar string
	args     []string
}

// turnsOf divides the times of a task among timers.
func turnsOf(cfg *config.Config, job config.Job, task holdfast.Task) ([]turn, error) {
	calendar := job.Schedule.Times[task]
	args, err := taskArguments(cfg, job.Name, task, time.Time{})
	if err != nil {
		return nil, err
	}
	switch task {
	case holdfast.TaskHourly:
		parts, err := withoutFull(calendar, job.Schedule.Times[holdfast.TaskBackup])
		if err != nil {
			return nil, err
		}
		var turns []turn
		for i, part := range parts {
			suffix := ""
			if i > 0 {
				suffix = "-" + strconv.Itoa(i+1)
			}
			turns = append(turns, turn{suffix, part, args})
		}
		return turns, nil
	case holdfast.TaskDrillCopy:
		return mirrorTurns(cfg, job, calendar)
	}
	return []turn{{"", calendar.String(), args}}, nil
}

// mirrorTurns gives each mirror the months that the service would give it. Where the months of a year cannot be shared out evenly, each mirror
// has all of them, which proves more.
func mirrorTurns(cfg *config.Config, job config.Job, calendar schedule.Calendar) ([]turn, error) {
	if len(job.Mirrors) == 1 {
		args, err := taskArguments(cfg, job.Name, holdfast.TaskDrillCopy, time.Time{})
		return []turn{{"", calendar.String(), args}}, err
	}
	var turns []turn
	months := map[string][]string{}
	for month := range 12 {
		args, err := taskArguments(cfg, job.Name, holdfast.TaskDrillCopy, time.Date(2024, time.January+time.Month(month), 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			return nil, err
		}
		mirror := args[len(args)-1]
		if months[mirror] == nil {
			turns = append(turns, turn{"-" + mirror, calendar.String(), args})
		}
		months[mirror] = append(months[mirror], strconv.Itoa(month+1))
	}
	fields := fiveFields(calendar.String())
	if 12%len(job.Mirrors) != 0 || fields[3] != "*" {
		return turns, nil
	}
	for i := range turns {
		fields[3] = strings.Join(months[strings.TrimPrefix(turns[i].suffix, "-")], ",")
		turns[i].calendar = strings.Join(fields, " ")
	}
	return turns, nil
}

// fiveFields writes out those words of calendars that do not name months.
func fiveFields(text string) []string {
	switch strings.ToLower(text) {
	case "@hourly":
		text = "0 * * * *"
	case "@daily", "@midnight":
		text = "0 0 * * *"
	case "@weekly":
		text = "0 0 * * 0"
	case "@monthly":
		text = "0 0 1 * *"
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return make([]string, 5)
	}
	return fields
}

// withoutFull returns expressions that are together due when hourly is and full is not: where both are, the full backup is made, and two runs
// that begin at once would keep each other away.
func withoutFull(hourly, full schedule.Calendar) ([]string, error) {
	hours, even := weekOf(hourly)
	fulls, evenToo := weekOf(full)
	if !even || !evenToo {
		if meet(hourly, full) {
			return nil, holdfast.WithHint(fmt.Errorf("%w: hourly (%s) and backup (%s) fall together at times that timers cannot tell apart", holdfast.ErrUsage, hourly, full),
				"let one of them be due at another minute, or use `holdfast install systemd` without --timers")
		}
		return []string{hourly.String()}, nil
	}
	together := false
	for at := range hours {
		together = together || hours[at] && fulls[at]
	}
	if !together {
		return []string{hourly.String()}, nil
	}
	// Of each weekday the hours that have the same minutes, and of these minutes the weekdays that have the same hours.
	var minutes []string
	days := map[string]map[string][]int{}
	for day := range 7 {
		of := map[string][]int{}
		for hour := range 24 {
			var due []int
			for minute := range 60 {
				if at := (day*24+hour)*60 + minute; hours[at] && !fulls[at] {
					due = append(due, minute)
				}
			}
			if len(due) > 0 {
				text := spans(due, 60)
				of[text] = append(of[text], hour)
			}
		}
		for text, hours := range of {
			if days[text] == nil {
				days[text] = map[string][]int{}
				minutes = append(minutes, text)
			}
			days[text][spans(hours, 24)] = append(days[text][spans(hours, 24)], day)
		}
	}
	var all []string
	for _, minute := range minutes {
		for hour, on := range days[minute] {
			all = append(all, strings.Join([]string{minute, hour, "*", "*", spans(on, 7)}, " "))
		}
	}
	slices.Sort(all)
	return all, nil
}

// testYear begins with a Monday, and the weeks of any year are like its weeks for whoever goes by weekdays alone.
func testYear() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

// weekOf returns the minutes of a week, from Sunday on, at which a calendar is due, and whether every week is like that.
func weekOf(c schedule.Calendar) (due [7 * 24 * 60]bool, even bool) {
	const weeks = 52
	count, distinct := 0, 0
	begin := testYear()
	for at := c.Next(begin.Add(-time.Second), time.UTC); !at.IsZero() && at.Before(begin.AddDate(0, 0, 7*weeks)); at = c.Next(at, time.UTC) {
		slot := (int(at.Weekday())*24+at.Hour())*60 + at.Minute()
		if !due[slot] {
			due[slot] = true
			distinct++
		}
		count++
	}
	return due, count == weeks*distinct
}

// meet reports whether two calendars are ever due at once in four years.
func meet(a, b schedule.Calendar) bool {
	begin := testYear()
	end := begin.AddDate(4, 0, 0)
	at := begin.Add(-time.Second)
	// Each looks for its first time that is not before the other's.
	for {
		first := a.Next(at, time.UTC)
		other := b.Next(first.Add(-time.Second), time.UTC)
		switch {
		case first.IsZero() || other.IsZero() || first.After(end):
			return false
		case other.Equal(first):
			return true
		}
		at = other.Add(-time.Second)
	}
}

// spans writes values as a field of crontab(5) does: * for all of them, and ranges.
func spans(values []int, all int) string {
	if len(values) == all {
		return "*"
	}
	var parts []string
	for i := 0; i < len(values); i++ {
		first := i
		for i+1 < len(values) && values[i+1] == values[i]+1 {
			i++
		}
		part := strconv.Itoa(values[first])
		if i > first {
			part += "-" + strconv.Itoa(values[i])
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}
