package migration

import (
	"context"
	"reflect"
	"time"

	"holdfast"
	"holdfast/internal/source"
)

// Side is a directory that the server may run on.
type Side string

// The sides.
const (
	None     Side = ""         // of a server: it does not run
	Old      Side = "old"      // the directory that it had
	Sealed   Side = "volume"   // the data folder on the volume
	Restored Side = "restored" // the directory that a restore after writes made beside the old one
)

// World is what a migration needs of others. All functions are required, and return when what they do has been done.
type World struct {
	// About the disks.
	Size    func(ctx context.Context) (int64, error)             // bytes in the old directory
	Free    func(ctx context.Context) (int64, error)             // bytes free on the volume for who owns the directory
	Ready   func(ctx context.Context) error                      // nil: the volume is mounted and verified
	Empty   func(ctx context.Context) (bool, error)              // of the data folder
	Outside func(ctx context.Context) ([]string, error)          // what the directory has elsewhere: see [Outside]
	Copy    func(ctx context.Context, job Copy) (Copying, error) // copies, reads both sides again and compares
	Remove  func(ctx context.Context, dir string) error          // removes a directory tree; nil if there is none
	Switch  Switch                                               // which directory the server gets when it starts

	// About the server.
	Serving     func(ctx context.Context, dirs map[Side]string) (Side, error) // which of them the server runs on: see [Serving]
	Start       func(ctx context.Context) error                               // until it accepts connections
	Stop        func(ctx context.Context, grace time.Duration) error          // cleanly, or an error
	Health      func(ctx context.Context) error                               // asks the server, not an application: they are shut out when it is called
	ControlData func(ctx context.Context, dir string) (ControlData, error)
	Checkpoint  func(ctx context.Context) error
	// CloseConnections shuts applications out and ends their sessions. It holds over restarts of the server, until OpenConnections. Both may be
	// called when it is so already.
	CloseConnections func(ctx context.Context) error
	OpenConnections  func(ctx context.Context) error
	// Obstacles lists why applications cannot be shut out or not everything be compared, one sentence each, on whatever side the server runs.
	Obstacles func(ctx context.Context) ([]string, error)
	Facts     func(ctx context.Context) ([]Database, error)    // of every database
	Probe     func(ctx context.Context) (time.Duration, error) // how long a fixed set of queries takes, once

	// About backups.
	CanProve  func(ctx context.Context) error          // nil: a backup can be taken, opened and drilled here
	Proven    func(ctx context.Context) (Proof, error) // the newest backup that was proven; an error if there is none
	BackupNew func(ctx context.Context) (holdfast.BackupID, error)
	Drill     func(ctx context.Context, backup holdfast.BackupID) error // nil: proven
	// RestoreTo makes dir, and fails if it exists, a data directory with all that the backup has, shut down cleanly.
	RestoreTo func(ctx context.Context, backup holdfast.BackupID, dir string) error

	Record func(ctx context.Context, entry Entry) error // in the audit trail
	Now    func() time.Time

	// Rehearsal is what only [Migration.Rehearse] needs; nil: it refuses.
	Rehearsal *Rehearsal
}

// Rehearsal is a throwaway server on a copy, without network, that no application knows.
type Rehearsal struct {
	Dir   string                          // a second folder on the volume, which does not exist; removed at the end
	Slots func(ctx context.Context) error // nil: both keys open the volume
	// Snapshot makes dir a copy of the running server's directory that a server can start on: with pg_backup_start and pg_backup_stop, or by
	// pg_basebackup.
	Snapshot func(ctx context.Context, dir string) (Copying, error)
	// Start starts the throwaway server on the directory that path leads to.
	Start func(ctx context.Context, path string) error
	Stop  func(ctx context.Context) error // nil also if it does not run
	Facts func(ctx context.Context) ([]Database, error)
	Probe func(ctx context.Context) (time.Duration, error)
	// Make makes what Switch switches, and Clear takes it away, in whatever state it is: [Link.MakeStandIn], [Link.RemoveStandIn]. Switch never
	// touches the server's own directory.
	Make, Clear func(ctx context.Context) error
	Switch      Switch
	// Path is what the server is started on once Switch went forward.
	Path string
}

// Copy is one pass from the old directory to the volume.
type Copy struct {
	From, To string
	Still    bool                    // the server is stopped: any change or difference is an error
	Observe  func(done, total int64) // bytes; never nil, safe for concurrent use
}

// Copying says what a pass did.
type Copying struct {
	Files   int
	Bytes   int64 // of all files
	Copied  int64 // bytes that were written
	Changed int   // files that changed while they were copied; the next pass takes them
}

// Proof is the newest backup that was proven.
type Proof struct {
	Backup holdfast.BackupID
	Taken  time.Time // of the backup: what it has is as old as that
}

// Database is one database's facts.
type Database struct {
	Name  string        `json:"name"` // "": what belongs to no single one, such as roles
	Facts []source.Fact `json:"facts"`
}

// ControlData is what pg_controldata says, as far as it tells one directory in one moment from every other.
type ControlData struct {
	System     string `json:"system"`     // database system identifier
	State      string `json:"state"`      // "shut down" after a clean stop
	Checkpoint string `json:"checkpoint"` // latest checkpoint location
}

// shutDown is the state after a clean stop, in the words of pg_controldata in English.
const shutDown = "shut down"

// EntryKind says what is recorded.
type EntryKind string

// The kinds of entries.
const (
	EntryMigrated   EntryKind = "migrated"
	EntryRolledBack EntryKind = "rolled-back"
	EntryFinished   EntryKind = "finished"
	EntryKept       EntryKind = "kept" // a way back was given up
)

// Entry is one line for the audit trail. It can come twice after a death.
type Entry struct {
	Kind   EntryKind
	Good   bool              // false: something went wrong before, Text says what
	Reason string            // why, in the words of whoever asked for it
	Text   string            // what happened
	Backup holdfast.BackupID // that was made, restored or counted as the proof
	Took   time.Duration     // how long applications were shut out, or 0
}

// check panics about the first function that is missing.
func (w World) check() {
	v := reflect.ValueOf(w)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Rehearsal" && v.Field(i).IsNil() {
			panic("migration: World." + name + " is missing")
		}
	}
	if w.Rehearsal == nil {
		return
	}
	v = reflect.ValueOf(*w.Rehearsal)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			panic("migration: Rehearsal." + v.Type().Field(i).Name + " is missing")
		}
	}
}
