// Package config turns the file holdfast.yaml, the environment and the command line's flags into one validated
// [Config]. It hides the YAML library, the order of precedence (flags, then environment, then file, then default)
// and where each value came from.
//
// Its laws: it is the only reader of environment variables; an unknown key or a bad value is refused, never ignored;
// all mistakes are reported together, as one [*Mistakes] that wraps [holdfast.ErrUsage]; a secret stands in no error,
// no warning and no [Setting]; a Config does not change once it is returned, so all may read it at once.
//
// It is not its job to open what it describes: it names no driver, touches no store, and resolves a secret only when
// its [SecretRef] is asked to.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// Config is the effective configuration. It is read-only.
type Config struct {
	File     string // the file that was read; "" when there was none
	Host     string // the name of this host in manifests
	State    string // folder of locks, signer and run records
	Signer   string // file of the host's signing key
	Engine   string // socket of the engine of containers; "": where one usually is
	LogFile  string // "" when no log file is written
	Audit    Audit
	Service  Service
	Alarms   Alarms
	Channels []Channel
	Identity string // file of the identity that opens backups; "" when none was named

	Keys    []Key
	Stores  []Store
	Sources []Source
	Jobs    []Job
	Volumes []Volume

	// Store is what commands without a job work on: the store named by flag or environment, else the only store of
	// the file. It is the zero Store when there is no such; StoreNamed then knows the first store of the jobs.
	Store Store
	// Selected is the job named by flag or environment, or the one made of their sources; "" when neither was given.
	Selected holdfast.JobName

	// Given holds the keys that flags or environment name, or give themselves; none when neither does.
	Given []Key

	// PostgresEnv holds every variable of PostgreSQL's own (PGHOST, PGSERVICE, …) that is set, but PGPASSWORD. The
	// client programs need them handed on; pgx reads the process environment by itself.
	PostgresEnv map[string]string
	// PostgresPassword is PGPASSWORD. A source's own password goes before it.
	PostgresPassword holdfast.Secret

	// Disabled is set when the environment switches backups off (ENABLE_BACKUPS).
	Disabled bool

	// Warnings are remarks for a person, one sentence each.
	Warnings []string

	content    []byte   // of the file
	environ    []string // of it what stores need that are described later; nothing secret
	chosen     bool     // Store was named by flag or environment
	drill      Drill    // what applies to a job that the configuration does not know
	incomplete map[holdfast.JobName]error
	expired    map[holdfast.JobName]error
	origins    map[string]place
	switches   []Setting // of the environment alone
}

// Whether lines of the journal go to the system's log.
const (
	SyslogAuto   = "auto" // where there is one
	SyslogAlways = "always"
	SyslogNever  = "never"
)

// Audit says where lines of the journal go besides, for people and for whoever collects logs.
type Audit struct {
	File   string        // 0600
	Keep   time.Duration // of records; at least a year
	Syslog string        // [SyslogAuto], [SyslogAlways] or [SyslogNever]
}

// Key is one holder of the right to open backups: age recipients, OpenPGP public keys, or a passphrase.
type Key struct {
	Name       string
	Recipients []string    // as texts that seal.ParseRecipient takes; none when the key is a passphrase
	File       string      // the file the recipients were read from; "" when they stand in the configuration
	Passphrase SecretRef   // zero when the key is made of recipients
	Format     seal.Format // how a passphrase seals
	Holder     string
	Created    time.Time // day; zero: not known
	Expires    time.Time // zero: never
	Ends       time.Time // when the first of its OpenPGP keys expires by itself; zero: never
	Retired    []RetiredKey
}

// RetiredKey is what a key was before it was replaced. Nothing is sealed to it any more.
type RetiredKey struct {
	IDs    []string // as seal.Recipient has them
	Holder string
	Since  time.Time // day; zero: not known
	Until  time.Time // day
}

// Source is something to back up. Of Postgres, SQLite and Files the one of its kind is set.
type Source struct {
	Name     holdfast.SourceName
	Kind     holdfast.Kind
	Optional bool // missing only warns
	Secret   bool // never stored unsealed
	Postgres Postgres
	SQLite   SQLite
	Files    Files
}

// Postgres says how to reach a PostgreSQL database and what of it to take.
type Postgres struct {
	// Conn is a URL or a keyword/value text, as libpq and pgx take it, without any password. What it leaves out
	// comes from the PG variables of the environment. Or it is docker://…, which leads into a container.
	Conn             string
	Password         SecretRef // zero: PGPASSWORD, the password file, or none
	AllDatabases     bool
	IncludeTables    []string
	IncludeSchemas   []string
	ExcludeTables    []string
	ExcludeTableData []string
	ExcludeSchemas   []string
	Globals          bool
	LockWait, Stall  time.Duration
}

// SQLite names a SQLite file.
type SQLite struct {
	Path    string // absolute
	MaxLock time.Duration
}

// Files names file trees.
type Files struct {
	Paths              []FilePath
	Exclude            []string // patterns, and presets as "preset:NAME"
	OneFilesystem      bool
	TolerateUnreadable bool
}

// FilePath is one root of a file source.
type FilePath struct {
	Path     string // absolute
	Optional bool
}

// Seal says how a job's items are closed.
type Seal string

// The seals.
const (
	SealAge     Seal = "age"
	SealOpenPGP Seal = "openpgp"
	SealOpenSSL Seal = "openssl"
	SealNone    Seal = "none"
)

// Job is what one backup is made of. Everything it refers to is resolved.
type Job struct {
	Name        holdfast.JobName
	Sources     []Source
	Store       Store
	Mirrors     []Store // other places that get a copy, byte for byte
	Keep        Keep
	Recipients  []Key // none when Seal is SealNone
	Seal        Seal
	Compression seal.Compression
	Level       int // of the compression; 0 when there is none
	Workers     int // 0: as many as there are processors
	Drill       Drill
	Hooks       Hooks
	Schedule    Schedule
	Objectives  Objectives
}

// Drill says how a job's backups are proven.
type Drill struct {
	Scratch          string // folder, absolute
	AllowDiskScratch bool
	Every            time.Duration
	Assertions       []Assertion
	BinDirs          []string // where to look for PostgreSQL's server programs first
	Container        string   // [ContainerAuto], [ContainerNever] or [ContainerAlways]
	Image            string   // of a container; "": the one that the backup came from
}

// Assertion is a query that must give true on the restored source.
type Assertion struct {
	Source holdfast.SourceName
	Name   string
	SQL    string
}

// Job returns the job called name, or for "" the selected job, else the only one. It fails with
// [holdfast.ErrUsage] when there is no such job, or when the flags and variables that describe it leave out the
// store or the recipients.
func (c *Config) Job(name holdfast.JobName) (Job, error) {
	if name == "" {
		name = c.Selected
	}
	if name == "" && len(c.Jobs) == 1 {
		return c.Jobs[0], nil
	}
	if err := c.incomplete[name]; err != nil {
		return Job{}, err
	}
	var known []string
	for _, job := range c.Jobs {
		if job.Name == name {
			return job, nil
		}
		known = append(known, string(job.Name))
	}
	slices.Sort(known)
	switch {
	case len(known) == 0:
		return Job{}, holdfast.WithHint(fmt.Errorf("%w: no job is configured", holdfast.ErrUsage),
			"write a configuration with `holdfast init`, or give --source, --to and --recipient")
	case name == "":
		return Job{}, holdfast.WithHint(fmt.Errorf("%w: several jobs are configured and none is named", holdfast.ErrUsage),
			"name one of: "+strings.Join(known, ", "))
	}
	return Job{}, holdfast.WithHint(fmt.Errorf("%w: job %q is not configured", holdfast.ErrUsage, name),
		"known jobs: "+strings.Join(known, ", "))
}

// Content is that of the file as it was read; nil when there was none.
func (c *Config) Content() []byte { return slices.Clone(c.content) }

// MaySeal fails with [holdfast.ErrUsage] when a key of the job called name has expired: then no backup may be sealed to
// it any more. Whatever only reads asks for no leave.
func (c *Config) MaySeal(name holdfast.JobName) error { return c.expired[name] }

// StoreNamed returns the store called name, or for "" the [Config.Store]. It fails with [holdfast.ErrUsage] when
// there is no such store.
func (c *Config) StoreNamed(name string) (Store, error) {
	if name == "" {
		if c.Store.Name != "" {
			return c.Store, nil
		}
		if first := c.firstStores(); len(first) == 1 {
			return first[0], nil
		}
		if len(c.Stores) == 0 {
			return Store{}, holdfast.WithHint(fmt.Errorf("%w: no store is configured", holdfast.ErrUsage),
				"give --store DIR, or write a configuration with `holdfast init`")
		}
		return Store{}, holdfast.WithHint(fmt.Errorf("%w: several stores are configured and none is named", holdfast.ErrUsage),
			"give --store with one of: "+strings.Join(c.storeNames(), ", "))
	}
	for _, store := range c.Stores {
		if store.Name == name {
			return store, nil
		}
	}
	return Store{}, holdfast.WithHint(fmt.Errorf("%w: store %q is not configured", holdfast.ErrUsage, name),
		"known stores: "+strings.Join(c.storeNames(), ", "))
}

// StoreFor returns the store that text names, or describes as a flag does.
func (c *Config) StoreFor(text string) (Store, error) {
	for _, store := range c.Stores {
		if store.Name == text {
			return store, nil
		}
	}
	if !isStoreURL(text) && !strings.ContainsRune(text, '/') {
		return c.StoreNamed(text)
	}
	described, err := StoreFromText(text, c.environ)
	if err != nil {
		return Store{}, err
	}
	for _, store := range c.Stores {
		if store.answers(described, text) {
			return store, nil
		}
	}
	described.Name = described.Address()
	return described, nil
}

// firstStores lists the stores that the selected job, or every job, writes to first.
func (c *Config) firstStores() []Store {
	var first []Store
	for _, job := range c.Jobs {
		if c.Selected != "" && job.Name != c.Selected {
			continue
		}
		if !slices.ContainsFunc(first, func(s Store) bool { return s.Name == job.Store.Name }) {
			first = append(first, job.Store)
		}
	}
	return first
}

// AllStores lists where backups of the job called name, or for "" of any job, are kept: the first stores, then the mirrors. With a
// store chosen by flag or environment it is that alone.
func (c *Config) AllStores(name holdfast.JobName) ([]Store, error) {
	if c.chosen {
		return []Store{c.Store}, nil
	}
	var all, mirrors []Store
	add := func(list []Store, store Store) []Store {
		if slices.ContainsFunc(list, func(s Store) bool { return s.Name == store.Name }) {
			return list
		}
		return append(list, store)
	}
	for _, job := range c.Jobs {
		if name == "" || job.Name == name {
			all = add(all, job.Store)
			for _, mirror := range job.Mirrors {
				mirrors = add(mirrors, mirror)
			}
		}
	}
	for _, mirror := range mirrors {
		all = add(all, mirror)
	}
	if len(all) > 0 {
		return all, nil
	}
	one, err := c.StoreNamed("")
	if err != nil {
		return nil, err
	}
	return []Store{one}, nil
}

func (c *Config) storeNames() []string {
	var names []string
	for _, store := range c.Stores {
		names = append(names, store.Name)
	}
	slices.Sort(names)
	return names
}

// DrillFor returns how to drill backups of the job called name. A store may hold backups of jobs that the
// configuration does not know; for those it is the default, with flags and environment applied.
func (c *Config) DrillFor(name holdfast.JobName) Drill {
	for _, job := range c.Jobs {
		if job.Name == name {
			return job.Drill
		}
	}
	return c.drill
}

// place is where a value was found: a position in a file, a variable, a flag.
type place struct {
	where        string
	line, column int // 0: not a position in a file
}

func (p place) String() string {
	if p.line == 0 {
		return p.where
	}
	return fmt.Sprintf("%s:%d:%d", p.where, p.line, p.column)
}

// flag reports whether the command line has it.
func (p place) flag() bool { return p.line == 0 && strings.HasPrefix(p.where, "flag ") }

// Mistake is one thing wrong with the configuration.
type Mistake struct {
	Where string // "holdfast.yaml:12:5", "environment HOLDFAST_LEVEL", "flag --level"
	Text  string // what is wrong and what is allowed
	line  int
	col   int
}

// Mistakes is everything that is wrong with a configuration, in the order of the file, then environment and flags.
// It wraps [holdfast.ErrUsage].
type Mistakes struct{ List []Mistake }

// Error tells one mistake per line.
func (m *Mistakes) Error() string {
	lines := make([]string, len(m.List))
	for i, mistake := range m.List {
		lines[i] = mistake.Where + ": " + mistake.Text
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes every mistake a [holdfast.ErrUsage].
func (m *Mistakes) Unwrap() error { return holdfast.ErrUsage }

// mistakes sorts list into an error; nil for an empty list.
func mistakes(list []Mistake) error {
	if len(list) == 0 {
		return nil
	}
	rank := func(m Mistake) int {
		if m.line > 0 {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b Mistake) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		if c := a.line - b.line; c != 0 {
			return c
		}
		return a.col - b.col
	})
	return holdfast.WithHint(&Mistakes{slices.Compact(list)},
		"docs/configuration.md describes every key and variable; `holdfast config check` checks again")
}

// IsMistake reports whether err is about the content of a configuration rather than about reading it.
func IsMistake(err error) bool {
	var m *Mistakes
	return errors.As(err, &m)
}
