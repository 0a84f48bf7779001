package sample

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed sql/auth.sql
var authSQL string

// CreateSQLite makes the application's SQLite file in WAL mode: accounts, sessions, a full-text table, a table
// without rowid, blobs. The file must not exist. When it returns, no -wal or -shm stands beside it.
func CreateSQLite(path string, options Options) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create the sample's SQLite file %s: %w", path, errors.Join(err, fs.ErrExist))
	}
	db, err := openSQLite(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.Exec(authSQL); err != nil {
		return fmt.Errorf("create the tables of %s: %w", path, err)
	}
	tx, err := db.Begin()
	if err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	if err := fillSQLite(tx, options); err != nil {
		return fmt.Errorf("fill %s: %w", path, errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	return nil
}

// openSQLite opens or creates a file with one connection, which waits for other writers rather than fails.
func openSQLite(path string) (*sql.DB, error) {
	// A relative path would be read as the authority of the address.
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	address := url.URL{Scheme: "file", Path: absolute, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=foreign_keys(1)&_txlock=immediate"}
	db, err := sql.Open("sqlite", address.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func fillSQLite(tx *sql.Tx, options Options) error {
	random := options.random("sqlite")
	language := newProse(options)
	account, err := tx.Prepare("INSERT INTO accounts (id, email, name, password, avatar, created) VALUES (?, ?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	session, err := tx.Prepare("INSERT INTO sessions (token, account, device, data, expires) VALUES (?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	message, err := tx.Prepare("INSERT INTO messages (subject, body) VALUES (?, ?)")
	if err != nil {
		return err
	}
	left := options.fileBytes()
	for id := int64(1); left > 0 || id < 20; id++ {
		var avatar []byte
		if id%3 == 0 {
			avatar = appendNoise(nil, random, random.IntN(6000))
		}
		name := language.word(random) + "\t" + language.word(random)
		created := before(random, 900*day)
		if _, err := account.Exec(id, fmt.Sprintf("%s%d@example.org", language.word(random), id), name,
			appendNoise(nil, random, 32), avatar, created.Format(time.RFC3339)); err != nil {
			return err
		}
		for range random.IntN(4) {
			if _, err := session.Exec(appendNoise(nil, random, 16), id, language.phrase(random), appendDetails(nil, random, language),
				created.Add(90*day).Unix()); err != nil {
				return err
			}
		}
		body := language.text(random, 100+random.IntN(500))
		if _, err := message.Exec(language.phrase(random), body); err != nil {
			return err
		}
		// A row's text stands twice, in the table and in the full-text index.
		left -= int64(len(avatar) + 2*len(body) + 600)
	}
	return nil
}

// writeSQLite makes the n-th change of a living application.
func writeSQLite(ctx context.Context, db *sql.DB, n int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	statements := []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO sessions (token, account, device, data, expires) SELECT randomblob(16), id, 'writer', '{\"n\": ' || ? || '}', unixepoch() FROM accounts WHERE id = 1 + ? % 10", []any{n, n}},
		{"UPDATE accounts SET visits = visits + 1, seen = datetime('now') WHERE id = 1 + ? % 10", []any{n}},
		{"INSERT INTO messages (subject, body) VALUES ('written', 'number ' || ? || ' by the writer')", []any{n}},
		{"DELETE FROM sessions WHERE device = 'writer' AND number < (SELECT max(number) FROM sessions) - 500", nil},
		{"INSERT INTO settings (scope, key, value) VALUES ('writer', 'last', ?1) ON CONFLICT (scope, key) DO UPDATE SET value = ?1", []any{n}},
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement.sql, statement.args...); err != nil {
			return errors.Join(err, rollback(tx))
		}
	}
	return tx.Commit()
}

// rollback ends a transaction that a cancelled context may have ended already.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}
