package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// Server is a running server whose data directory is about to move. Its role must be a superuser. Each method opens its own session, so that
// the server may be started again in between.
type Server struct{ opt Options }

// NewServer returns the server that the options lead to. It does not touch it.
func NewServer(opt Options) *Server { return &Server{opt} }

// with runs do in a session with a database: the one that the options name, or database.
func (s *Server) with(ctx context.Context, doing, database string, do func(pgclient.Session, pgclient.Params) error) error {
	site, p, err := s.opt.location().Open(ctx)
	if err != nil {
		return because(ctx, doing, err)
	}
	if database != "" {
		p = p.On(database)
	}
	conn, p, err := site.Dial(ctx, p)
	if err != nil {
		return because(ctx, doing, err)
	}
	err = do(conn, p)
	if closeErr := conn.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	return because(ctx, doing, err)
}

// closedMark is the setting by which a role remembers, in the cluster itself and so on both sides of a move, that it may log in again afterwards.
const closedMark = "holdfast.login"

// CloseConnections takes from every role but this one the right to log in, marks those that had it, and ends all sessions of others. It holds
// until OpenConnections, over restarts too. Calling it twice is calling it once. It is an error with a hint if an application works as this role.
func (s *Server) CloseConnections(ctx context.Context) error {
	return s.with(ctx, "close connections", "", func(conn pgclient.Session, p pgclient.Params) error {
		roles, err := pgclient.Strings(ctx, conn, `SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolcanlogin AND rolname <> current_user ORDER BY rolname`)
		if err != nil {
			return pgclient.ExplainQuery("list the roles", err)
		}
		for _, role := range roles {
			name := pgclient.QuoteIdent(role)
			// The mark comes first: a role that is shut out without one would stay so.
			for _, sql := range []string{"ALTER ROLE " + name + " SET " + closedMark + " = 'closed'", "ALTER ROLE " + name + " NOLOGIN"} {
				if err := pgclient.Exec(ctx, conn, sql); err != nil {
					return pgclient.ExplainQuery("keep role "+name+" out", err)
				}
			}
		}
		return s.endSessions(ctx, conn, p["user"])
	})
}

// endTime bounds how long sessions that were told to end may take.
const endTime = 30 * time.Second

// endSessions ends all sessions of others, until two looks in a row find none: one that was let in before its role was shut out is seen late. A
// session of the own role that began after this one is an application's that comes back, and would again.
func (s *Server) endSessions(ctx context.Context, conn pgclient.Session, role string) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	for quiet := 0; ; {
		var left, back int64
		err := pgclient.Row(ctx, conn, `SELECT count(pg_catalog.pg_terminate_backend(pid)), count(*) FILTER (WHERE usename = current_user
			AND backend_start > (SELECT own.backend_start FROM pg_catalog.pg_stat_activity own WHERE own.pid = pg_catalog.pg_backend_pid()))
			FROM pg_catalog.pg_stat_activity WHERE `+othersSessions, &left, &back)
		if err != nil {
			return pgclient.ExplainQuery("end the sessions of others", err)
		}
		if back > 0 {
			return holdfast.WithHint(fmt.Errorf("%d session(s) of role %s came while applications were shut out, and it must stay open for Holdfast", back, pgclient.QuoteIdent(role)), ownSuperuser)
		}
		if left > 0 {
			quiet = 0
		} else if quiet++; quiet == 2 {
			return nil
		}
		if err := pause(ctx); err != nil {
			return holdfast.WithHint(fmt.Errorf("%d session(s) did not end: %w", left, err), "`SELECT * FROM pg_stat_activity` shows them; end them, and try again")
		}
	}
}

// OpenConnections gives every role that CloseConnections shut out its right back.
func (s *Server) OpenConnections(ctx context.Context) error {
	return s.with(ctx, "open connections", "", func(conn pgclient.Session, _ pgclient.Params) error {
		roles, err := pgclient.Strings(ctx, conn, `SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
			WHERE '`+closedMark+`=closed' = ANY (s.setconfig) ORDER BY r.rolname`)
		if err != nil {
			return pgclient.ExplainQuery("list the roles", err)
		}
		for _, role := range roles {
			name := pgclient.QuoteIdent(role)
			for _, sql := range []string{"ALTER ROLE " + name + " LOGIN", "ALTER ROLE " + name + " RESET " + closedMark} {
				if err := pgclient.Exec(ctx, conn, sql); err != nil {
					return pgclient.ExplainQuery("let role "+name+" in", err)
				}
			}
		}
		return nil
	})
}

// Checkpoint writes all that is in memory to the disk, so that the stop is short.
func (s *Server) Checkpoint(ctx context.Context) error {
	return s.with(ctx, "checkpoint", "", func(conn pgclient.Session, _ pgclient.Params) error {
		if err := pgclient.Exec(ctx, conn, "CHECKPOINT"); err != nil {
			return pgclient.ExplainQuery("checkpoint", err)
		}
		return nil
	})
}

// Health fails unless the server answers and takes writes.
func (s *Server) Health(ctx context.Context) error {
	return s.with(ctx, "ask the server", "", func(conn pgclient.Session, _ pgclient.Params) error {
		var standby bool
		if err := pgclient.Row(ctx, conn, `SELECT pg_catalog.pg_is_in_recovery()`, &standby); err != nil {
			return pgclient.ExplainQuery("ask the server", err)
		}
		if standby {
			return fmt.Errorf("the server is in recovery, and takes no writes")
		}
		return nil
	})
}

// Role is the role that works here.
func (s *Server) Role(ctx context.Context) (role string, err error) {
	err = s.with(ctx, "ask for the role", "", func(conn pgclient.Session, _ pgclient.Params) error {
		return pgclient.Row(ctx, conn, "SELECT current_user::text", &role)
	})
	return role, err
}

// Databases lists the databases whose facts count.
func (s *Server) Databases(ctx context.Context) (names []string, err error) {
	err = s.with(ctx, "list the databases", "", func(conn pgclient.Session, _ pgclient.Params) error {
		var listErr error
		names, listErr = databaseNames(ctx, conn)
		return listErr
	})
	return names, err
}

// Facts counts and hashes every row of every database, in one view each, as a backup does.
func (s *Server) Facts(ctx context.Context, observe holdfast.Observer) (source.Facts, error) {
	opt := s.opt
	opt.AllDatabases, opt.SkipGlobals = true, false
	opt.IncludeTables, opt.ExcludeTables, opt.ExcludeTableData, opt.IncludeSchemas, opt.ExcludeSchemas = nil, nil, nil, nil, nil
	return source.ReadFacts(ctx, New(opt), observe)
}

const (
	probeTables = 3
	probeRows   = 200_000
)

// Probe says how long a fixed set of queries takes: of each database, a read of the largest tables, up to so many rows of each. What is
// read is the same each time as long as nobody writes. No error names a table: it may be kept where no data may be.
func (s *Server) Probe(ctx context.Context) (took time.Duration, err error) {
	names, err := s.Databases(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		err := s.with(ctx, "measure queries", name, func(conn pgclient.Session, _ pgclient.Params) error {
			tables, err := pgclient.Strings(ctx, conn, fmt.Sprintf(`SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
				JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\_%%' AND n.nspname <> 'information_schema'
				ORDER BY pg_catalog.pg_relation_size(c.oid) DESC, 1 LIMIT %d`, probeTables))
			if err != nil {
				return pgclient.ExplainQuery("choose tables to measure", err)
			}
			// A plan of several processes varies more than what is measured.
			if err := pgclient.Exec(ctx, conn, "SET max_parallel_workers_per_gather = 0"); err != nil {
				return pgclient.ExplainQuery("measure queries", err)
			}
			tables = slices.Insert(tables, 0, "pg_catalog.pg_class")
			for _, table := range tables {
				var rows int64
				began := time.Now()
				if err := pgclient.Row(ctx, conn, fmt.Sprintf("SELECT count(t.*) FROM (SELECT * FROM %s LIMIT %d) t", table, probeRows), &rows); err != nil {
					return nameless("measure queries on one of the largest tables", err)
				}
				took += time.Since(began)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// nameless is an error without the server's words, which name what was read.
func nameless(doing string, err error) error {
	var refused *pgclient.Error
	if !errors.As(err, &refused) {
		return pgclient.ExplainQuery(doing, err)
	}
	return pgclient.ExplainQuery(doing, &pgclient.Error{Code: refused.Code, Message: "the server refused"})
}

// Copying is what Snapshot has somebody copy: all of the data directory, or its log of writes alone.
type Copying func(ctx context.Context, logOnly bool) error

// Snapshot has the data directory of the running server copied so that a server can start on the copy, and completes it in dir. The log of writes
// that the copy needs is kept by a slot until it is there.
func (s *Server) Snapshot(ctx context.Context, dir string, copy Copying) error {
	return s.with(ctx, "copy the running server", "", func(conn pgclient.Session, _ pgclient.Params) error {
		version, err := pgclient.ServerVersion(ctx, conn)
		if err != nil {
			return err
		}
		begin, end := "pg_backup_start('holdfast', true)", "pg_backup_stop(false)"
		if version < 150000 {
			begin, end = "pg_start_backup('holdfast', true, false)", "pg_stop_backup(false, false)"
		}
		// A temporary slot goes with the session, however this ends.
		if err := pgclient.Exec(ctx, conn, "SELECT pg_catalog.pg_create_physical_replication_slot('holdfast_'||pg_catalog.pg_backend_pid(), true, true)"); err != nil {
			return pgclient.ExplainQuery("keep the log of writes", err)
		}
		if err := pgclient.Exec(ctx, conn, "SELECT pg_catalog."+begin); err != nil {
			return pgclient.ExplainQuery("begin the copy", err)
		}
		if err := copy(ctx, false); err != nil {
			return err
		}
		var label string
		if err := pgclient.Row(ctx, conn, "SELECT labelfile FROM pg_catalog."+end, &label); err != nil {
			return pgclient.ExplainQuery("end the copy", err)
		}
		if err := copy(ctx, true); err != nil {
			return err
		}
		return completeCopy(dir, label)
	})
}

// completeCopy writes the label that says where to begin, and removes what belongs to the server that was copied.
func completeCopy(dir, label string) error {
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil {
		return fmt.Errorf("complete the copy: %w", err)
	}
	path := filepath.Join(dir, "backup_label")
	if err := os.WriteFile(path, []byte(label), 0o600); err != nil {
		return fmt.Errorf("complete the copy: %w", err)
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("complete the copy: %w", err)
	}
	slots, err := filepath.Glob(filepath.Join(dir, "pg_replslot", "*"))
	if err != nil {
		return err
	}
	for _, path := range append(slots, filepath.Join(dir, "postmaster.pid"), filepath.Join(dir, "postmaster.opts")) {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("complete the copy: %w", err)
		}
	}
	return nil
}
