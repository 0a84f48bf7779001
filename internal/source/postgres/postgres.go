// Package postgres backs up, restores and proves PostgreSQL databases, versions 13 to 18, with PostgreSQL's own
// programs.
//
// It hides pg_dump, pg_dumpall, psql and the server: which program fits which server, how a snapshot is pinned and
// shared, what a dump leaves out (encoding, locale, owner, grants and settings of a database), how a database is
// brought back under another name and takes its final one, and how a throwaway server is run.
//
// Its laws:
//   - All rows of one database come from one exported snapshot. Sequences are not transactional.
//   - Facts come from the bytes that are stored, in the pass that stores them, and a restore is read back by the same
//     reader.
//   - An item ends with io.EOF only after the program that made it exited with status 0 and its trailer was seen.
//   - A secret travels in the environment of a child, never in its arguments, and never into an error.
//   - Row-level security is never enabled for a dump: a role that cannot read every row fails.
//   - Nothing that carries the final name of a target changes before Commit.
//
// It is not its job to compress, to seal, to compare facts or to judge them. It reads no environment variable: the
// PG* variables that count are handed to it.
package postgres

import (
	"context"
	"time"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// The server versions that are supported.
const (
	oldestMajor = 13
	newestMajor = 18
)

const (
	defaultLockWait = 60 * time.Second
	defaultStall    = 5 * time.Minute
)

// Options say what a [Source] reads and how.
type Options struct {
	// Name begins the name of every item.
	Name holdfast.SourceName
	// URL is a connection string in either of libpq's forms, or leads into a container, as [pgclient.Location] has it; empty:
	// the PG* variables of Env decide.
	URL holdfast.Secret
	// Password overrides the one in URL and Env.
	Password holdfast.Secret
	// Env holds the PG* variables, and HOME for PostgreSQL's files in the home folder. Nothing else is taken from an
	// environment.
	Env map[string]string
	// Engine is where the engine of containers listens, where URL does not say; default [container.DefaultEngine].
	Engine string

	// AllDatabases captures every database of the cluster that takes connections and is not a template.
	AllDatabases bool
	// The filters are patterns of psql, as pg_dump's --table, --exclude-table, --exclude-table-data, --schema and
	// --exclude-schema take them.
	IncludeTables, ExcludeTables, ExcludeTableData, IncludeSchemas, ExcludeSchemas []string
	// SkipGlobals leaves out roles and tablespaces.
	SkipGlobals bool

	// LockWait is how long pg_dump waits for a table's lock; default 60 s.
	LockWait time.Duration
	// Stall is how long the server may be idle or out of reach while a dump waits for it; default 5 min.
	Stall time.Duration

	// BinDirs are folders to look into for PostgreSQL's programs, besides the usual ones and those of Path.
	BinDirs []string
	// Path is a list of folders as in the variable PATH.
	Path string
}

// Source is a PostgreSQL database, or all of a cluster.
type Source struct{ opt Options }

var _ source.Source = (*Source)(nil)

// New returns a source. It does not touch the server.
func New(opt Options) *Source {
	if opt.LockWait <= 0 {
		opt.LockWait = defaultLockWait
	}
	if opt.Stall <= 0 {
		opt.Stall = defaultStall
	}
	return &Source{opt}
}

func (opt Options) location() pgclient.Location {
	return pgclient.Location{URL: opt.URL, Password: opt.Password, Env: opt.Env, Engine: opt.Engine, BinDirs: opt.BinDirs, Path: opt.Path}
}

// Capture pins one snapshot of each database and opens the way to its items.
func (s *Source) Capture(ctx context.Context, observe holdfast.Observer) (source.Capture, error) {
	return s.capture(ctx, observe)
}
