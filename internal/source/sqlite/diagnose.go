package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	lib "modernc.org/sqlite/lib"

	"holdfast"
	"holdfast/internal/source"
)

const (
	// glance is how long Diagnose waits for a lock at most: it looks, it does not insist.
	glance = 2 * time.Second
	// largeWAL is a write-ahead log that no healthy application lets grow.
	largeWAL = 256 << 20
	// slowRead is a rate, in bytes a second, that sealing and a network should reach.
	slowRead = 8 << 20
)

// Diagnose implements source.Source.
func (s *Source) Diagnose(ctx context.Context) ([]source.Finding, error) {
	file, err := inspect(ctx, s.options.Path)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return []source.Finding{failure(err)}, nil
	}
	findings := leftoverFindings(file.path)
	v, err := openView(ctx, file, min(glance, s.options.MaxLock))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case hasCode(err, lib.SQLITE_BUSY):
		return append(findings, source.Finding{
			Severity: source.Warns,
			Message:  fmt.Sprintf("%s is locked at this moment; a backup waits %v before it fails", file.path, s.options.MaxLock),
			Fix:      holdfast.Hint(err),
		}), nil
	case err != nil:
		return append(findings, failure(fmt.Errorf("%s: %w", file.path, err))), nil
	}
	inside, err := s.diagnoseView(ctx, file, v)
	if err := errors.Join(err, v.close()); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return append(findings, failure(fmt.Errorf("%s: %w", file.path, explain(err, file.path)))), nil
	}
	return append(findings, inside...), nil
}

func failure(err error) source.Finding {
	return source.Finding{Severity: source.Fails, Message: err.Error(), Fix: holdfast.Hint(err)}
}

// diagnoseView looks at what can only be seen with the database open.
func (s *Source) diagnoseView(ctx context.Context, file databaseFile, v *view) ([]source.Finding, error) {
	pageSize, pageCount, err := v.size()
	if err != nil {
		return nil, err
	}
	size := pageSize * pageCount
	findings := []source.Finding{{
		Severity: source.Fine,
		Message:  fmt.Sprintf("%s: %d bytes, %s mode", file.path, size, v.journal()),
	}}
	if size == 0 {
		findings = append(findings, source.Finding{
			Severity: source.Warns, Message: file.path + " is an empty database",
			Fix: "check the path: opening a wrong one makes SQLite create an empty file",
		})
	}
	if wal := file.walSize(); wal > largeWAL && wal > size/2 {
		findings = append(findings, source.Finding{
			Severity: source.Warns,
			Message:  fmt.Sprintf("the write-ahead log of %s has %d bytes", file.path, wal),
			Fix: "look for a connection that never ends its transaction, then: sqlite3 " + file.path +
				" 'PRAGMA wal_checkpoint(TRUNCATE)'",
		})
	}
	if limit := int64(s.options.MaxLock.Seconds() * slowRead); !v.wal && size > limit {
		findings = append(findings, source.Finding{
			Severity: source.Warns,
			Message: fmt.Sprintf("%s is in rollback-journal mode, where the application cannot write during a backup, "+
				"and may be too large to be read within %v", filepath.Base(file.path), s.options.MaxLock),
			Fix: "switch it to WAL (PRAGMA journal_mode=WAL), or raise max_lock",
		})
	}
	tables, err := listTables(ctx, v)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		err := v.compiles(table.statement())
		switch {
		case lacksExtension(err):
			findings = append(findings, source.Finding{
				Severity: source.Warns,
				Message:  fmt.Sprintf("table %s is compared as part of the image only: %v", printable(table.name), err),
			})
		case err != nil:
			return nil, fmt.Errorf("read table %s: %w", printable(table.name), err)
		}
	}
	return findings, nil
}

// compiles reads one row at most.
func (v *view) compiles(statement string) error {
	c, err := v.query(statement)
	if err != nil {
		return err
	}
	return c.close()
}
