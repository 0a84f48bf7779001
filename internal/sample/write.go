package sample

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// WriteOptions say how fast the living application changes its data.
type WriteOptions struct {
	// Rate is how many transactions a second each database gets. Default 20.
	Rate int
	// Count ends the writing after so many transactions in each database. Default 0: until ctx ends.
	Count int64
}

// Write plays the living application: it keeps changing the database at url and the SQLite file at path, until ctx ends
// or the count is reached; that is a good end, and nil is returned. An empty url or path leaves that one out.
//
// A transaction on the database inserts operations and events into several partitions, the default one included,
// changes users, and moves sequences on; every tenth one also makes a large object and deletes an older one.
func Write(ctx context.Context, url, path string, options WriteOptions) error {
	if options.Rate <= 0 {
		options.Rate = 20
	}
	group, groupCtx := errgroup.WithContext(ctx)
	if url != "" {
		group.Go(func() error {
			conn, err := connect(groupCtx, url, "")
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(groupCtx))
			return repeat(groupCtx, options, func(n int64) error { return writeDatabase(groupCtx, conn, n) })
		})
	}
	if path != "" {
		group.Go(func() (err error) {
			db, err := openSQLite(path)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			return repeat(groupCtx, options, func(n int64) error {
				if err := writeSQLite(groupCtx, db, n); err != nil {
					return fmt.Errorf("write to %s: %w", path, err)
				}
				return nil
			})
		})
	}
	// Whatever a cancelled statement answers, an end that was asked for is not a failure.
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func repeat(ctx context.Context, options WriteOptions, change func(n int64) error) error {
	ticker := time.NewTicker(time.Second / time.Duration(options.Rate))
	defer ticker.Stop()
	for n := int64(1); options.Count == 0 || n <= options.Count; n++ {
		if err := change(n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

func writeDatabase(ctx context.Context, conn *pgx.Conn, n int64) error {
	statements := []string{
		`INSERT INTO app.operations (user_id, kind, amount, created_at, note, details, payload)
			SELECT (SELECT min(id) FROM app.users), 'payment', 0.01 * i, clock_timestamp(), E'written \\. ' || $1::bigint || E'\t' || i,
				jsonb_build_object('writer', $1::bigint, 'i', i), decode(lpad(to_hex($1::bigint % 65536), 8, '0'), 'hex')
			FROM generate_series(1, 5) i`,
		`INSERT INTO app.events (occurred_at, kind, body)
			SELECT t, CASE WHEN $1::bigint % 2 = 0 THEN 'login' ELSE 'written' END, jsonb_build_object('n', $1::bigint)
			FROM unnest(ARRAY['2025-05-05 05:05+00', '2026-02-02 02:02+00', '2030-03-03 03:03+00']::timestamptz[]) t`,
		`UPDATE app.users SET profile = profile || jsonb_build_object('writes', $1::bigint)
			WHERE id = (SELECT min(id) + $1::bigint % 20 FROM app.users)`,
		`SELECT nextval('app.snapshot_numbers'), nextval('"Weird Schäma"."Séquence ""x"""') + $1::bigint`,
	}
	if n%10 == 0 {
		statements = append(statements,
			`SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = (SELECT max(oid) FROM pg_largeobject_metadata) AND $1::bigint % 20 = 0`,
			`SELECT lo_from_bytea(0, convert_to(repeat('written ' || $1::bigint, 500), 'UTF8'))`)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement, n); err != nil {
				return fmt.Errorf("write to the sample database: %w", err)
			}
		}
		return nil
	})
}

// Damage alters one note and deletes one operation of the database at url, as a careless hand would, and tells what
// it did.
func Damage(ctx context.Context, url string) (string, error) {
	conn, err := connect(ctx, url, "")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var operation int64
	var note string
	err = conn.QueryRow(ctx, `WITH operation AS (DELETE FROM app.operations WHERE id = (SELECT max(id) FROM app.operations) RETURNING id),
		note AS (UPDATE app.notes SET title = overlay(title PLACING 'X' FROM 1 FOR 1)
			WHERE id = (SELECT id FROM app.notes WHERE title NOT LIKE 'X%' ORDER BY id LIMIT 1) RETURNING id)
		SELECT operation.id, note.id::text FROM operation, note`).Scan(&operation, &note)
	if err != nil {
		return "", fmt.Errorf("damage the sample database: %w", err)
	}
	return fmt.Sprintf("deleted operation %d and altered one letter of note %s", operation, note), nil
}
