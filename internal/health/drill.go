package health

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// Old is how old a backup must be for a drill of it to be one of an old backup.
const Old = 14 * day

// drills judges how drills ended, and when the last ones that passed did.
func (j *judge) drills(job Job) {
	if p, is := job.refuted(); is {
		text := "the drill of backup " + string(p.Backup) + " failed"
		if !p.Trusted {
			// Whoever adds a verdict here can only make people look.
			text += ", as a verdict says that is not signed by a signer that counts"
		}
		j.add(Finding{Alarm: DrillFailed, Job: job.Name, Since: p.Time, Text: text,
			Hint: "the report says why: docs/drill.md; an older backup may restore: `holdfast drill ID`"})
	}
	if last, drilled := job.Drilled(); drilled && !last.believed() && !job.Down() {
		j.add(Finding{Alarm: DrillImpossible, Job: job.Name, What: "verdict", Since: last.Time,
			Text: "the verdict on backup " + string(last.Backup) + " does not count: no signer that counts signed it, or it says something else than its name",
			Hint: "add the key of the machine that drills to allowed_signers; if it is there, somebody changed the verdict: docs/keys.md"})
	}
	if last, drilled := job.proof(Proof.believed); drilled && last.Verdict == holdfast.CannotTest {
		j.add(Finding{Alarm: DrillImpossible, Job: job.Name, Since: last.Time,
			Text: "the last drill could not test backup " + string(last.Backup), Hint: "its report names what is missing: docs/drill.md"})
	}
	for _, task := range job.Tasks {
		j.unopened(job, task)
		j.overdue(job, task)
	}
}

// unopened judges a drill that could not even open a backup, or reach one, of which there is no verdict but the record.
func (j *judge) unopened(job Job, task Task) {
	if !isDrill(task.Task) || task.Result != string(holdfast.CannotTest) && task.Result != "failed" || slices.ContainsFunc(job.Proofs, func(p Proof) bool { return p.believed() && !p.Time.Before(task.Attempt.Truncate(time.Second)) }) {
		return
	}
	j.add(Finding{Alarm: DrillImpossible, Job: job.Name, What: string(task.Task), Since: task.Attempt,
		Text: "the last drill " + drillName(task.Task) + " opened no backup", Hint: "does the identity open it? `" + drillCommand(job, task.Task) + "` says what is missing: docs/drill.md"})
}

// refuted is the newest failed drill that nothing made good since: a later one that passed, of the same backup or of a newer one. That an
// older backup restores does not mend this one, and a drill that could not test changes nothing.
func (j Job) refuted() (Proof, bool) {
	for i, p := range slices.Backward(j.Proofs) {
		if p.Verdict == holdfast.Failed && !slices.ContainsFunc(j.Proofs[i+1:], func(q Proof) bool { return q.passed() && !q.Of.Before(p.Of) }) {
			return p, true
		}
	}
	return Proof{}, false
}

// believed reports whether a verdict counts: what is bad does whoever says it.
func (p Proof) believed() bool {
	return p.Trusted || p.Verdict == holdfast.Failed || p.Verdict == holdfast.CannotTest
}

func (p Proof) passed() bool { return p.Verdict == holdfast.Proven && p.Trusted }

// overdue judges one kind of drill that is on the schedule.
func (j *judge) overdue(job Job, task Task) {
	if !isDrill(task.Task) || task.Interval == 0 {
		return
	}
	if ownDown(job) || task.Task == holdfast.TaskDrillCopy && (job.Down() || len(job.Places) < 2) {
		return // what was proven there cannot be seen, and that the store is down is told
	}
	since, ever := job.provenAs(task.Task)
	if !ever {
		if since = job.began(); since.IsZero() {
			return // that there is no backup is told
		}
		if task.Task == holdfast.TaskDrillOld {
			if len(job.Backups) == 0 || j.At.Sub(job.Backups[0].Time) < Old {
				return // there is none so old
			}
			since = since.Add(Old)
		}
	}
	limit := task.Interval + j.GraceFor(task.Interval)
	age := j.At.Sub(since)
	if age <= limit {
		return
	}
	text := "no drill " + drillName(task.Task) + " ever passed"
	if ever {
		text = "the last drill " + drillName(task.Task) + " that passed is " + Span(age) + " old"
	}
	j.add(Finding{Alarm: DrillOverdue, Job: job.Name, What: string(task.Task), Since: since.Add(limit),
		Text: fmt.Sprintf("%s, and one is due every %s", text, Span(task.Interval)),
		Hint: "where the identity is: `" + drillCommand(job, task.Task) + "`, or `holdfast serve --tasks drills`: docs/service.md"})
}

// began is when the job's first backup was made, as far as anybody knows: the oldest that is left may be a week old for ever.
func (j Job) began() time.Time {
	var first time.Time
	at := func(t time.Time) {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	at(j.First)
	for _, b := range j.Backups {
		at(b.Time)
	}
	for _, p := range j.Proofs {
		at(p.Of)
	}
	return first
}

func drillName(task holdfast.Task) string {
	switch task {
	case holdfast.TaskDrillCopy:
		return "from a mirror"
	case holdfast.TaskDrillOld:
		return "of an old backup"
	}
	return "of any backup"
}

func drillCommand(job Job, task holdfast.Task) string {
	text := "holdfast drill --job " + string(job.Name)
	switch task {
	case holdfast.TaskDrillCopy:
		text += " --pick mirror"
	case holdfast.TaskDrillOld:
		text += " --pick random --older-than 14d"
	}
	return text
}

// provenAs is when the newest drill passed that counts for a task.
func (j Job) provenAs(task holdfast.Task) (time.Time, bool) {
	p, found := j.proof(func(p Proof) bool {
		switch {
		case !p.passed():
			return false
		case task == holdfast.TaskDrillCopy:
			return p.Store != "" && len(j.Places) > 0 && p.Store != j.Places[0].Store
		case task == holdfast.TaskDrillOld:
			return p.Time.Sub(p.Of) >= Old
		}
		return true
	})
	return p.Time, found
}
