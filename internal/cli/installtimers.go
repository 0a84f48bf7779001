package cli

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/schedule"
	"holdfast/internal/unit"
)

// timers are those of all jobs' schedules, and of the alarms.
func (p *plan) timers() ([]unit.Timer, error) {
	var all []unit.Timer
	if p.cfg.Service.Queue.Conn != "" {
		p.remark("timers and cron know nothing of service.queue: on each machine that has them they run every job, whatever its schedule.host says; `holdfast serve` shares the work")
	}
	if p.cfg.Service.Listen != "" || p.cfg.Service.Textfile != "" {
		p.remark("timers and cron make no metrics: service.listen and service.textfile are for `holdfast serve`")
	}
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
		tenMinutes, err := schedule.Parse("*/10 * * * *")
		if err != nil {
			return nil, err
		}
		all = append(all, unit.Timer{Name: "notify-alarms", Args: slices.Concat([]string{"notify", "alarms", "--quiet"}, p.more), Calendar: tenMinutes})
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
		args, err := taskArguments(p.cfg, job.Name, task)
		if err != nil {
			return nil, err
		}
		if task == holdfast.TaskHourly {
			args = append(args, "--scheduled")
		}
		args = slices.Concat(args, []string{"--quiet"}, p.more)
		if task.Opens() {
			args = append(args, "--identity", p.cfg.Identity)
		}
		all = append(all, unit.Timer{
			Name: string(job.Name) + "-" + string(task), Args: args, Calendar: job.Schedule.Times[task], Zone: zone, Jitter: job.Schedule.Jitter, Drill: task.Opens(),
		})
	}
	return all, nil
}
