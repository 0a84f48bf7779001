package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	lib "modernc.org/sqlite/lib"

	"holdfast"
)

// shown is how many problems an error lists; a damaged page easily causes hundreds.
const shown = 5

// checkIntegrity runs SQLite's own checks. Damage is an error that wraps holdfast.ErrDifference and names the tables;
// what is not damage is returned as notes.
func checkIntegrity(ctx context.Context, v *view) (notes []string, err error) {
	problems, err := v.lines(ctx, "PRAGMA integrity_check")
	switch {
	case err == nil && len(problems) == 1 && problems[0] == "ok":
	case err == nil, lacksExtension(err), hasCode(err, lib.SQLITE_CORRUPT):
		if err != nil && !lacksExtension(err) {
			problems = append(problems, err.Error())
		}
		byTable, notes, err := checkTables(ctx, v)
		if err != nil {
			return nil, err
		}
		if len(byTable) > 0 {
			problems = byTable
		}
		if len(problems) > 0 {
			return nil, fmt.Errorf("%w: integrity check: %s", holdfast.ErrDifference, summary(problems))
		}
		return append(notes, checkForeignKeys(ctx, v)...), ctx.Err()
	default:
		return nil, fmt.Errorf("integrity check: %w", err)
	}
	return checkForeignKeys(ctx, v), ctx.Err()
}

// checkTables checks one table after another: to name those that are damaged, and to leave out those that only the
// application's own extensions can check.
func checkTables(ctx context.Context, v *view) (problems, notes []string, err error) {
	tables, err := listTables(ctx, v)
	if err != nil {
		return nil, nil, err
	}
	for _, table := range tables {
		lines, err := v.lines(ctx, "PRAGMA integrity_check("+quote(table.name)+")")
		switch {
		case lacksExtension(err):
			notes = append(notes, fmt.Sprintf("the integrity of table %s was not checked: %v", printable(table.name), err))
			continue
		case hasCode(err, lib.SQLITE_CORRUPT):
			lines = append(lines, err.Error()) // damage can be such that even the check gives up
		case err != nil:
			return nil, nil, fmt.Errorf("integrity check of table %s: %w", printable(table.name), err)
		}
		for _, line := range lines {
			if line != "ok" {
				problems = append(problems, fmt.Sprintf("table %s: %s", printable(table.name), line))
			}
		}
	}
	return problems, notes, nil
}

// checkForeignKeys counts violations. They are no damage: SQLite does not enforce foreign keys unless told to.
func checkForeignKeys(ctx context.Context, v *view) []string {
	violations := 0
	err := v.each(ctx, "PRAGMA foreign_key_check", func([]driver.Value) error {
		violations++
		return nil
	})
	switch {
	case err != nil && ctx.Err() == nil:
		return []string{fmt.Sprintf("foreign keys were not checked: %v", err)}
	case violations > 0:
		return []string{fmt.Sprintf("%d rows violate a foreign key, as they did when they were captured", violations)}
	}
	return nil
}

// lines runs a check, which may be long, and returns its answer.
func (v *view) lines(ctx context.Context, statement string) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.conn.(driver.QueryerContext).QueryContext(ctx, statement, nil)
	if err != nil {
		return nil, err
	}
	var lines []string
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		lines = append(lines, strings.Split(strings.TrimSpace(text(row[0])), "\n")...)
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
	}
	if err != io.EOF {
		rows.Close() // repeats the error
		return lines, err
	}
	return lines, rows.Close()
}

func summary(problems []string) string {
	if len(problems) <= shown {
		return strings.Join(problems, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(problems[:shown], "; "), len(problems)-shown)
}
