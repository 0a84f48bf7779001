// Package health judges what is known about jobs, stores, keys and volumes at one moment: what is wrong, how badly, since when, and what to do.
// `status`, the alarms, the watchman and the metrics all go by it, so that they cannot contradict each other.
//
// It hides the conditions and their thresholds. Its laws: it is pure (no clock, no I/O); what is not known is never good; what lies in the
// future counts for nothing; every finding has a stable identity, so that its end can be told; one thing that becomes worse takes no other
// finding away; a text is one line and names jobs, stores, sources, volumes and figures, never data and never a secret. It is not its job to find
// anything out: survey does that, and whoever has a State made of other things can have it judged as well.
package health

import (
	"slices"
	"time"

	"holdfast"
)

// State is what is known at one moment.
type State struct {
	At      time.Time
	Host    string // whose jobs these are
	Jobs    []Job
	Stores  []Store
	Keys    []Key
	Volumes []Volume
	Audit   Audit
	Service Service
}

// Job is what is known of one job.
type Job struct {
	Name      holdfast.JobName
	Scheduled bool
	Paused    bool
	Interval  time.Duration // how far apart backups are expected around now; 0: none is expected
	Due       time.Time     // when the last one was due that should be there by now, its grace included; zero: Interval alone tells
	First     time.Time     // when the first backup was made, as far as anybody knows; zero: Backups alone tell
	RPO, RTO  time.Duration // what was promised; 0: nothing was
	Tasks     []Task
	Backups   []Backup // of its runs, oldest first; what was imported or kept before an overwrite is not among them
	Places    []Place  // where its copies belong, the job's own store first
	Proofs    []Proof  // oldest first
	Recipient []string // IDs of keys that the newest backup is sealed to and the configuration does not know
}

// Task is what is known of one kind of work.
type Task struct {
	Task     holdfast.Task
	Interval time.Duration // how far apart it is due around now; 0: it is not on the schedule
	Attempt  time.Time     // when the last try ended; zero: never
	Success  time.Time     // when the last good one ended
	Result   string        // of the last try: one of the journal's words; "" before the first
	Took     time.Duration // the last try
	Next     time.Time     // zero: it is not on the schedule
	Since    time.Time     // since when the one that runs now does; zero: none runs
}

// Backup is one backup of a run.
type Backup struct {
	ID       holdfast.BackupID
	Kind     string
	Time     time.Time
	Complete bool
	Stored   int64
	Took     time.Duration // 0: not known
	Mirrored bool          // a mirror has it
	Items    []Item        // of its data; none when its manifest was not read
	Holds    []holdfast.SourceName
	Lacks    []holdfast.SourceName // of the sources that it was to hold
}

// Known reports whether its manifest was read.
func (b Backup) Known() bool { return len(b.Holds)+len(b.Lacks) > 0 }

// Plain is how much the items were before they were compressed; 0 when that is not known.
func (b Backup) Plain() int64 {
	var sum int64
	for _, item := range b.Items {
		sum += item.Plain
	}
	return sum
}

// Item is one stream of a backup.
type Item struct {
	Source        holdfast.SourceName
	Name          string
	Plain, Stored int64
}

// Place is what one store has of one job.
type Place struct {
	Store    string
	Down     string      // why it could not be looked at; "" when it was
	Copies   int         // complete backups there
	Newest   time.Time   // of them; zero: there is none
	Times    []time.Time // of all of them, oldest first
	Damaged  int         // copies whose last check found damage, or whose manifest is not what was signed
	Hidden   int         // copies whose manifest something else deleted or wrote again: they are there only in the store's history
	Verified time.Time   // when a copy was last found good; zero: never
	Pruned   time.Time   // when a prune last went through; zero: never
	Kept     int         // backups that it kept
	Deleted  int         // and deleted
	Blocked  string      // why the last prune deleted nothing; "" when it went through
	Since    time.Time   // since when that is so, for whatever reason
}

// Proof is the verdict of one drill.
type Proof struct {
	Time     time.Time
	Backup   holdfast.BackupID
	Of       time.Time // when that backup was made
	Verdict  holdfast.Verdict
	Store    string // where it was made; "" when that is not known
	Trusted  bool   // it was read, says what its name says, and is signed by a signer that counts
	Compared int
	Differ   int
	RTO      time.Duration         // 0: not known
	Phases   map[string]float64    // seconds
	Holds    []holdfast.SourceName // the sources of that backup
}

// Store is what is known of one store.
type Store struct {
	Name string
	Down string   // why it could not be looked at; "" when it was
	Free int64    // bytes; -1: it does not tell
	Used []Sample // free bytes over time, oldest first, for how fast it fills
}

// Sample is how much was free at one time.
type Sample struct {
	Time time.Time
	Free int64
}

// Key is what is known of one key.
type Key struct {
	Name    string
	Created time.Time // zero: not known
	Expires time.Time // zero: never
	Checked time.Time // when an identity last opened what is sealed to it; zero: never
	Needed  bool      // a job seals to it
}

// Audit is what is known of the journal.
type Audit struct {
	Records int64
	Checked time.Time // zero: it was not looked at
	Broken  string    // what is wrong with the chain; "" when nothing is
}

// Service is what a running service says of itself. Its zero value is that of none.
type Service struct {
	Running  bool
	Started  time.Time
	Config   string // why the configuration that runs is not the one on the disk; "" when it is
	Clock    string // what is odd about the clock; ""
	Queue    string // why its queue cannot be written, and nothing is started; "" when it can
	Waiting  int    // tasks that are due and wait
	Busy     int    // tasks that run
	Channels []Channel
}

// Channel is a way to tell people.
type Channel struct {
	Name   string
	Failed string // why the last message did not go out; "" when it did
	Since  time.Time
}

// Newest returns the newest complete backup.
func (j Job) Newest() (Backup, bool) {
	for i := len(j.Backups) - 1; i >= 0; i-- {
		if j.Backups[i].Complete {
			return j.Backups[i], true
		}
	}
	return Backup{}, false
}

// Down reports whether a store of the job could not be looked at.
func (j Job) Down() bool {
	return slices.ContainsFunc(j.Places, func(p Place) bool { return p.Down != "" })
}

// OffSite is when the newest backup was made that a mirror has; zero: there is none.
func (j Job) OffSite() time.Time {
	var newest time.Time
	for i, place := range j.Places {
		if i > 0 && place.Newest.After(newest) {
			newest = place.Newest
		}
	}
	return newest
}

// Proven returns the newest drill that passed and counts.
func (j Job) Proven() (Proof, bool) {
	return j.proof(Proof.passed)
}

// Drilled returns the newest drill, however it ended.
func (j Job) Drilled() (Proof, bool) { return j.proof(func(Proof) bool { return true }) }

func (j Job) proof(is func(Proof) bool) (Proof, bool) {
	for i := len(j.Proofs) - 1; i >= 0; i-- {
		if is(j.Proofs[i]) {
			return j.Proofs[i], true
		}
	}
	return Proof{}, false
}

// Task returns what is known of one kind of work.
func (j Job) Task(task holdfast.Task) (Task, bool) {
	for _, t := range j.Tasks {
		if t.Task == task {
			return t, true
		}
	}
	return Task{}, false
}

// Attempt returns the newest try to make a backup.
func (j Job) Attempt() (newest Task, found bool) {
	for _, t := range j.Tasks {
		if t.Task.BacksUp() && !t.Attempt.IsZero() && (!found || t.Attempt.After(newest.Attempt)) {
			newest, found = t, true
		}
	}
	return newest, found
}

// Next is when the next backup is due; zero: none is.
func (j Job) Next() time.Time { return j.next(holdfast.Task.BacksUp) }

// NextDrill is when the next drill is due, of whichever kind; zero: none is.
func (j Job) NextDrill() time.Time { return j.next(isDrill) }

func (j Job) next(is func(holdfast.Task) bool) time.Time {
	var next time.Time
	for _, t := range j.Tasks {
		if is(t.Task) && !t.Next.IsZero() && (next.IsZero() || t.Next.Before(next)) {
			next = t.Next
		}
	}
	return next
}

func isDrill(t holdfast.Task) bool { return t.Opens() && t != holdfast.TaskKeyCheck }
