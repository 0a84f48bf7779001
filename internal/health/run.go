package health

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// runs judges how the newest run ended.
func (j *judge) runs(job Job) {
	newest, some := job.Newest()
	attempt, tried := job.Attempt()
	if tried && failed(attempt) && (!some || attempt.Attempt.After(newest.Time.Add(newest.Took))) {
		text := "the last run made no backup (" + attempt.Result + ")"
		if attempt.Result == "interrupted" {
			text = "the last run was interrupted" // and may have made one just before
		}
		j.add(Finding{Alarm: RunFailed, Job: job.Name, Since: attempt.Attempt, Text: text, Hint: "`holdfast audit show --job " + string(job.Name) + "` and the log say more; `holdfast doctor` looks for the cause"})
	}
	if n := len(job.Backups); n > 0 && !job.Backups[n-1].Complete {
		j.add(Finding{Alarm: Incomplete, Job: job.Name, Since: job.Backups[n-1].Time, Text: "the newest backup lacks a source", Hint: "`holdfast show " + string(job.Backups[n-1].ID) + "` names it"})
	}
}

// chores judges what is done beside backups and drills, where nothing else tells that it failed: a copy that is missing, a difference that was
// found and a prune that was blocked are told as such.
func (j *judge) chores(job Job) {
	for _, t := range job.Tasks {
		name := map[holdfast.Task]string{holdfast.TaskVerify: "verification", holdfast.TaskPrune: "prune", holdfast.TaskKeyCheck: "key check"}[t.Task]
		if name == "" || t.Result != "failed" {
			continue
		}
		j.add(Finding{Alarm: RunFailed, Job: job.Name, What: string(t.Task), Since: t.Attempt, Text: "the last " + name + " failed",
			Hint: "`holdfast audit show --job " + string(job.Name) + "` and the log say more; `holdfast doctor` looks for the cause"})
	}
}

// failed reports whether the try made no backup at all. One that made a backup may have ended badly for another reason, such as a program
// that is run afterwards.
func failed(t Task) bool {
	return t.Result != "" && t.Result != "good" && t.Result != "incomplete" && !t.Success.Equal(t.Attempt)
}

// LastGood is when the newest backup was made that is known to be complete, as seen at a moment; zero: there is none. What lies in the
// future of that counts for nothing. While the job's own store, where every backup is made, cannot be looked at, the records of the runs
// tell.
func (j Job) LastGood(at time.Time) time.Time {
	var last time.Time
	good := func(when time.Time) {
		if !when.After(at.Add(ahead)) {
			last = later(last, when)
		}
	}
	for _, b := range j.Backups {
		if b.Complete {
			good(b.Time)
		}
	}
	for _, t := range j.Tasks {
		if ownDown(j) && t.Task.BacksUp() {
			good(t.Success)
		}
	}
	return last
}

func ownDown(job Job) bool { return len(job.Places) > 0 && job.Places[0].Down != "" }

// begun reports whether something is to be expected of a job that has no backup: not while nobody can look, nor of one that was set up
// with a pause.
func begun(job Job) bool {
	_, tried := job.Attempt()
	return !ownDown(job) && (tried || !job.began().IsZero() || !job.Paused)
}

// succeeded reports whether there ever was a backup, as far as the records of the runs tell.
func succeeded(job Job) bool {
	return slices.ContainsFunc(job.Tasks, func(t Task) bool { return t.Task.BacksUp() && !t.Success.IsZero() })
}

// stale judges the age of the newest complete backup.
func (j *judge) stale(job Job) {
	last := job.LastGood(j.At)
	if last.IsZero() && !begun(job) || job.Interval == 0 && !(last.IsZero() && succeeded(job)) {
		return
	}
	f := Finding{Alarm: Stale, Job: job.Name, Hint: "`holdfast backup " + string(job.Name) + "` makes one now; `holdfast doctor` looks for the cause"}
	if job.Paused {
		f.Hint = "the job is paused; " + f.Hint
	}
	limit := job.Interval + j.GraceFor(job.Interval)
	due := job.Due.Truncate(time.Second) // as the times of backups are
	switch age := j.At.Sub(last); {
	case last.IsZero():
		f.Text = "there is no complete backup"
		if succeeded(job) {
			f.Text += " any more"
		}
	case age > limit:
		f.Since = last.Add(limit)
		f.Text = fmt.Sprintf("the newest complete backup is %s old, and one is expected every %s", Span(age), Span(job.Interval))
	case last.Before(due):
		// Where backups are not made every day, the next one tells nothing of the one before.
		f.Since = due
		f.Text = fmt.Sprintf("the newest complete backup is %s old, and the one is missing that was due %s ago", Span(age), Span(j.At.Sub(due)))
	default:
		return
	}
	j.add(f)
}

func (j *judge) objectives(job Job) {
	last := job.LastGood(j.At)
	f := Finding{Alarm: ObjectiveMissed, Job: job.Name, What: "rpo", Hint: "`holdfast backup " + string(job.Name) + "`, or a schedule that fits: docs/service.md"}
	switch lost := j.At.Sub(last); {
	case job.RPO == 0:
	case last.IsZero() && begun(job):
		f.Text = "there is no complete backup, and at most " + Span(job.RPO) + " of work may be lost (RPO)"
		j.add(f)
	case !last.IsZero() && lost > job.RPO:
		f.Since = last.Add(job.RPO)
		f.Text = fmt.Sprintf("%s of work would be lost now, and at most %s may be (RPO)", Span(lost), Span(job.RPO))
		j.add(f)
	}
	if proof, is := job.Proven(); is && job.RTO > 0 && proof.RTO > job.RTO {
		j.add(Finding{Alarm: ObjectiveMissed, Job: job.Name, What: "rto", Since: proof.Time,
			Text: fmt.Sprintf("the last drill took %s, and a restore may take %s at most (RTO)", Span(proof.RTO), Span(job.RTO)),
			Hint: "the drill's report tells the time of each phase"})
	}
}
