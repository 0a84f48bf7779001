package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/schedule"
)

// Service is how `holdfast serve` works.
type Service struct {
	Listen    string         // address of metrics and health; "" when nothing listens
	Textfile  string         // file of metrics for node_exporter; "" for none
	Workers   int            // runs at once
	Retries   int            // of a run that failed or was interrupted
	RetryWait time.Duration  // before the first of them; each further one waits twice as long
	Stall     time.Duration  // a run that shows no sign of life for so long is ended
	Zone      *time.Location // of schedules without one of their own
	Windows   []schedule.Window
	Paused    bool
	Queue     Queue
}

// Queue is the server whose queue several machines share. Its zero value is the machine's own queue.
type Queue struct {
	Conn     string // a connection text of PostgreSQL, without any password
	Password SecretRef
}

// Schedule says when what of a job is due.
type Schedule struct {
	Given   bool   // nothing is ever due of a job that says nothing
	Host    string // that alone makes its backups, where machines share a queue; "": any of them
	Zone    *time.Location
	Jitter  time.Duration // everything is later by less than this, always by the same for one due time
	Windows []schedule.Window
	Paused  bool
	Times   map[holdfast.Task]schedule.Calendar // of every task; the zero Calendar is never
}

// Objectives are what was promised of a job: at most so much is lost, and at most so long it takes to be back.
type Objectives struct{ RPO, RTO time.Duration } // 0: nothing was

func serviceShape() *shape {
	return &shape{name: "service", doc: "How `holdfast serve` works; [service.md](service.md) tells more.", fields: []field{
		{name: "listen", form: formText, example: "127.0.0.1:9420", doc: "Address where `/metrics`, `/healthz` and `/readyz` are answered, without any secret and without authentication. Nothing listens when it is not given."},
		{name: "textfile", form: formPath, example: "/var/lib/prometheus/node-exporter/holdfast.prom", doc: "File that the metrics are written to, for node_exporter's textfile collector."},
		{name: "workers", form: formNumber, fallback: "2", min: 1, max: 64, doc: "How many runs go on at once, over all jobs."},
		{name: "retries", form: formNumber, fallback: "2", min: 0, max: 10, doc: "How often a run that failed, or that a crash interrupted, is tried again before its next time."},
		{name: "retry_wait", form: formSpan, fallback: "10m", doc: "How long the first of these tries waits; each further one waits twice as long."},
		{name: "stall", form: formSpan, fallback: "2h", doc: "A run that shows no sign of life for so long is ended, and counts as failed."},
		{name: "zone", form: formText, fallback: "local", example: "Europe/Berlin", doc: "Time zone of the schedules, by its name, or local for the server's."},
		{name: "windows", form: formTexts, fallback: "none", example: `["0 22 * * sat for 6h"]`, doc: "Maintenance windows: nothing is started in them. What was due then is made up for once, when the window ends."},
		{name: "paused", form: formFlag, fallback: "false", doc: "Start nothing at all. Alarms go on."},
		{name: "queue", form: formSection, shape: queueShape(), doc: "The server of a queue that several machines share: see [fleet.md](fleet.md). Without it each machine has its own."},
	}}
}

func queueShape() *shape {
	return &shape{name: "queue", doc: "A database of PostgreSQL that keeps the queue of several machines.", fields: []field{
		{name: "url", form: formText, needed: true, example: "postgres://holdfast@db1/holdfast?sslmode=verify-full", doc: "Connection URL or keyword/value text, without a password. The role must be able to make tables there."},
		{name: "password", form: formSecret, example: "{file: /etc/holdfast/queue-password}", doc: "The role's password."},
	}}
}

// taskDocs are what the keys of a schedule do. The defaults are those of a job that has a schedule at all.
func taskDoc(task holdfast.Task) (fallback, doc string) {
	switch task {
	case holdfast.TaskBackup:
		return "never", "When a full backup is made and copied to the mirrors."
	case holdfast.TaskHourly:
		return "never", "When a backup of kind hourly is made, for which the keep rules may have a rule of its own. Where a full one is due at the same minute, that is made."
	case holdfast.TaskMirror:
		return "never", "When mirrors get what they lack, besides after each backup."
	case holdfast.TaskVerify:
		return "30 4 * * *", "When the copy that was looked at longest ago is read and its checksums are compared (L1)."
	case holdfast.TaskDrill:
		return "0 5 * * sun", "When the newest backup is proven."
	case holdfast.TaskDrillCopy:
		return "0 5 2 * *, with mirrors", "When the newest backup in a mirror is proven: in the one where that was longest ago."
	case holdfast.TaskDrillOld:
		return "0 5 15 1,4,7,10 *", "When a random backup that is two to three weeks old is proven."
	case holdfast.TaskKeyCheck:
		return "0 6 15 1,4,7,10 *", "When it is checked that the identity opens what was sealed last."
	}
	return "30 5 * * *, with keep", "When a prune deletes what no rule keeps."
}

func scheduleShape() *shape {
	s := &shape{name: "schedule", doc: "When `holdfast serve`, or the timers of `holdfast install`, run what of a job. Each time is a cron expression of five fields, a word such as @hourly, @daily, @weekly, @monthly or @quarterly, or `never`. Without a schedule a job is run by hand."}
	for _, task := range holdfast.Tasks() {
		fallback, doc := taskDoc(task)
		example, _ := defaultTime(task)
		if task == holdfast.TaskBackup {
			example = "0 2 * * *"
		}
		s.fields = append(s.fields, field{name: string(task), form: formText, fallback: fallback, example: quoteText(example), doc: doc})
	}
	s.fields = append(s.fields,
		field{name: "host", form: formText, fallback: "any", example: "web1", doc: "The host (by its name in the configuration) that alone runs what needs the sources, where several machines share a queue."},
		field{name: "zone", form: formText, fallback: "service.zone", example: "Europe/Berlin", doc: "Time zone of these times, by its name, or local for the server's."},
		field{name: "jitter", form: formSpan, fallback: "0s", example: "10m", doc: "Everything is later by less than this, which must be shorter than the time between two of a task, so that many hosts do not all begin at once. For one time it is always the same."},
		field{name: "windows", form: formTexts, fallback: "none", example: `["0 22 * * sat for 6h"]`, doc: "Maintenance windows of this job."},
		field{name: "paused", form: formFlag, fallback: "false", doc: "Start nothing of this job. Its alarms go on."},
	)
	return s
}

func objectivesShape() *shape {
	return &shape{name: "objectives", doc: "What was promised, and is compared with what is measured.", fields: []field{
		{name: "rpo", form: formSpan, example: "24h", doc: "How much work may be lost at most: the age of the newest backup."},
		{name: "rto", form: formSpan, example: "4h", doc: "How long a restore may take at most: what the last drill took."},
	}}
}

const localZone = "local"

// newService returns the defaults.
func newService() Service {
	return Service{Workers: 2, Retries: 2, RetryWait: 10 * time.Minute, Stall: 2 * time.Hour, Zone: time.Local}
}

func (r *reader) readService(s *section) Service {
	service := newService()
	s.one("listen", "text", func(text string, _ field) error {
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Errorf("must be an address and a port such as 127.0.0.1:9420, not %q", text)
		}
		service.Listen = text
		return nil
	})
	s.pathTo("textfile", &service.Textfile)
	s.number("workers", &service.Workers)
	s.number("retries", &service.Retries)
	s.span("retry_wait", &service.RetryWait)
	s.span("stall", &service.Stall)
	s.zone("zone", true, &service.Zone)
	service.Windows = s.windows("windows")
	s.flag("paused", &service.Paused)
	if node, _, found := s.value("queue"); found {
		if queue := r.section(node, "service.queue", queueShape()); queue != nil {
			r.readQueue(queue, &service.Queue)
		}
	}
	return service
}

func (r *reader) readQueue(s *section, into *Queue) {
	s.one("url", "text", func(text string, _ field) error {
		c, err := parseConn(text)
		if err != nil {
			return err
		}
		if !c.password.IsZero() {
			return errors.New("holds a password; take it out and refer to it: password: {env: NAME} or {file: PATH}")
		}
		into.Conn = c.text
		return nil
	})
	s.secret("password", &into.Password)
}

func (r *reader) readSchedule(s *section, j *draftJob) {
	into := &j.Schedule
	into.Given = true
	into.Times = map[holdfast.Task]schedule.Calendar{}
	for _, task := range holdfast.Tasks() {
		s.one(string(task), "text", func(text string, _ field) error {
			calendar, err := schedule.Parse(text)
			if err != nil {
				return fromUsage(err)
			}
			into.Times[task] = calendar
			return nil
		})
	}
	if s.values["backup"] != nil || s.values["hourly"] != nil {
		j.places["schedule"] = s.at
	}
	s.text("host", &into.Host)
	s.zone("zone", true, &into.Zone)
	s.span("jitter", &into.Jitter)
	into.Windows = s.windows("windows")
	s.flag("paused", &into.Paused)
}

// fromUsage is an error of a user's text as a mistake of the configuration tells it: with its hint, and without the mark.
func fromUsage(err error) error {
	text := holdfast.Sentence(err)
	if hint := holdfast.Hint(err); hint != "" {
		text += "; " + hint
	}
	return fmt.Errorf("%s", text)
}

// zone reads a time zone by its name. Whoever keeps backups by their days needs one that is the same on every machine.
func (s *section) zone(name string, local bool, into **time.Location) {
	s.one(name, "text", func(text string, _ field) error {
		if local && text == localZone {
			*into = time.Local
			return nil
		}
		zone, err := time.LoadLocation(text)
		if err != nil || text == "Local" {
			return fmt.Errorf("%q is not a time zone such as Europe/Berlin", text)
		}
		*into = zone
		return nil
	})
}

func (s *section) windows(name string) []schedule.Window {
	var all []schedule.Window
	for i, l := range s.texts(name, "windows") {
		window, err := schedule.ParseWindow(l.text)
		if err != nil {
			s.r.fault(l.at, "%s: %s", element(s.path, name, i), fromUsage(err))
			continue
		}
		all = append(all, window)
	}
	return all
}

// The conditions of default times.
const (
	withMirrors = "mirrors"
	withKeep    = "keep"
)

// defaultTime is when a task is due where a schedule does not say, and what a job must have for that; "" for nothing.
func defaultTime(task holdfast.Task) (text, condition string) {
	fallback, _ := taskDoc(task)
	text, condition, _ = strings.Cut(fallback, ", with ")
	return text, condition
}

// completeSchedule fills in what is due by default, once the job's stores are known.
func (r *reader) completeSchedule(service Service, j *draftJob) {
	s := &j.Schedule
	if !s.Given {
		return
	}
	if s.Zone == nil {
		s.Zone = service.Zone
	}
	for _, task := range holdfast.Tasks() {
		if _, given := s.Times[task]; given {
			continue
		}
		text, condition := defaultTime(task)
		if condition == withMirrors && len(j.mirrors) == 0 || condition == withKeep && !j.Keep.Given {
			text = "never"
		}
		calendar, err := schedule.Parse(text)
		if err != nil {
			panic("config: the default of schedule." + string(task) + " is not readable: " + err.Error())
		}
		s.Times[task] = calendar
	}
	for _, task := range holdfast.Tasks() {
		if s.Jitter == 0 {
			break
		}
		if least := leastGap(s.Times[task], r.now, s.Zone); least > 0 && s.Jitter > least {
			r.fault(j.at, "jobs.%s.schedule.jitter: %s is longer than the %s between two times of %s, which would be skipped; make it shorter", j.Name, formatSpan(s.Jitter), formatSpan(least), task)
			break
		}
	}
	// A mirror that a flag makes the first store, for this once, is in Mirrors no more.
	if len(j.mirrors) == 0 {
		for _, task := range []holdfast.Task{holdfast.TaskMirror, holdfast.TaskDrillCopy} {
			if !s.Times[task].IsZero() {
				r.fault(j.at, "jobs.%s.schedule.%s: the job has no mirrors; name one in mirrors, or leave this out", j.Name, task)
			}
		}
	}
	if hourly := s.Times[holdfast.TaskHourly]; !hourly.IsZero() && s.after(holdfast.TaskHourly, r.now).IsZero() {
		r.fault(j.at, "jobs.%s.schedule.hourly: it is due when backup is, and would never be made; leave one of them out", j.Name)
	}
	if _, said := j.places["schedule"]; !said {
		r.fault(j.at, "jobs.%s.schedule: says nothing of backups; give backup or hourly, or backup: never where another machine makes them", j.Name)
	}
	if !s.Times[holdfast.TaskPrune].IsZero() && !j.Keep.Given {
		r.fault(j.at, "jobs.%s.schedule.prune: nothing says what the job keeps; add keep, or leave this out", j.Name)
	}
}

// mostGaps are as many as an hour with a time in each minute has, or five days with one in each hour: minutes repeat in every hour, and hours on
// every day.
const mostGaps = 130

// leastGap is the shortest time between two of the next times of a calendar; 0 when there are none.
func leastGap(c schedule.Calendar, from time.Time, zone *time.Location) time.Duration {
	var least time.Duration
	at := c.Next(from, zone)
	for range mostGaps {
		next := c.Next(at, zone)
		if next.IsZero() {
			break
		}
		if gap := next.Sub(at); least == 0 || gap < least {
			least = gap
		}
		at = next
	}
	return least
}

// service shows how the service works.
func (s *settings) service(v Service) {
	s.given("service.listen", v.Listen)
	s.given("service.textfile", v.Textfile)
	s.count("service.workers", v.Workers)
	s.count("service.retries", v.Retries)
	s.span("service.retry_wait", v.RetryWait)
	s.span("service.stall", v.Stall)
	s.add("service.zone", zoneName(v.Zone))
	s.given("service.windows", windowsText(v.Windows))
	if v.Paused {
		s.add("service.paused", "true")
	}
	s.given("service.queue.url", v.Queue.Conn)
	s.given("service.queue.password", v.Queue.Password.String())
}

func zoneName(zone *time.Location) string {
	if zone == time.Local {
		return localZone
	}
	return zone.String()
}

func windowsText(windows []schedule.Window) string {
	var all []string
	for _, window := range windows {
		all = append(all, window.String())
	}
	return strings.Join(all, ", ")
}

// schedule shows when what is due.
func (s *settings) schedule(path string, v Schedule) {
	if !v.Given {
		s.add(strings.TrimSuffix(path, "."), "never: it is run by hand")
		return
	}
	for _, task := range holdfast.Tasks() {
		s.add(path+string(task), v.Times[task].String())
	}
	s.given(path+"host", v.Host)
	s.add(path+"zone", zoneName(v.Zone))
	s.span(path+"jitter", v.Jitter)
	s.given(path+"windows", windowsText(v.Windows))
	if v.Paused {
		s.add(path+"paused", "true")
	}
}

func (s *settings) objectives(path string, v Objectives) {
	s.span(path+"rpo", v.RPO)
	s.span(path+"rto", v.RTO)
}

// At tells the task's last due time that is not after at, and the next one, both with their jitter; zero for a task that is never due.
func (s Schedule) At(job holdfast.JobName, task holdfast.Task, at time.Time) (last, next time.Time) {
	late := func(due time.Time) time.Time {
		if due.IsZero() {
			return due
		}
		return due.Add(schedule.Jitter(string(job)+"/"+string(task), due, s.Jitter))
	}
	// With jitter, what the calendar calls its last time may still be to come.
	due := s.before(task, at)
	for !due.IsZero() && late(due).After(at) {
		next, due = late(due), s.before(task, due.Add(-1))
	}
	if next.IsZero() {
		next = late(s.after(task, at))
	}
	return late(due), next
}

// mostTogether bounds how many due times of an hourly backup are looked at that fall together with those of a full one: a week of minutes.
const mostTogether = 7 * 24 * 60

// before and after are the times around at. An hourly backup is left out where a full one is due.
func (s Schedule) before(task holdfast.Task, at time.Time) time.Time {
	due := s.Times[task].Last(at, s.Zone)
	for range mostTogether {
		if !s.together(task, due) {
			return due
		}
		due = s.Times[task].Last(due.Add(-1), s.Zone)
	}
	return time.Time{}
}

func (s Schedule) after(task holdfast.Task, at time.Time) time.Time {
	due := s.Times[task].Next(at, s.Zone)
	for range mostTogether {
		if !s.together(task, due) {
			return due
		}
		due = s.Times[task].Next(due, s.Zone)
	}
	return time.Time{}
}

// LeftOut reports whether what is due of the task now is left out, because a full backup is due at the same minute.
func (s Schedule) LeftOut(task holdfast.Task, at time.Time) bool {
	return s.together(task, s.Times[task].Last(at, s.Zone))
}

func (s Schedule) together(task holdfast.Task, due time.Time) bool {
	return task == holdfast.TaskHourly && !due.IsZero() && s.Times[holdfast.TaskBackup].Last(due, s.Zone).Equal(due)
}

// Gap is how far apart the task's due times are around at; 0 when it is never due.
func (s Schedule) Gap(task holdfast.Task, at time.Time) time.Duration {
	return s.Times[task].Gap(at, s.Zone)
}

// Kind is the task of a job's backups that comes most often; "" when none is ever due.
func (s Schedule) Kind(at time.Time) holdfast.Task {
	var most holdfast.Task
	for _, task := range slices.DeleteFunc(holdfast.Tasks(), func(t holdfast.Task) bool { return !t.BacksUp() || s.Times[t].IsZero() }) {
		if most == "" || s.Gap(task, at) < s.Gap(most, at) {
			most = task
		}
	}
	return most
}
