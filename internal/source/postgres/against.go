package postgres

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/source"
)

// livePatience is how long a comparison waits for a table's lock: it must not queue behind a migration, and hold up all that
// comes after it.
const livePatience = 5 * time.Second

// Alike returns the source of opt as it would have to be captured to be compared with stored: the same filters, one database
// or all of them, globals or none. Of opt count how to reach the server and its programs. Locks are waited for shortly.
func Alike(stored source.Stored, opt Options) (*Source, error) {
	r, err := readRecord(stored)
	if err != nil {
		return nil, err
	}
	opt.Name, opt.LockWait = stored.Source, livePatience
	opt.AllDatabases = slices.ContainsFunc(r.Databases, func(d database) bool { return d.Prefix != "" })
	opt.SkipGlobals = r.Globals == ""
	opt.IncludeTables, opt.ExcludeTables, opt.ExcludeTableData, opt.IncludeSchemas, opt.ExcludeSchemas = nil, nil, nil, nil, nil
	for _, arg := range r.Filters {
		for flag, patterns := range map[string]*[]string{
			"--table=": &opt.IncludeTables, "--exclude-table=": &opt.ExcludeTables, "--exclude-table-data=": &opt.ExcludeTableData,
			"--schema=": &opt.IncludeSchemas, "--exclude-schema=": &opt.ExcludeSchemas,
		} {
			if pattern, found := strings.CutPrefix(arg, flag); found {
				*patterns = append(*patterns, pattern)
			}
		}
	}
	return New(opt), nil
}

// Where names the database in words, without a secret.
func (s *Source) Where() (string, error) {
	database, server, err := s.opt.location().Where()
	if err != nil {
		return "", err
	}
	if s.opt.AllDatabases {
		return "the databases on " + server, nil
	}
	if database == "" {
		return "the database of " + server, nil
	}
	return fmt.Sprintf("database %q on %s", database, server), nil
}
