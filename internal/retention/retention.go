// Package retention decides which backups of a job to keep in each of its stores, and says why.
//
// It hides how periods are counted, what protects a backup from every rule, and when nothing may be deleted at all. It is pure: no
// clock, no I/O, the same answer for the same input in whatever order. It is not its job to delete, to know a store, or to
// find out whether a copy is whole.
//
// Its laws, each held against random histories by a test:
//   - Of each store, never the newest complete backup, nor the newest proven one.
//   - Never the last good copy anywhere of a backup that some store's policy keeps. A store that cannot be reached counts as holding
//     nothing, and a damaged copy as none.
//   - Nothing at all while the newest run has failed, the newest complete backup is older than twice its interval, a backup is
//     from the future, or the history has a gap that looks like a clock which jumped. Force overrides these, and only these.
//   - Never what is pinned, locked by its store, younger than MinAge, or doubtful.
//   - Incomplete and doubtful backups fill no period. Neither do damaged ones, or those whose drill failed, where a good one can.
//   - What was decided once stays: deleting what a decision says and deciding again deletes nothing more.
package retention

import (
	"time"

	"holdfast"
)

// Kind is what a run was called.
type Kind string

// The kinds of runs.
const (
	Full     Kind = "full"
	Hourly   Kind = "hourly"
	Manual   Kind = "manual"
	Safety   Kind = "safety"   // the copy kept before an overwrite
	Imported Kind = "imported" // a file of another tool
)

// What holds for kinds without a rule of their own: these two are not counted with the others.
const (
	manualWithin = 90 * day
	safetyWithin = 30 * day
)

const (
	day             = 24 * time.Hour
	defaultMinAge   = day
	defaultInterval = 26 * time.Hour
	future          = 5 * time.Minute // what clocks may differ by
)

// Policy is what a store keeps of a job.
type Policy struct {
	Default  Rule
	Kinds    map[Kind]Rule  // of kinds that are counted apart; manual ones and safety copies are also without an entry here
	Zone     *time.Location // of calendar periods; nil: UTC
	MinAge   time.Duration  // nothing younger is deleted; 0: 24 h
	Interval time.Duration  // how often a backup is expected; 0: 26 h
}

// Backup is one backup, whichever stores have it.
type Backup struct {
	ID          holdfast.BackupID
	Kind        Kind
	Time        time.Time
	Complete    bool
	Proven      bool      // its newest conclusive drill passed
	DrillFailed bool      // its newest conclusive drill failed
	Pinned      bool      // a pin holds
	PinnedUntil time.Time // of a pin; zero: for ever
}

// Copy is what a store has of a backup.
type Copy struct {
	Present     bool      // with its manifest: what is still being copied is no copy
	Damaged     bool      // a verification found a difference
	Doubtful    bool      // its manifest cannot be accepted: it counts for nothing, and only a person deletes it
	Superseded  bool      // in this store a re-sealed copy stands for it
	Locked      bool      // the store refuses to delete it
	LockedUntil time.Time // zero: it does not say until when
}

// Store is one store of the job.
type Store struct {
	Name      string
	Reachable bool
	Policy    Policy
	Copies    map[holdfast.BackupID]Copy
}

// Run is the newest run of the job.
type Run struct {
	Time   time.Time
	Failed bool // it made no backup
}

// Input is all that a decision depends on.
type Input struct {
	Now     time.Time
	Backups []Backup // of all stores together
	Stores  []Store
	Deleted []time.Time // of backups that were pruned: without them the history would seem to have holes
	LastRun *Run        // nil: not known
	Force   bool        // in spite of what blocks; never of what protects
}

// Decision is about one backup in one store.
type Decision struct {
	Backup
	Keep  bool
	Why   string
	Until time.Time // when no rule will keep it any more, if backups go on as now; zero: never, or not known
	Rule  string    // the rule that keeps it: "weekly", "last", "within", "forever"; "" when something else does, or nothing
}

// StorePlan is what is decided in one store, oldest first.
type StorePlan struct {
	Store     string
	Blocked   string // why nothing at all is deleted; then what is not kept only would go
	Decisions []Decision
}

// Plan is what is decided, in the order of the stores.
type Plan struct{ Stores []StorePlan }
