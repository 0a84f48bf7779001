package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"holdfast"
)

var errPooler = errors.New("a transaction-pooling proxy stands before the server")

// throughProxy reports whether something between us and the server speaks the protocol for it: the process number
// that the handshake told is then not the one that the server itself tells.
func throughProxy(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&pid); err != nil {
		return false, explainQuery("ask for the backend's process number", err)
	}
	return pid != conn.PgConn().PID(), nil
}

// refusePooler fails if conn goes through a proxy that hands one server session to several clients in turn: the
// settings and the snapshot of such a session may be anybody's. A proxy that pools whole sessions is let through.
func refusePooler(ctx context.Context, conn *pgx.Conn, p params) error {
	proxied, err := throughProxy(ctx, conn)
	if err != nil || !proxied {
		return err
	}
	refused := holdfast.WithHint(fmt.Errorf("connect to %s: %w", p.where(), errPooler),
		"connect to the PostgreSQL server itself, or through a pool with pool_mode = session")
	// While our session is between transactions, another client holds a transaction open. If it was given our server
	// session, or if ours moves to another one meanwhile, the proxy pools transactions.
	other, _, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer closeConn(other)
	var first, second, again uint32
	const ask = `SELECT pg_catalog.pg_backend_pid()`
	if err := conn.QueryRow(ctx, ask).Scan(&first); err != nil {
		return explainQuery("ask for the backend's process number", err)
	}
	tx, err := other.Begin(ctx)
	if err != nil {
		return explainQuery("look for a pooling proxy", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if err := tx.QueryRow(ctx, ask).Scan(&second); err != nil {
		return explainQuery("look for a pooling proxy", err)
	}
	if second == first {
		return refused
	}
	if err := conn.QueryRow(ctx, ask).Scan(&again); err != nil {
		return explainQuery("look for a pooling proxy", err)
	}
	if again != first {
		return refused
	}
	return nil
}
