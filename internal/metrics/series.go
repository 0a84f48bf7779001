package metrics

import (
	"math"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

// view is a state with what several series need of it.
type view struct {
	health.State
	limits   health.Limits
	findings []health.Finding
	jobs     []jobView
}

type jobView struct {
	*health.Job
	name   string
	good   time.Time     // when the newest complete backup was made; zero: there is none
	newest health.Backup // of which more is known; zero: there is none
	plain  int64         // of it
	drill  health.Proof  // the last, however it ended; zero: there is none
	proven health.Proof  // the last that passed and counts
	tasks  []health.Task // all that there are, in their order
}

func newView(state health.State, limits health.Limits, findings []health.Finding) *view {
	v := &view{State: state, limits: limits, findings: findings, jobs: make([]jobView, len(state.Jobs))}
	for i := range state.Jobs {
		job := &state.Jobs[i]
		j := jobView{Job: job, name: string(job.Name), good: job.LastGood(state.At)}
		j.newest, _ = job.Newest()
		j.plain = j.newest.Plain()
		j.drill, _ = job.Drilled()
		j.proven, _ = job.Proven()
		for _, task := range holdfast.Tasks() {
			known, _ := job.Task(task)
			known.Task = task
			j.tasks = append(j.tasks, known)
		}
		v.jobs[i] = j
	}
	return v
}

// family is one name, and how its series are added from a state.
type family struct {
	name, help string
	add        func(v *view, t *text)
}

// render writes the whole page.
func render(state health.State, limits health.Limits, findings []health.Finding, build Build) []byte {
	v := newView(state, limits, findings)
	t := &text{out: make([]byte, 0, 16<<10+len(v.jobs)*16<<10)}
	t.family("holdfast_build_info", "Always 1: which program this is.")
	t.add(1, "goversion", build.GoVersion, "version", build.Version)
	for _, f := range slices.Concat(hostFamilies(), jobFamilies(), taskFamilies(), backupFamilies(), copyFamilies(), drillFamilies(), volumeFamilies(v.Volumes), alarmFamilies()) {
		t.family("holdfast_"+f.name, f.help)
		f.add(v, t)
	}
	return t.out
}

func one(name, help string, value func(v *view) float64) family {
	return family{name, help, func(v *view, t *text) { t.add(value(v)) }}
}

func ofJob(name, help string, value func(v *view, j *jobView) float64) family {
	return family{name, help, func(v *view, t *text) {
		for i := range v.jobs {
			t.add(value(v, &v.jobs[i]), "backup_job", v.jobs[i].name)
		}
	}}
}

func ofTask(name, help string, value func(v *view, task *health.Task) float64) family {
	return family{name, help, func(v *view, t *text) {
		for _, j := range v.jobs {
			for i := range j.tasks {
				t.add(value(v, &j.tasks[i]), "backup_job", j.name, "task", string(j.tasks[i].Task))
			}
		}
	}}
}

func ofPlace(name, help string, value func(p *health.Place) float64) family {
	return family{name, help, func(v *view, t *text) {
		for _, j := range v.jobs {
			for i := range j.Places {
				t.add(value(&j.Places[i]), "backup_job", j.name, "store", j.Places[i].Store)
			}
		}
	}}
}

func ofKey(name, help string, value func(k health.Key) float64) family {
	return family{name, help, func(v *view, t *text) {
		for _, key := range v.Keys {
			t.add(value(key), "key", key.Name)
		}
	}}
}

// when is a Unix timestamp; 0: never.
func when(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func ratio(of, to float64) float64 {
	if to <= 0 {
		return 0
	}
	return of / to
}

// hostFamilies are about no job.
func hostFamilies() []family {
	return []family{
		one("survey_timestamp_seconds", "When what is shown here was found out; 0: nothing was yet.", func(v *view) float64 { return when(v.At) }),
		one("service_running", "Whether a service runs; 0 also in a page made by a single command.", func(v *view) float64 { return flag(v.Service.Running) }),
		one("service_start_timestamp_seconds", "When the service started; 0: none runs.", func(v *view) float64 { return when(v.Service.Started) }),
		one("config_ok", "Whether the configuration on the disk is the one that runs; 0: it changed or was refused.", func(v *view) float64 { return flag(v.Service.Config == "") }),
		one("clock_ok", "Whether nothing is odd about the clock.", func(v *view) float64 { return flag(v.Service.Clock == "") }),
		one("queue_waiting", "Tasks that are due and wait.", func(v *view) float64 { return float64(v.Service.Waiting) }),
		one("queue_busy", "Tasks that run.", func(v *view) float64 { return float64(v.Service.Busy) }),
		one("audit_ok", "Whether the journal was looked at and is what was signed.", func(v *view) float64 { return flag(v.Audit.Broken == "" && !v.Audit.Checked.IsZero()) }),
		one("audit_records", "Records in the journal.", func(v *view) float64 { return float64(v.Audit.Records) }),
		one("audit_checked_timestamp_seconds", "When the journal was last looked at; 0: never.", func(v *view) float64 { return when(v.Audit.Checked) }),
		{"channel_failing", "Whether the last message did not go out through a channel.", func(v *view, t *text) {
			for _, channel := range v.Service.Channels {
				t.add(flag(channel.Failed != ""), "channel", channel.Name)
			}
		}},
		{"store_free_bytes", "What is free in a store; NaN: it does not tell.", func(v *view, t *text) {
			for _, store := range v.Stores {
				free := float64(store.Free)
				if store.Free < 0 {
					free = math.NaN()
				}
				t.add(free, "store", store.Name)
			}
		}},
		ofKey("key_created_timestamp_seconds", "When a key was made; 0: not known.", func(k health.Key) float64 { return when(k.Created) }),
		ofKey("key_expires_timestamp_seconds", "When a key expires; 0: never.", func(k health.Key) float64 { return when(k.Expires) }),
		ofKey("key_rotation_due_timestamp_seconds", "When a key is due to be replaced: when it expires, or a year after it was made, whichever is earlier; 0: not known.", func(k health.Key) float64 { return when(k.Rotation()) }),
		ofKey("key_checked_timestamp_seconds", "When an identity last opened what is sealed to a key; 0: never.", func(k health.Key) float64 { return when(k.Checked) }),
		ofKey("key_needed", "Whether a job seals to a key.", func(k health.Key) float64 { return flag(k.Needed) }),
	}
}

func jobFamilies() []family {
	return []family{
		ofJob("job_scheduled", "Whether a job has a schedule.", func(_ *view, j *jobView) float64 { return flag(j.Scheduled) }),
		ofJob("job_paused", "Whether nothing of a job is started.", func(_ *view, j *jobView) float64 { return flag(j.Paused) }),
		ofJob("job_interval_seconds", "How far apart backups are expected around now; 0: none is expected.", func(_ *view, j *jobView) float64 { return j.Interval.Seconds() }),
		ofJob("job_grace_seconds", "How much later than that a backup may be.", func(v *view, j *jobView) float64 { return v.limits.GraceFor(j.Interval).Seconds() }),
		{"objective_promised_seconds", "What was promised of a job: rpo, how much work may be lost, and rto, how long a restore may take; 0: nothing was.", func(v *view, t *text) {
			for _, j := range v.jobs {
				t.add(j.RPO.Seconds(), "backup_job", j.name, "objective", "rpo")
				t.add(j.RTO.Seconds(), "backup_job", j.name, "objective", "rto")
			}
		}},
		{"objective_measured_seconds", "What was measured of a job when it was surveyed. rpo: the age of the newest complete backup, +Inf without one. rto: what the last passing drill took, 0 without one.", func(v *view, t *text) {
			for _, j := range v.jobs {
				age := math.Inf(1)
				if !j.good.IsZero() {
					age = v.At.Sub(j.good).Seconds()
				}
				t.add(age, "backup_job", j.name, "objective", "rpo")
				t.add(j.proven.RTO.Seconds(), "backup_job", j.name, "objective", "rto")
			}
		}},
	}
}

func taskFamilies() []family {
	return []family{
		ofTask("task_last_success_timestamp_seconds", "When the last good run of a task ended; 0: never.", func(_ *view, t *health.Task) float64 { return when(t.Success) }),
		ofTask("task_last_attempt_timestamp_seconds", "When the last run of a task ended, however it did; 0: never.", func(_ *view, t *health.Task) float64 { return when(t.Attempt) }),
		ofTask("task_next_due_timestamp_seconds", "When a task is due next; 0: it is not on the schedule.", func(_ *view, t *health.Task) float64 { return when(t.Next) }),
		ofTask("task_interval_seconds", "How far apart a task is due around now; 0: it is not on the schedule.", func(_ *view, t *health.Task) float64 { return t.Interval.Seconds() }),
		ofTask("task_grace_seconds", "How much later than that it may be.", func(v *view, t *health.Task) float64 { return v.limits.GraceFor(t.Interval).Seconds() }),
		ofTask("task_last_duration_seconds", "What the last run of a task took; 0: not known.", func(_ *view, t *health.Task) float64 { return t.Took.Seconds() }),
		ofTask("task_running_since_timestamp_seconds", "Since when a task runs; 0: it does not.", func(_ *view, t *health.Task) float64 { return when(t.Since) }),
	}
}

// backupFamilies are about the newest complete backup, all but the first about the newest that a store tells of: while the job's own one
// is down, that may be an older one.
func backupFamilies() []family {
	return []family{
		ofJob("backup_last_timestamp_seconds", "When the newest complete backup was made, by the journal while the job's own store is down; 0: there is none.", func(_ *view, j *jobView) float64 { return when(j.good) }),
		ofJob("backup_last_stored_bytes", "The size of the newest that a store tells of, as it is stored.", func(_ *view, j *jobView) float64 { return float64(j.newest.Stored) }),
		ofJob("backup_last_plain_bytes", "Its size before it was compressed; 0: not known.", func(_ *view, j *jobView) float64 { return float64(j.plain) }),
		ofJob("backup_last_compression_ratio", "How many times larger it was before; 0: not known.", func(_ *view, j *jobView) float64 { return ratio(float64(j.plain), float64(j.newest.Stored)) }),
		ofJob("backup_last_items", "How many items it has; 0: not known.", func(_ *view, j *jobView) float64 { return float64(len(j.newest.Items)) }),
		ofJob("backup_last_duration_seconds", "What making it took; 0: not known.", func(_ *view, j *jobView) float64 { return j.newest.Took.Seconds() }),
		ofJob("backup_last_throughput_bytes_per_second", "Bytes before compression for each second of that; 0: not known.", func(_ *view, j *jobView) float64 { return ratio(float64(j.plain), j.newest.Took.Seconds()) }),
		ofJob("backup_last_complete", "Whether the newest backup of all has every source; 0 also without a backup.", func(_ *view, j *jobView) float64 {
			return flag(len(j.Backups) > 0 && j.Backups[len(j.Backups)-1].Complete)
		}),
	}
}

// copyFamilies are about a job in one of its stores.
func copyFamilies() []family {
	return []family{
		ofPlace("copies", "Complete backups of a job in a store; 0 also when the store is down.", func(p *health.Place) float64 { return float64(p.Copies) }),
		ofPlace("copies_damaged", "Copies whose last check found damage.", func(p *health.Place) float64 { return float64(p.Damaged) }),
		ofPlace("copy_newest_timestamp_seconds", "When the newest of the complete backups in a store was made; 0: there is none, or the store is down.", func(p *health.Place) float64 { return when(p.Newest) }),
		ofPlace("copy_verified_timestamp_seconds", "When a copy was last found good; 0: never.", func(p *health.Place) float64 { return when(p.Verified) }),
		ofPlace("copy_store_down", "Whether the store could not be looked at for a job.", func(p *health.Place) float64 { return flag(p.Down != "") }),
		ofPlace("prune_last_timestamp_seconds", "When a prune last went through; 0: never.", func(p *health.Place) float64 { return when(p.Pruned) }),
		ofPlace("prune_kept", "Backups that it kept.", func(p *health.Place) float64 { return float64(p.Kept) }),
		ofPlace("prune_deleted", "Backups that it deleted.", func(p *health.Place) float64 { return float64(p.Deleted) }),
		ofPlace("prune_blocked", "Whether the last prune deleted nothing because it must not.", func(p *health.Place) float64 { return flag(p.Blocked != "") }),
		ofPlace("prune_blocked_since_timestamp_seconds", "Since when that is so; 0: it is not.", func(p *health.Place) float64 {
			if p.Blocked == "" {
				return 0
			}
			return when(p.Since)
		}),
	}
}

// phases are the steps of a drill. A drill names the source beside the step: that is added up, so that labels stay few.
func phases() []string { return []string{"open", "start", "restore", "compare", "assert", "other"} }

func drillFamilies() []family {
	return []family{
		ofJob("drill_last_timestamp_seconds", "When the last drill ended, however it did; 0: never.", func(_ *view, j *jobView) float64 { return when(j.drill.Time) }),
		ofJob("drill_last_passing_timestamp_seconds", "When the last drill passed whose verdict is signed by a trusted signer; 0: never.", func(_ *view, j *jobView) float64 { return when(j.proven.Time) }),
		{"drill_last_verdict", "How the last drill ended: 1 for its verdict, 0 for the others, and for all of them before the first.", func(v *view, t *text) {
			for _, j := range v.jobs {
				for _, verdict := range []holdfast.Verdict{holdfast.Proven, holdfast.Failed, holdfast.CannotTest} {
					t.add(flag(j.drill.Verdict == verdict), "backup_job", j.name, "verdict", string(verdict))
				}
			}
		}},
		ofJob("drill_last_compared", "How many facts the last drill compared.", func(_ *view, j *jobView) float64 { return float64(j.drill.Compared) }),
		ofJob("drill_last_different", "How many of them were different.", func(_ *view, j *jobView) float64 { return float64(j.drill.Differ) }),
		ofJob("drill_last_rto_seconds", "What the last passing drill took to bring all back; 0: not known.", func(_ *view, j *jobView) float64 { return j.proven.RTO.Seconds() }),
		{"drill_last_phase_seconds", "What the steps of the last drill took, over all sources.", func(v *view, t *text) {
			known := phases()
			sums := make([]float64, len(known))
			for _, j := range v.jobs {
				clear(sums)
				for phase, seconds := range j.drill.Phases {
					step, _, _ := strings.Cut(phase, " ")
					at := slices.Index(known, step)
					if at < 0 {
						at = len(known) - 1
					}
					sums[at] += seconds
				}
				for i, phase := range known {
					t.add(sums[i], "backup_job", j.name, "phase", phase)
				}
			}
		}},
		ofJob("drill_next_due_timestamp_seconds", "When the next drill is due, of whichever kind; 0: none is on the schedule.", func(_ *view, j *jobView) float64 { return when(j.NextDrill()) }),
		ofJob("drill_overdue", "Whether a drill is overdue.", func(v *view, j *jobView) float64 {
			return flag(slices.ContainsFunc(v.findings, func(f health.Finding) bool { return f.Alarm == health.DrillOverdue && f.Job == j.Name }))
		}),
	}
}
