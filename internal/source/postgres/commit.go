package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// Commit gives every staged database its final name; one that bears it already is kept under another name.
func (p *Place) Commit(ctx context.Context) (string, error) {
	where, err := p.commit(ctx)
	return where, because(ctx, "commit", err)
}

func (p *Place) commit(ctx context.Context) (string, error) {
	switch {
	case p.drill:
		return "", errors.New("a drill has no final place")
	case !p.restored || p.committed:
		return "", errors.New("nothing stands ready to be committed")
	}
	for _, s := range p.staged {
		for _, statement := range s.finalSQL(s.staging) {
			if err := p.exec(ctx, "set the properties of database "+pgclient.QuoteIdent(s.staging), statement); err != nil {
				return "", err
			}
		}
	}
	swap := p.swapEach
	if p.together {
		swap = p.swapTogether
	}
	where, err := swap(ctx)
	if err != nil {
		return "", err
	}
	p.committed = true
	if p.target.WithRoles {
		if err := p.changeRoles(ctx); err != nil {
			return "", err
		}
	}
	return where, nil
}

// swapEach gives one database after another its name.
func (p *Place) swapEach(ctx context.Context) (string, error) {
	var said []string
	for _, s := range p.staged {
		kept, err := p.swap(ctx, s)
		if err != nil {
			if len(said) > 0 {
				err = fmt.Errorf("%w (done before that: %s)", err, strings.Join(said, ", "))
			}
			return "", err
		}
		s.kept = kept
		s.made = false // it is no staging any more
		said = append(said, p.sayWhere(s))
	}
	return strings.Join(said, ", "), nil
}

// sayWhere tells where a database has come to stand, and what became of the one before.
func (p *Place) sayWhere(s *staged) string {
	line := fmt.Sprintf("database %q on %s", s.final, p.server.Where())
	if s.kept != "" {
		line += fmt.Sprintf(" (the one before is kept as %q)", s.kept)
	}
	return line
}

// before ends the name that something is kept under.
func (p *Place) before() string {
	now := p.target.Now
	if now.IsZero() {
		now = time.Now()
	}
	return "_before_" + now.UTC().Format("20060102t150405z")
}

// taken says that the final name of s is not free any more.
func (p *Place) taken(s *staged) error {
	hint := "choose another name, or replace it with --overwrite"
	if p.together {
		hint = "find out who made it; rename it, then run again"
	}
	return holdfast.WithHint(fmt.Errorf("%w: database %q has come to exist on %s meanwhile", holdfast.ErrUsage, s.final, p.server.Where()), hint)
}

// leave ends the session in a database: it can neither shut nor rename the one it is in. template1 is never restored.
func (p *Place) leave(database string) error {
	if err := p.conn.Close(); err != nil {
		return fmt.Errorf("leave database %s: %w", pgclient.QuoteIdent(database), err)
	}
	p.server = p.server.On("template1")
	return nil
}

// renameAttempts bounds how often sessions are ended that come back between being ended and the renaming.
const renameAttempts = 20

// swap renames the staging database of s, and what bears its final name, in one transaction. It returns the name that
// the old one is kept under, "" if there was none.
func (p *Place) swap(ctx context.Context, s *staged) (string, error) {
	occupied, err := p.exists(ctx, s.final)
	if err != nil {
		return "", err
	}
	if !occupied {
		return "", p.rename(ctx, [][2]string{{s.staging, s.final}})
	}
	if !p.target.Overwrite && !s.vacant {
		return "", p.taken(s)
	}
	kept, err := p.freeName(ctx, s.final, p.before())
	if err != nil {
		return "", err
	}
	if p.server["dbname"] == s.final {
		if err := p.leave(s.final); err != nil {
			return "", err
		}
	}
	conn, err := p.session(ctx)
	if err != nil {
		return "", err
	}
	var open bool
	if err := pgclient.Row(ctx, conn, `SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = `+pgclient.QuoteLiteral(s.final), &open); err != nil {
		return "", pgclient.ExplainQuery("look at database "+pgclient.QuoteIdent(s.final), err)
	}
	// An application that reconnects at once would otherwise win against the renaming.
	if err := p.allow(ctx, s.final, false); err != nil {
		return "", err
	}
	name := s.final
	if err = p.rename(ctx, [][2]string{{s.final, kept}, {s.staging, s.final}}); err == nil {
		name = kept
	}
	if open {
		// Whatever happened, the old database must not stay shut, even if the run was interrupted.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if allowErr := p.allow(ctx, name, true); allowErr != nil {
			allowErr = holdfast.WithHint(allowErr, fmt.Sprintf("run: ALTER DATABASE %s ALLOW_CONNECTIONS true;", pgclient.QuoteIdent(name)))
			if err != nil {
				return "", errors.Join(err, allowErr)
			}
			p.warn("%v; %s", allowErr, holdfast.Hint(allowErr))
		}
	}
	if err != nil {
		return "", err
	}
	return kept, nil
}

// freeName is name with the suffix, and a number behind it where a database of that name exists.
func (p *Place) freeName(ctx context.Context, name, suffix string) (string, error) {
	free := withSuffix(name, suffix)
	for n := 2; ; n++ {
		taken, err := p.exists(ctx, free)
		if err != nil || !taken {
			return free, err
		}
		free = withSuffix(name, fmt.Sprintf("%s_%d", suffix, n))
	}
}

func (p *Place) allow(ctx context.Context, database string, open bool) error {
	return p.exec(ctx, "change who may connect to database "+pgclient.QuoteIdent(database),
		fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", pgclient.QuoteIdent(database), open))
}

// rename gives databases new names, all or none, and ends the sessions in them.
func (p *Place) rename(ctx context.Context, pairs [][2]string) error {
	names := make([]string, len(pairs))
	for i, pair := range pairs {
		names[i] = pair[0]
	}
	doing := "rename database " + pgclient.QuoteIdent(names[0])
	var last error
	for range renameAttempts {
		conn, err := p.session(ctx)
		if err != nil {
			return err
		}
		err = pgclient.Exec(ctx, conn, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
			WHERE datname::text = ANY (`+pgclient.QuoteLiterals(names)+`) AND pid <> pg_catalog.pg_backend_pid()`)
		if err != nil {
			return pgclient.ExplainQuery("end the sessions in database "+pgclient.QuoteIdent(names[0]), err)
		}
		err = renameAll(ctx, conn, pairs)
		var refused *pgclient.Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return err
		case errors.As(err, &refused) && refused.Code == "55006": // in use; the server itself has waited 5 s
			last = err
			continue
		}
		return pgclient.ExplainQuery(doing, err)
	}
	return holdfast.WithHint(pgclient.ExplainQuery(doing, last), "end the sessions and prepared transactions in it, then run again")
}

func renameAll(ctx context.Context, conn pgclient.Session, pairs [][2]string) error {
	if err := pgclient.Exec(ctx, conn, "BEGIN"); err != nil {
		return err
	}
	for _, pair := range pairs {
		err := pgclient.Exec(ctx, conn, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", pgclient.QuoteIdent(pair[0]), pgclient.QuoteIdent(pair[1])))
		if err == nil {
			continue
		}
		if !conn.Closed() {
			err = errors.Join(err, pgclient.Exec(context.WithoutCancel(ctx), conn, "ROLLBACK"))
		}
		return err
	}
	return pgclient.Exec(ctx, conn, "COMMIT")
}
