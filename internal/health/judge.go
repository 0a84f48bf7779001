package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

const day = 24 * time.Hour

// Limits are the thresholds. A zero value is the default that stands beside it.
type Limits struct {
	Size     float64       // how far an item may be from the median of its last 7 days: 0.3 is 30 % (0.3)
	Duration float64       // how many times the median a run may take (3)
	DiskDays int           // a store that is full within so many days is told (14)
	KeyDays  int           // a key that expires within so many days is told (30)
	KeyAge   time.Duration // after which a key is due for rotation (365 days)
	KeyCheck time.Duration // after which an identity is due to be tried (100 days)
	Grace    time.Duration // added to every interval; 0: a twelfth of it, at least 30 minutes and at most 12 hours
}

func (l Limits) filled() Limits {
	set := func(into *float64, value float64) {
		if *into == 0 {
			*into = value
		}
	}
	set(&l.Size, 0.3)
	set(&l.Duration, 3)
	if l.DiskDays == 0 {
		l.DiskDays = 14
	}
	if l.KeyDays == 0 {
		l.KeyDays = 30
	}
	if l.KeyAge == 0 {
		l.KeyAge = 365 * day
	}
	if l.KeyCheck == 0 {
		l.KeyCheck = 100 * day
	}
	return l
}

const (
	leastGrace = 30 * time.Minute
	mostGrace  = 12 * time.Hour

	// leastHistory is how many earlier backups a median needs.
	leastHistory = 3
	// history is how far back they are looked for.
	history = 7 * day
	// leastBytes and leastTook are differences that are never told: sealed files of a few blocks vary by themselves.
	leastBytes = 4 << 10
	leastTook  = time.Minute
	// ahead is how far in the future a backup may seem to be.
	ahead = 5 * time.Minute
)

// GraceFor is what may be added to an interval before something counts as late: for a daily job two hours.
func (l Limits) GraceFor(interval time.Duration) time.Duration {
	if l.Grace > 0 {
		return l.Grace
	}
	return min(max(interval/12, leastGrace), mostGrace)
}

// Judge tells what is wrong, the worst first.
func Judge(s State, l Limits) []Finding {
	l = l.filled()
	j := judge{State: s, Limits: l}
	for _, job := range s.Jobs {
		j.runs(job)
		j.places(job)
		j.sizes(job)
		j.durations(job)
		j.drills(job)
		j.objectives(job)
		if len(job.Recipient) > 0 {
			j.add(Finding{Alarm: RecipientUnknown, Job: job.Name, Text: "the newest backup is sealed to keys that the configuration does not know: " + strings.Join(job.Recipient, ", "),
				Hint: "if nobody of you put them there, treat the host as compromised: docs/key-compromise.md"})
		}
	}
	for _, store := range s.Stores {
		j.disk(store)
	}
	for _, key := range s.Keys {
		j.key(key)
	}
	j.service()
	return sorted(j.found)
}

type judge struct {
	State
	Limits
	found []Finding
}

func (j *judge) add(f Finding) { j.found = append(j.found, f) }

func (j *judge) runs(job Job) {
	newest, some := job.Newest()
	attempt, tried := job.Attempt()
	if tried && !good(attempt.Result) && attempt.Result != "incomplete" && (!some || attempt.Attempt.After(newest.Time.Add(newest.Took))) {
		text := "the last run made no backup (" + attempt.Result + ")"
		if attempt.Result == "interrupted" {
			text = "the last run was interrupted and made no backup"
		}
		j.add(Finding{Alarm: RunFailed, Job: job.Name, Since: attempt.Attempt, Text: text, Hint: "`holdfast audit show --job " + string(job.Name) + "` and the log say more; `holdfast doctor` looks for the cause"})
	}
	if n := len(job.Backups); n > 0 && !job.Backups[n-1].Complete {
		j.add(Finding{Alarm: Incomplete, Job: job.Name, Since: job.Backups[n-1].Time, Text: "the newest backup lacks a source", Hint: "`holdfast show " + string(job.Backups[n-1].ID) + "` names it"})
	}
	if some && newest.Time.After(j.At.Add(ahead)) {
		j.add(Finding{Alarm: ClockOff, Job: job.Name, Text: "its newest backup lies " + Span(newest.Time.Sub(j.At)) + " in the future", Hint: "look at the clock of this host, and at that of the host that made it"})
	}
	if job.Interval == 0 {
		return
	}
	limit := job.Interval + j.GraceFor(job.Interval)
	switch {
	case !some && tried && attempt.Success.IsZero():
		// It never succeeded: told as a failed run.
	case !some && !job.Scheduled:
		j.add(Finding{Alarm: Stale, Job: job.Name, Text: "there is no complete backup", Hint: "make one: `holdfast backup " + string(job.Name) + "`"})
	case some && j.At.Sub(newest.Time) > limit:
		j.add(Finding{Alarm: Stale, Job: job.Name, Since: newest.Time.Add(limit),
			Text: fmt.Sprintf("the newest complete backup is %s old, and one is expected every %s", Span(j.At.Sub(newest.Time)), Span(job.Interval)),
			Hint: "`holdfast backup " + string(job.Name) + "` makes one now; `holdfast doctor` looks for the cause"})
	}
}

func good(result string) bool { return result == "good" || result == "" }

func (j *judge) places(job Job) {
	newest, some := job.Newest()
	for _, place := range job.Places {
		about := Finding{Job: job.Name, Store: place.Store}
		with := func(alarm Alarm, since time.Time, text, hint string) {
			f := about
			f.Alarm, f.Since, f.Text, f.Hint = alarm, since, text, hint
			j.add(f)
		}
		if place.Down != "" {
			with(StoreDown, time.Time{}, "it cannot be looked at: "+place.Down, "`holdfast doctor "+string(job.Name)+"` tries it")
			continue
		}
		late := j.GraceFor(max(job.Interval, day))
		if some && newest.Time.After(place.Newest) && j.At.Sub(newest.Time) > late {
			text := "it has no copy of any complete backup"
			if !place.Newest.IsZero() {
				text = "it lacks the newest backup; its own newest is " + Span(j.At.Sub(place.Newest)) + " old"
			}
			with(CopyMissing, newest.Time.Add(late), text, "`holdfast mirror "+string(job.Name)+"` copies what is missing, and says why it does not")
		}
		if place.Damaged > 0 {
			with(VerifyFailed, time.Time{}, count(place.Damaged, "copy")+" did not stand the last check", "`holdfast list` names them; a mirror may have a good copy: docs/verify.md")
		}
		if place.Blocked != "" && place.Since.After(place.Pruned) {
			with(PruneBlocked, place.Since, "nothing is deleted: "+place.Blocked, "mend that first: docs/retention.md")
		}
	}
}

// sizes compares each item of the newest complete backup with the median of those of the same kind in the days before.
func (j *judge) sizes(job Job) {
	newest, some := job.Newest()
	if !some {
		return
	}
	for _, item := range newest.Items {
		var earlier []int64
		for _, b := range j.before(job, newest) {
			for _, other := range b.Items {
				if other.Source == item.Source && other.Name == item.Name {
					earlier = append(earlier, other.Stored)
				}
			}
		}
		usual, known := median(earlier)
		if !known {
			continue
		}
		if off := item.Stored - usual; max(off, -off) >= leastBytes && float64(max(off, -off)) > j.Size*float64(usual) {
			than := "larger"
			if off < 0 {
				than = "smaller"
			}
			j.add(Finding{Alarm: SizeOdd, Job: job.Name, What: string(item.Source) + "/" + item.Name, Since: newest.Time,
				Text: fmt.Sprintf("source %s: %s is %d %% %s than the median of the last 7 days", item.Source, item.Name, 100*max(off, -off)/max(usual, 1), than),
				Hint: "`holdfast show` of both backups has the figures; a drill of the newest one says whether it restores"})
		}
	}
}

// before lists the complete backups of the same kind in the days before one.
func (j *judge) before(job Job, newest Backup) []Backup {
	var all []Backup
	for _, b := range job.Backups {
		if b.Complete && b.Kind == newest.Kind && b.Time.Before(newest.Time) && newest.Time.Sub(b.Time) <= history {
			all = append(all, b)
		}
	}
	return all
}

func (j *judge) durations(job Job) {
	newest, some := job.Newest()
	if !some || newest.Took == 0 {
		return
	}
	var earlier []int64
	for _, b := range j.before(job, newest) {
		if b.Took > 0 {
			earlier = append(earlier, int64(b.Took))
		}
	}
	if usual, known := median(earlier); known && newest.Took-time.Duration(usual) >= leastTook && float64(newest.Took) > j.Duration*float64(usual) {
		j.add(Finding{Alarm: DurationOdd, Job: job.Name, Since: newest.Time,
			Text: fmt.Sprintf("the last run took %s, and the median of the last 7 days is %s", Span(newest.Took), Span(time.Duration(usual))),
			Hint: "`holdfast show " + string(newest.ID) + "` tells the time of each item"})
	}
}

// median is known of at least leastHistory values.
func median(values []int64) (int64, bool) {
	if len(values) < leastHistory {
		return 0, false
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2, true
	}
	return values[len(values)/2], true
}

func (j *judge) drills(job Job) {
	last, drilled := job.Drilled()
	if drilled {
		about := Finding{Job: job.Name, Since: last.Time}
		switch last.Verdict {
		case holdfast.Failed:
			about.Alarm, about.Text = DrillFailed, "the drill of backup "+string(last.Backup)+" found differences"
			about.Hint = "the report names them: docs/drill.md; an older backup may restore: `holdfast drill ID`"
			j.add(about)
		case holdfast.CannotTest:
			about.Alarm, about.Text = DrillImpossible, "the last drill could not test backup "+string(last.Backup)
			about.Hint = "its report names what is missing: docs/drill.md"
			j.add(about)
		}
	}
	for _, task := range job.Tasks {
		if !task.Task.Opens() || task.Task == holdfast.TaskKeyCheck || task.Interval == 0 {
			continue
		}
		if task.Task == holdfast.TaskDrillCopy && job.Down() {
			continue // what was proven there cannot be seen, and that the store is down is told
		}
		since, ever := job.provenAs(task.Task)
		if !ever && len(job.Backups) > 0 {
			since = job.Backups[0].Time
		}
		limit := task.Interval + j.GraceFor(task.Interval)
		if since.IsZero() || j.At.Sub(since) <= limit {
			continue
		}
		text := "nothing was ever proven"
		if ever {
			text = "the last passing drill is " + Span(j.At.Sub(since)) + " old"
		}
		j.add(Finding{Alarm: DrillOverdue, Job: job.Name, What: string(task.Task), Since: since.Add(limit),
			Text: fmt.Sprintf("%s (%s), and one is due every %s", text, drillName(task.Task), Span(task.Interval)),
			Hint: "where the identity is: `" + drillCommand(job, task.Task) + "`, or `holdfast serve --tasks drills`: docs/service.md"})
	}
}

// Down reports whether a store of the job could not be looked at.
func (j Job) Down() bool {
	return slices.ContainsFunc(j.Places, func(p Place) bool { return p.Down != "" })
}

func drillName(task holdfast.Task) string {
	switch task {
	case holdfast.TaskDrillCopy:
		return "from a mirror"
	case holdfast.TaskDrillOld:
		return "of an old backup"
	}
	return "of the newest"
}

func drillCommand(job Job, task holdfast.Task) string {
	text := "holdfast drill --job " + string(job.Name)
	switch task {
	case holdfast.TaskDrillCopy:
		if len(job.Places) > 1 {
			text += " --store " + job.Places[1].Store
		}
	case holdfast.TaskDrillOld:
		text += " --pick random --older-than 14d"
	}
	return text
}

// Old is how old a backup must be for a drill of it to be one of an old backup.
const Old = 14 * day

// provenAs is when the newest drill passed that counts for a task.
func (j Job) provenAs(task holdfast.Task) (time.Time, bool) {
	p, found := j.proof(func(p Proof) bool {
		if p.Verdict != holdfast.Proven || !p.Trusted {
			return false
		}
		switch task {
		case holdfast.TaskDrillCopy:
			return p.Store != "" && len(j.Places) > 0 && p.Store != j.Places[0].Store
		case holdfast.TaskDrillOld:
			return p.Time.Sub(p.Of) >= Old
		}
		return true
	})
	return p.Time, found
}

func (j *judge) objectives(job Job) {
	newest, some := job.Newest()
	if job.RPO > 0 && (some || len(job.Backups) > 0) && (!some || j.At.Sub(newest.Time) > job.RPO) {
		f := Finding{Alarm: ObjectiveMissed, Job: job.Name, What: "rpo", Text: "no complete backup, and at most " + Span(job.RPO) + " may be lost (RPO)", Hint: "`holdfast backup " + string(job.Name) + "`, or a schedule that fits: docs/service.md"}
		if some {
			f.Since = newest.Time.Add(job.RPO)
			f.Text = fmt.Sprintf("%s of work would be lost now, and at most %s may be (RPO)", Span(j.At.Sub(newest.Time)), Span(job.RPO))
		}
		j.add(f)
	}
	if proof, is := job.Proven(); is && job.RTO > 0 && proof.RTO > job.RTO {
		j.add(Finding{Alarm: ObjectiveMissed, Job: job.Name, What: "rto", Since: proof.Time,
			Text: fmt.Sprintf("the last drill took %s, and a restore may take %s at most (RTO)", Span(proof.RTO), Span(job.RTO)),
			Hint: "the drill's report tells the time of each phase"})
	}
}

// disk tells when a store is full, by a line through what was free in the last days.
func (j *judge) disk(store Store) {
	if store.Free < 0 || len(store.Used) < leastHistory {
		return
	}
	first, last := store.Used[0], store.Used[len(store.Used)-1]
	if last.Time.Sub(first.Time) < 2*day {
		return
	}
	var n, sx, sy, sxx, sxy float64
	for _, sample := range store.Used {
		x, y := sample.Time.Sub(first.Time).Hours()/24, float64(sample.Free)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx) // bytes a day
	if slope >= 0 {
		return
	}
	if days := float64(store.Free) / -slope; days < float64(j.DiskDays) {
		j.add(Finding{Alarm: DiskFull, Store: store.Name, Text: fmt.Sprintf("it is full in %d days, if it goes on as in the last %s", int(days), Span(last.Time.Sub(first.Time))),
			Hint: "keep less (`holdfast prune --dry-run`), or give it a larger disk"})
	}
}

func (j *judge) key(key Key) {
	about := Finding{Alarm: KeyDue, What: key.Name, Hint: "`holdfast key rotate`: docs/keys.md"}
	with := func(what, text string) {
		f := about
		f.What, f.Text = key.Name+"/"+what, "key "+key.Name+" "+text
		j.add(f)
	}
	if !key.Needed {
		return
	}
	if left := key.Expires.Sub(j.At); !key.Expires.IsZero() && left < time.Duration(j.KeyDays)*day {
		if left < 0 {
			with("expires", "has expired: nothing is backed up for it any more")
		} else {
			with("expires", "expires in "+Span(left))
		}
	}
	if !key.Created.IsZero() && j.At.Sub(key.Created) > j.KeyAge {
		with("age", "is "+Span(j.At.Sub(key.Created))+" old and due for rotation")
	}
	if since := later(key.Checked, key.Created); !since.IsZero() && j.At.Sub(since) > j.KeyCheck {
		about.Hint = "whoever holds the identity runs `holdfast key check`"
		with("check", "was not tried for "+Span(j.At.Sub(since))+": nobody knows whether its identity still opens anything")
	}
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

func (j *judge) service() {
	if j.Audit.Broken != "" {
		j.add(Finding{Alarm: AuditBroken, Since: j.Audit.Checked, Text: "the journal is not what was signed: " + j.Audit.Broken, Hint: "`holdfast audit verify` says more: docs/audit.md"})
	}
	if j.Service.Config != "" {
		j.add(Finding{Alarm: ConfigChanged, Text: j.Service.Config, Hint: "`holdfast config check`, then `systemctl reload holdfast`"})
	}
	if j.Service.Clock != "" {
		j.add(Finding{Alarm: ClockOff, What: "service", Text: j.Service.Clock, Hint: "look at the host's time synchronisation"})
	}
	for _, channel := range j.Service.Channels {
		if channel.Failed != "" {
			j.add(Finding{Alarm: ChannelFailing, What: channel.Name, Since: channel.Since, Text: "channel " + channel.Name + " does not take messages: " + channel.Failed, Hint: "`holdfast notify test " + channel.Name + "`"})
		}
	}
}
