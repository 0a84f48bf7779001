package postgres

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/source/postgres/pgclient"
)

// The sessions that count as an application's: those of all clients but the one that asks.
const othersSessions = `backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()`

// sessionTry is the time between two looks at the sessions of others.
const sessionTry = 100 * time.Millisecond

// ownTries bounds the looks for sessions of the own role: one of this program that has just closed may be there for a moment.
const ownTries = 10

// Ready lists why applications cannot be kept out, or not everything be compared and backed up: one sentence each, with what to do. The list is
// empty if all is well.
func (s *Server) Ready(ctx context.Context) (obstacles []string, err error) {
	add := func(format string, args ...any) { obstacles = append(obstacles, fmt.Sprintf(format, args...)) }
	var names []string
	err = s.with(ctx, "look at the server", "", func(conn pgclient.Session, p pgclient.Params) error {
		role := pgclient.QuoteIdent(p["user"])
		var super, standby bool
		var replicas int64
		err := pgclient.Row(ctx, conn, `SELECT r.rolsuper, pg_catalog.pg_is_in_recovery(), (SELECT count(*) FROM pg_catalog.pg_stat_replication)
			FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`, &super, &standby, &replicas)
		if err != nil {
			return pgclient.ExplainQuery("look at the server", err)
		}
		if !super {
			// What it may not see it would not find.
			add("role %s is no superuser: it cannot keep applications out", role)
			return nil
		}
		if standby {
			add("the server is a standby")
		}
		own, err := ownSessions(ctx, conn)
		if err != nil {
			return err
		}
		if own > 0 {
			add("%d other session(s) work as role %s, which must stay open for Holdfast: %s", own, role, ownSuperuser)
		}
		if replicas > 0 {
			add("%d replica(s) or receivers of WAL are connected: they would have to follow", replicas)
		}
		if err := unreached(ctx, conn, add); err != nil {
			return err
		}
		if err := subscribed(ctx, conn, add); err != nil {
			return err
		}
		if err := ownedDatabases(ctx, conn, role, add); err != nil {
			return err
		}
		names, err = pgclient.Strings(ctx, conn, `SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname`)
		if err != nil {
			return pgclient.ExplainQuery("list the databases", err)
		}
		return nil
	})
	for _, name := range names {
		if err == nil {
			err = s.ownedTables(ctx, name, add)
		}
	}
	return obstacles, err
}

// ownSuperuser is the way out where the role that must stay open is an application's.
const ownSuperuser = "give the source of the configuration a superuser of its own (CREATE ROLE holdfast SUPERUSER LOGIN)"

// ownSessions counts the sessions of the own role that stay.
func ownSessions(ctx context.Context, conn pgclient.Session) (own int64, err error) {
	for range ownTries {
		err := pgclient.Row(ctx, conn, `SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = current_user AND `+othersSessions, &own)
		if err != nil {
			return 0, pgclient.ExplainQuery("look at the sessions", err)
		}
		if own == 0 {
			return 0, nil
		}
		if err := pause(ctx); err != nil {
			return 0, err
		}
	}
	return own, nil
}

// pause waits until it is time for another look.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(sessionTry):
		return nil
	}
}

// unreached tells of databases that neither facts nor backups have. template0 and template1 are every cluster's.
func unreached(ctx context.Context, conn pgclient.Session, add func(string, ...any)) error {
	var name string
	var open, template, broken bool
	err := pgclient.Each(ctx, conn, `SELECT datname::text, datallowconn, datistemplate, datconnlimit = -2 FROM pg_catalog.pg_database
		WHERE (NOT datallowconn OR datistemplate OR datconnlimit = -2) AND datname NOT IN ('template0', 'template1') ORDER BY datname`, func() {
		quoted := pgclient.QuoteIdent(name)
		if broken {
			add("database %s is what a DROP DATABASE left that was cut off: drop it (DROP DATABASE %s)", quoted, quoted)
			return
		}
		if !open {
			add("database %s takes no connections, so that neither facts nor backups have it: open it (ALTER DATABASE %s WITH ALLOW_CONNECTIONS true), or drop it", quoted, quoted)
		}
		if template {
			add("database %s is a template, so that neither facts nor backups have it: make it none (ALTER DATABASE %s WITH IS_TEMPLATE false), or drop it", quoted, quoted)
		}
	}, &name, &open, &template, &broken)
	if err != nil {
		return pgclient.ExplainQuery("list the databases", err)
	}
	return nil
}

// subscribed tells of enabled subscriptions: their workers are no clients, write while applications are shut out, and confirm what they wrote to
// the publisher, which then sends it no second time.
func subscribed(ctx context.Context, conn pgclient.Session, add func(string, ...any)) error {
	var name, database string
	err := pgclient.Each(ctx, conn, `SELECT s.subname::text, d.datname::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE s.subenabled ORDER BY 2, 1`, func() {
		quoted := pgclient.QuoteIdent(name)
		add("subscription %s in database %s is enabled, and writes while applications are shut out: disable it meanwhile (ALTER SUBSCRIPTION %s DISABLE)",
			quoted, pgclient.QuoteIdent(database), quoted)
	}, &name, &database)
	if err != nil {
		return pgclient.ExplainQuery("list the subscriptions", err)
	}
	return nil
}

// ownedDatabases tells of databases of the own role, which is then likely that of an application. Those of the first role are no sign:
// whoever administrates makes databases with it.
func ownedDatabases(ctx context.Context, conn pgclient.Session, role string, add func(string, ...any)) error {
	names, err := pgclient.Strings(ctx, conn, `SELECT pg_catalog.quote_ident(d.datname) FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
		WHERE r.rolname = current_user AND r.oid <> 10 AND d.datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1`)
	if err != nil {
		return pgclient.ExplainQuery("list the databases", err)
	}
	for _, name := range names {
		add("role %s, which must stay open for Holdfast, owns database %s, so that an application may work as it: %s", role, name, ownSuperuser)
	}
	return nil
}

// ownedTables tells whether the own role has tables in a database: whoever made them may connect as it for each request, and no session be seen.
// What an extension made belongs to who installed it.
func (s *Server) ownedTables(ctx context.Context, database string, add func(string, ...any)) error {
	return s.with(ctx, "look for tables of the own role", database, func(conn pgclient.Session, p pgclient.Params) error {
		var tables int64
		err := pgclient.Row(ctx, conn, `SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
			WHERE r.rolname = current_user AND c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`, &tables)
		if err != nil {
			return pgclient.ExplainQuery("look for tables of the own role", err)
		}
		if tables > 0 {
			add("role %s, which must stay open for Holdfast, owns %d table(s) in database %s, so that an application may work as it: %s, or the tables another owner",
				pgclient.QuoteIdent(p["user"]), tables, pgclient.QuoteIdent(database), ownSuperuser)
		}
		return nil
	})
}
