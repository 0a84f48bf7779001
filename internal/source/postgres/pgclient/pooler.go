package pgclient

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
)

var errPooler = errors.New("a transaction-pooling proxy stands before the server")

// throughProxy reports whether something between us and the server speaks the protocol for it: the process number
// that the handshake told is then not the one that the server itself tells.
func throughProxy(ctx context.Context, s Session) (bool, error) {
	direct, isWire := s.(*wire)
	if !isWire {
		return true, nil // not known: looked for in the other way
	}
	pid, err := backend(ctx, s)
	return pid != direct.conn.PID(), err
}

// backend asks for the process number of the server's session.
func backend(ctx context.Context, s Session) (uint32, error) {
	var pid uint32
	if err := Row(ctx, s, `SELECT pg_catalog.pg_backend_pid()`, &pid); err != nil {
		return 0, ExplainQuery("ask for the backend's process number", err)
	}
	return pid, nil
}

// RefusePooler fails if s, which site opened by p, goes through a proxy that hands one server session to several
// clients in turn: the settings and the snapshot of such a session may be anybody's. A proxy that pools whole sessions
// is let through.
func RefusePooler(ctx context.Context, site Site, s Session, p Params) error {
	proxied, err := throughProxy(ctx, s)
	if err != nil || !proxied {
		return err
	}
	refused := holdfast.WithHint(fmt.Errorf("connect to %s: %w", p.Where(), errPooler),
		"connect to the PostgreSQL server itself, or through a pool with pool_mode = session")
	// While our session is between transactions, another client holds a transaction open. If it was given our server
	// session, or if ours moves to another one meanwhile, the proxy pools transactions.
	other, _, err := site.Dial(ctx, p)
	if err != nil {
		return err
	}
	defer other.Close() // its transaction read nothing
	first, err := backend(ctx, s)
	if err != nil {
		return err
	}
	if err := Exec(ctx, other, "BEGIN"); err != nil {
		return ExplainQuery("look for a pooling proxy", err)
	}
	second, err := backend(ctx, other)
	if err != nil {
		return err
	}
	if second == first {
		return refused
	}
	again, err := backend(ctx, s)
	if err == nil && again != first {
		return refused
	}
	return err
}
