// Package migration moves the data directory of a PostgreSQL server onto a volume, and back.
//
// It hides the order of the steps, what is written down before and after each, what a death in the middle leaves, and the two ways
// back. It knows no database, disk, program or store: all of that is [World]. Its laws:
//   - The old directory is never written, until [Migration.Finish] removes it; the server never runs on two directories.
//   - Applications are let in again at the end, whichever end it is, and only after what they get was compared.
//   - A step is in the state file before it begins and after it ended, so that whoever comes after a death knows what may have happened.
//   - What goes wrong before applications are shut out stops the copy and nothing else. What goes wrong from then on, until they are let
//     in again, brings the server back to the old directory, also when the command is interrupted. From then on nothing goes back by
//     itself: writes were accepted.
//
// After a death [Migration.Resume] follows one rule:
//   - Before applications are shut out: the copy is made again, over what is there.
//   - While the server belongs to the old directory: if it is stopped, and the control data is what it was at the stop, no one has
//     written, and it goes on from there. Otherwise it begins again by shutting applications out; and if that may not be, for want of a
//     proven backup, it rolls back.
//   - From the switch on: if the server does not run on the old directory, and that directory's control data is what it was at the stop,
//     it goes on from the start of the server, and compares again. Otherwise it rolls back.
//   - Once applications may have been let in, they are let in; but if somebody ran a server on the old directory since, it refuses, for a
//     person to decide. A roll back is ended. A restore beside the old directory is given up, and
//     the server goes on with the volume, which lacks nothing. A removal of the old directory is ended.
//
// Both measurements of the fixed queries are made while applications are shut out, each is the shortest of some runs, and when the
// difference is too large the later one is made once more before it counts.
//
// It is not its job to keep two runs from working on one volume: whoever calls does.
package migration

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast"
)

// The errors that decide what is said.
var (
	// ErrNoGo: a check of the plan says no, and nothing was done.
	ErrNoGo = errors.New("the migration cannot begin")
	// ErrRolledBack: the server runs on the old directory again, and applications are let in.
	ErrRolledBack = errors.New("rolled back")
	// ErrKept: the way back was given up, and the server runs on the volume as before.
	ErrKept = errors.New("stayed on the volume")
)

// What options mean by nothing.
const (
	DefaultGrace    = time.Minute
	DefaultMaxAge   = 24 * time.Hour
	DefaultOverhead = 0.15
	DefaultRuns     = 5
	// DefaultRate is how long a GB (10^9 bytes) takes, until it was measured.
	DefaultRate = 90 * time.Second
)

// Options say what is moved where.
type Options struct {
	Volume string // its name
	From   string // the data directory; absolute, not a link, no mount point
	To     string // the data folder on the volume; absolute
	// State is the state file: its folder exists and belongs to root.
	State string
	// Facts is a file on the volume beside To: facts carry names of tables, which lie on no bare disk.
	Facts string

	Grace    time.Duration // for the server to stop; 0: DefaultGrace
	MaxAge   time.Duration // of the proven backup; 0: DefaultMaxAge
	Overhead float64       // by how much the fixed queries may be slower, as a fraction, and 50 ms in any case; 0: DefaultOverhead
	Runs     int           // of the fixed queries, of which the shortest counts; 0: DefaultRuns

	Observe holdfast.Observer // nil: nobody; Job and Source are not set in what it gets
}

// Migration is one move of one directory. Its methods are not for concurrent use, but that Watch may run beside nothing else.
type Migration struct {
	w World
	o Options
}

// New binds what is moved to the world that it is in. It touches nothing. It panics if a function of the world is missing,
// or a path is none.
func New(w World, o Options) Migration {
	w.check()
	for _, path := range []string{o.From, o.To, o.State, o.Facts} {
		if !filepath.IsAbs(path) {
			panic(fmt.Sprintf("migration: %q is not absolute", path))
		}
	}
	if within(o.Facts, o.To) {
		panic("migration: the facts would be in the data folder")
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Overhead == 0 {
		o.Overhead = DefaultOverhead
	}
	if o.Runs == 0 {
		o.Runs = DefaultRuns
	}
	if o.Observe == nil {
		o.Observe = func(holdfast.Event) {}
	}
	return Migration{w, o}
}

// RestoredPath is where a restore after writes makes the new directory: beside the old one.
func (o Options) RestoredPath() string { return o.From + ".restored-" + o.Volume }
