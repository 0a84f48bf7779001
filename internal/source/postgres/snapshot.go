package postgres

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/source/postgres/pgclient"
)

// snapshot is one database's pinned view: an open transaction whose snapshot pg_dump shares.
type snapshot struct {
	conn     pgclient.Session
	server   pgclient.Params // leads to the same server and database
	id       string
	taken    time.Time
	lsn      string
	standby  bool
	escapes  bool  // bytea is written in its old form unless asked otherwise
	quotes   bool  // definitions are written with every name in quotes unless asked otherwise
	size     int64 // of the database on the server's disk: a guess at the dump's
	database database
}

// openSnapshot pins a view of the database that p leads to.
func openSnapshot(ctx context.Context, site pgclient.Site, p pgclient.Params) (*snapshot, error) {
	conn, server, err := site.Dial(ctx, p)
	if err != nil {
		return nil, err
	}
	s := &snapshot{conn: conn, server: server}
	if err := s.pin(ctx, site); err != nil {
		conn.Close() // after an error that says more
		return nil, err
	}
	return s, nil
}

func (s *snapshot) pin(ctx context.Context, site pgclient.Site) error {
	version, err := pgclient.ServerVersion(ctx, s.conn)
	if err != nil {
		return err
	}
	if err := pgclient.RefusePooler(ctx, site, s.conn, s.server); err != nil {
		return err
	}
	// A session that waits for a dump of hours must not be ended for being idle.
	zeroed := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	if version >= 140000 {
		zeroed = append(zeroed, "idle_session_timeout")
	}
	if version >= 170000 {
		zeroed = append(zeroed, "transaction_timeout")
	}
	for _, name := range zeroed {
		if err := pgclient.Exec(ctx, s.conn, "SET "+name+" = 0"); err != nil {
			return pgclient.ExplainQuery("switch "+name+" off", err)
		}
	}
	// Sessions of pg_dump begin with the same settings as this one began with.
	err = pgclient.Row(ctx, s.conn, `SELECT
		(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'bytea_output') <> 'hex',
		(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'quote_all_identifiers') = 'on'`, &s.escapes, &s.quotes)
	if err != nil {
		return pgclient.ExplainQuery("read the session's settings", err)
	}
	// The position is read before the snapshot is taken: everything before it is in the snapshot.
	err = pgclient.Row(ctx, s.conn, `SELECT pg_catalog.pg_is_in_recovery(), coalesce(CASE WHEN pg_catalog.pg_is_in_recovery()
		THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END::text, '')`, &s.standby, &s.lsn)
	if err != nil {
		return pgclient.ExplainQuery("read the WAL position", err)
	}
	if err := pgclient.Exec(ctx, s.conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return pgclient.ExplainQuery("begin the snapshot's transaction", err)
	}
	var taken int64
	err = pgclient.Row(ctx, s.conn, `SELECT pg_catalog.pg_export_snapshot(),
		pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint`, &s.id, &taken)
	if err != nil {
		return pgclient.ExplainQuery("export the snapshot", err)
	}
	s.taken = time.UnixMicro(taken).UTC()
	if s.database, err = readDatabase(ctx, s.conn); err != nil {
		return err
	}
	err = pgclient.Row(ctx, s.conn, `SELECT coalesce(pg_catalog.sum(c.relpages::bigint), 0)::bigint * 8192
		FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 't', 'm')`, &s.size)
	if err != nil {
		return pgclient.ExplainQuery("estimate the size of the database", err)
	}
	return nil
}

// close ends the transaction.
func (s *snapshot) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := pgclient.Exec(ctx, s.conn, "COMMIT")
	s.conn.Close() // the transaction's end is what counts
	if err != nil {
		return fmt.Errorf("end the snapshot of database %q: %w", s.database.Name, err)
	}
	return nil
}
