package pgclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// closeTime bounds the end of a session.
const closeTime = 5 * time.Second

// pinSession makes a session independent of what roles and databases set: no name resolves outside pg_catalog, and
// names and numbers print the same everywhere.
const pinSession = `SELECT pg_catalog.set_config('search_path', '', false),
	pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '0', false),
	pg_catalog.set_config('datestyle', 'ISO, YMD', false), pg_catalog.set_config('quote_all_identifiers', 'off', false),
	pg_catalog.set_config('default_transaction_isolation', 'read committed', false)`

// Session is one session with a server. It takes one statement at a time and is not safe for concurrent use. A statement
// that is cancelled by its context ends the session.
type Session interface {
	// Query runs one statement and returns all rows of its result, which must fit into memory. What the server refuses is
	// an [*Error].
	Query(ctx context.Context, sql string) (Rows, error)
	// Close ends the session; it waits for a few seconds at most.
	Close() error
	// Closed reports whether the session has ended, as it does when its server goes away.
	Closed() bool
}

// Rows are a result in PostgreSQL's text form.
type Rows struct {
	// Columns are the names of the columns; none: the statement returns nothing.
	Columns []string
	// Values holds each row's values in the order of Columns; nil is NULL.
	Values [][]*string
}

// Exec runs a statement whose result does not matter.
func Exec(ctx context.Context, s Session, sql string) error {
	_, err := s.Query(ctx, sql)
	return err
}

// ErrNoRows is returned by [Row] for a result without any row.
var ErrNoRows = errors.New("the server returned no row")

// Row runs a statement and reads its first row into targets, one for each column: *string, *bool, *int, *int64,
// *uint32, or a [JSON]. NULL is refused, but by a JSON, which leaves its target as it is.
func Row(ctx context.Context, s Session, sql string, targets ...any) error {
	rows, err := s.Query(ctx, sql)
	if err != nil {
		return err
	}
	if len(rows.Values) == 0 {
		return ErrNoRows
	}
	return rows.scan(0, targets)
}

// JSON is a target that is filled from a column of type json or jsonb.
type JSON struct{ Into any }

// Each runs a statement and calls found for each row after reading it into targets, as [Row] does.
func Each(ctx context.Context, s Session, sql string, found func(), targets ...any) error {
	rows, err := s.Query(ctx, sql)
	if err != nil {
		return err
	}
	for i := range rows.Values {
		if err := rows.scan(i, targets); err != nil {
			return err
		}
		found()
	}
	return nil
}

// Strings runs a statement and returns the first column of its rows.
func Strings(ctx context.Context, s Session, sql string) ([]string, error) {
	var list []string
	var text string
	err := Each(ctx, s, sql, func() { list = append(list, text) }, &text)
	return list, err
}

func (r Rows) scan(row int, targets []any) error {
	if len(targets) != len(r.Columns) {
		return fmt.Errorf("the server returned %d columns instead of %d", len(r.Columns), len(targets))
	}
	for i, target := range targets {
		if err := scanValue(r.Values[row][i], target); err != nil {
			return fmt.Errorf("column %s: %w", r.Columns[i], err)
		}
	}
	return nil
}

func scanValue(value *string, target any) error {
	if into, isJSON := target.(JSON); isJSON {
		if value == nil {
			return nil
		}
		return json.Unmarshal([]byte(*value), into.Into)
	}
	if value == nil {
		return errors.New("NULL was not expected")
	}
	var err error
	switch target := target.(type) {
	case *string:
		*target = *value
	case *bool:
		*target, err = ParseBool(*value)
	case *int:
		*target, err = strconv.Atoi(*value)
	case *int64:
		*target, err = strconv.ParseInt(*value, 10, 64)
	case *uint32:
		var number uint64
		number, err = strconv.ParseUint(*value, 10, 32)
		*target = uint32(number)
	default:
		panic(fmt.Sprintf("pgclient: no value is read into a %T", target))
	}
	return err
}

// ParseBool reads a boolean in text form.
func ParseBool(text string) (bool, error) {
	switch text {
	case "t":
		return true, nil
	case "f":
		return false, nil
	}
	return false, fmt.Errorf("%q is no boolean", text)
}

// ServerVersion is the server's version number, as in 150004.
func ServerVersion(ctx context.Context, s Session) (int, error) {
	var version int
	if err := Row(ctx, s, `SELECT pg_catalog.current_setting('server_version_num')`, &version); err != nil {
		return 0, ExplainQuery("ask for the server's version", err)
	}
	return version, nil
}

// QuoteIdent always quotes, so that no word is ever a keyword of some version.
func QuoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteLiteral is independent of standard_conforming_strings.
func QuoteLiteral(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// QuoteLiterals writes a value of type text[].
func QuoteLiterals(list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = QuoteLiteral(text)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::pg_catalog.text[]"
}
