package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/source"
)

// keepRow is the size up to which the buffer for one encoded row is kept for the next.
const keepRow = 1 << 20

// mostColumns is how many columns SQLite lets a query return.
const mostColumns = 2000

// readFacts reads everything that is compared, but for the image, from a pinned view.
func readFacts(ctx context.Context, v *view) (source.Facts, error) {
	facts := source.Facts{Kind: holdfast.KindSQLite, Properties: map[string]string{}}
	for name, statement := range map[string]string{
		"page_size":      "PRAGMA page_size",
		"page_count":     "PRAGMA page_count",
		"user_version":   "PRAGMA user_version",
		"application_id": "PRAGMA application_id",
		"encoding":       "PRAGMA encoding",
		"sqlite_version": "SELECT sqlite_version()",
	} {
		value, err := v.one(statement)
		if err != nil {
			return source.Facts{}, fmt.Errorf("read %s: %w", name, err)
		}
		facts.Properties[name] = fmt.Sprint(value)
	}
	schema, err := readSchema(ctx, v)
	if err != nil {
		return source.Facts{}, fmt.Errorf("read the schema: %w", err)
	}
	facts.Facts = schema
	tables, err := listTables(ctx, v)
	if err != nil {
		return source.Facts{}, fmt.Errorf("list the tables: %w", err)
	}
	for _, table := range tables {
		fact, err := readTable(ctx, v, table)
		switch {
		case lacksExtension(err):
			fact = source.Fact{Class: "table", Name: printable(table.name), Rule: source.Listed}
			facts.Notes = append(facts.Notes, fmt.Sprintf(
				"table %s is compared as part of the image only: %v", printable(table.name), err))
		case err != nil:
			return source.Facts{}, fmt.Errorf("read table %s: %w", printable(table.name), err)
		}
		facts.Facts = append(facts.Facts, fact)
	}
	return facts, nil
}

// readSchema makes a fact of every table, view, index and trigger, as it was written.
func readSchema(ctx context.Context, v *view) ([]source.Fact, error) {
	var facts []source.Fact
	err := v.each(ctx, "SELECT type, name, sql FROM sqlite_schema", func(row []driver.Value) error {
		fact := source.Fact{Class: "schema", Name: printable(text(row[0]) + " " + text(row[1])), Rule: source.Exact}
		if row[2] != nil { // an index that a constraint implies has no text
			fact.Text = printable(text(row[2]))
		}
		facts = append(facts, fact)
		return nil
	})
	return facts, err
}

// table is one table that has rows of its own.
type table struct {
	name    string
	columns []string // those stored in the row
	plain   bool     // an ordinary rowid table, not WITHOUT ROWID
	rowid   string   // a name by which the row's number can be read; "" when there is none
}

// listTables lists the ordinary tables. Virtual tables have no root page: what they hold is in the ordinary tables
// that shadow them, or is not in this file.
func listTables(ctx context.Context, v *view) ([]table, error) {
	withoutRowid := map[string]bool{}
	err := v.each(ctx, "SELECT name FROM pragma_table_list WHERE schema='main' AND wr", func(row []driver.Value) error {
		withoutRowid[text(row[0])] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	var tables []table
	err = v.each(ctx, "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0 ORDER BY name",
		func(row []driver.Value) error {
			tables = append(tables, table{name: text(row[0])})
			return nil
		})
	if err != nil {
		return nil, err
	}
	for i := range tables {
		taken := map[string]bool{}
		err := v.each(ctx, "SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')", func(row []driver.Value) error {
			name := text(row[0])
			taken[strings.ToLower(name)] = true
			// A virtual generated column follows from the others, and may need a function that only the
			// application has.
			if hidden := row[1]; hidden == int64(0) || hidden == int64(3) {
				tables[i].columns = append(tables[i].columns, name)
			}
			return nil
		}, tables[i].name)
		if err != nil {
			return nil, err
		}
		tables[i].plain = !withoutRowid[tables[i].name]
		if !tables[i].plain || len(tables[i].columns) == mostColumns {
			continue
		}
		// A column may take these names away. When it took all three, the number cannot be read.
		for _, alias := range []string{"rowid", "_rowid_", "oid"} {
			if !taken[alias] {
				tables[i].rowid = alias
				break
			}
		}
	}
	return tables, nil
}

// statement selects what is digested of a table.
func (t table) statement() string {
	var list []string
	if t.rowid != "" {
		list = append(list, t.rowid)
	}
	for _, column := range t.columns {
		// The plus does nothing to the value, but takes the declared type away, by which the driver would turn
		// texts into times.
		list = append(list, "+"+quote(column))
	}
	if len(list) == 0 {
		list = append(list, "NULL") // the rows can be counted, and hold nothing
	}
	statement := "SELECT " + strings.Join(list, ", ") + " FROM main." + quote(t.name)
	if t.plain {
		// A covering index may need a collation that only the application has.
		statement += " NOT INDEXED"
	}
	return statement
}

// readTable digests the rows of one table.
func readTable(ctx context.Context, v *view, t table) (source.Fact, error) {
	var set source.RowSet
	var encoded []byte
	err := v.each(ctx, t.statement(), func(row []driver.Value) error {
		var err error
		if encoded, err = encodeRow(encoded[:0], row); err != nil {
			return err
		}
		set.Add(encoded)
		if cap(encoded) > keepRow {
			encoded = nil
		}
		clear(row)
		return nil
	})
	return source.Fact{
		Class: "table", Name: printable(t.name), Rule: source.Exact,
		Rows: set.Rows, Bytes: set.Bytes, Digest: set.Digest(),
	}, err
}

// encodeRow appends the encoding of a row, of which digests are recorded, so that it must never change. A row is its
// number (rowid), if the table has one that can be read, and then its stored columns in the order of their
// declaration. A value is one byte for its storage class and then
//
//	0 NULL     nothing
//	1 INTEGER  8 bytes, two's complement, big-endian
//	2 REAL     8 bytes, IEEE 754, big-endian
//	3 TEXT     its length as an unsigned varint, and its bytes (UTF-8, as SQLite gives them)
//	4 BLOB     its length as an unsigned varint, and its bytes
func encodeRow(dst []byte, row []driver.Value) ([]byte, error) {
	for _, value := range row {
		switch value := value.(type) {
		case nil:
			dst = append(dst, 0)
		case int64:
			dst = binary.BigEndian.AppendUint64(append(dst, 1), uint64(value))
		case float64:
			dst = binary.BigEndian.AppendUint64(append(dst, 2), math.Float64bits(value))
		case string:
			dst = append(binary.AppendUvarint(append(dst, 3), uint64(len(value))), value...)
		case []byte:
			dst = append(binary.AppendUvarint(append(dst, 4), uint64(len(value))), value...)
		default:
			return nil, fmt.Errorf("a value of the unexpected type %T", value)
		}
	}
	return dst, nil
}

// text returns a name or a statement, which a damaged schema may hold as something else.
func text(value driver.Value) string {
	switch value := value.(type) {
	case string:
		return value
	case []byte:
		return string(value)
	}
	return fmt.Sprint(value)
}

// quote makes an identifier of a name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// printable makes a text survive JSON, which has no room for bytes that are not UTF-8.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strconv.Quote(s)
}
