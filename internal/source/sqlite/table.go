package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// Tables brings single tables of a backup back into a database of their own, a new file: the file of an application is not
// written by anybody else. Each comes with its rows, their numbers, its constraints and indexes, under the names they had;
// triggers and views are left out, and told.
type Tables struct {
	*Place
	asked   []string
	names   []string // as the database has them
	indexes []string // of the tables, in the backup
	whole   *Place   // the image, in staging
}

var _ source.Place = (*Tables)(nil)

// OpenTables prepares a restore of the tables to target, where nothing may be. Names are compared as SQLite does: without
// regard to the case of ASCII letters.
func OpenTables(ctx context.Context, target Target, tables []string) (*Tables, error) {
	if target.Overwrite {
		return nil, holdfast.WithHint(fmt.Errorf("%w: single tables come into a new file, and replace none", holdfast.ErrUsage), "choose a new file with --to")
	}
	p, err := Open(ctx, target)
	if err != nil {
		return nil, err
	}
	return &Tables{Place: p, asked: slices.Clone(tables)}, nil
}

// Restore implements source.Place.
func (t *Tables) Restore(ctx context.Context, stored source.Stored) error {
	t.whole = &Place{target: t.target, staged: t.target.Path + stagingMark + rand.Text()}
	if err := t.whole.Restore(ctx, stored); err != nil {
		return err
	}
	t.stored = stored
	if err := t.build(ctx); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			err = holdfast.WithHint(err, "make room: for a moment all of the database and the tables lie there")
		}
		return fmt.Errorf("take tables out of %s: %w", stored.Source, err)
	}
	return nil
}

// build makes the new database.
func (t *Tables) build(ctx context.Context) (err error) {
	old, err := openStaged(ctx, t.whole.staged)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()
	tables, err := t.find(ctx, old)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(t.staged, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.created, t.lock = true, file
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", t.staged, err)
	}
	conn, err := dial(ctx, t.staged, "mode=rw")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	b := &builder{ctx: ctx, old: old, conn: conn, tell: t.target.Warn}
	if err := b.begin(t.whole.staged); err != nil {
		return err
	}
	for _, table := range tables {
		err := b.add(table)
		if lacksExtension(err) {
			err = holdfast.WithHint(err, "it needs what only the application adds to SQLite: restore the whole database to a new file")
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", printable(table.name), err)
		}
	}
	t.indexes = b.indexes
	if err := exec(conn, "COMMIT"); err != nil {
		return err
	}
	return file.Sync()
}

// find looks the tables up.
func (t *Tables) find(ctx context.Context, old *view) ([]table, error) {
	all, err := listTables(ctx, old)
	if err != nil {
		return nil, err
	}
	var chosen []table
	for _, name := range t.asked {
		at := slices.IndexFunc(all, func(one table) bool { return alike(one.name, name) })
		if at < 0 || strings.HasPrefix(strings.ToLower(all[at].name), "sqlite_") {
			kind, err := kindOf(ctx, old, name)
			if err != nil {
				return nil, err
			}
			if kind != "" {
				return nil, holdfast.WithHint(fmt.Errorf("%w: %s is a %s, which cannot be taken out alone", holdfast.ErrUsage, name, kind), "restore the whole database to a new file")
			}
			var known []string
			for _, one := range all {
				if !strings.HasPrefix(one.name, "sqlite_") {
					known = append(known, printable(one.name))
				}
			}
			return nil, holdfast.WithHint(fmt.Errorf("%w: the backup has no table %q", holdfast.ErrUsage, name), "it has: "+strings.Join(known, ", "))
		}
		if !slices.Contains(t.names, all[at].name) {
			t.names = append(t.names, all[at].name)
			chosen = append(chosen, all[at])
		}
	}
	return chosen, nil
}

// alike compares names as SQLite does.
func alike(a, b string) bool {
	lower := func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}
	return strings.Map(lower, a) == strings.Map(lower, b)
}

// kindOf tells what other than an ordinary table is called name, "" for nothing.
func kindOf(ctx context.Context, old *view, name string) (kind string, err error) {
	err = old.each(ctx, "SELECT type, name, rootpage FROM sqlite_schema WHERE type IN ('table', 'view')", func(row []driver.Value) error {
		if !alike(text(row[1]), name) {
			return nil
		}
		kind = text(row[0])
		if kind == "table" {
			kind = "virtual table"
			if row[2] != int64(0) && row[2] != nil {
				kind = "table of SQLite's own"
			}
		}
		return nil
	})
	return kind, err
}

// builder fills the new database.
type builder struct {
	ctx  context.Context // of the one build
	old  *view
	conn driver.Conn
	tell func(string)
	// indexes are the names of all indexes that the tables have.
	indexes []string
}

// run runs a statement that may take long.
func (b *builder) run(statement string) error {
	rows, err := b.conn.(driver.QueryerContext).QueryContext(b.ctx, statement, nil)
	if err != nil {
		return err
	}
	return rows.Close()
}

// begin attaches the image, as one that nobody changes, and adopts what cannot be changed later.
func (b *builder) begin(image string) error {
	encoding, err := b.old.one("PRAGMA encoding")
	if err != nil {
		return err
	}
	pageSize, _, err := b.old.size()
	if err != nil {
		return err
	}
	uri, err := imageURI(image)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"PRAGMA encoding=" + quoteText(text(encoding)),
		fmt.Sprintf("PRAGMA page_size=%d", pageSize),
		"PRAGMA trusted_schema=0", "PRAGMA temp_store=MEMORY", "PRAGMA foreign_keys=0",
		"PRAGMA ignore_check_constraints=1", // rows were accepted once, perhaps by an older rule
		"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF",
		"ATTACH " + quoteText(uri) + " AS old",
		"BEGIN",
	} {
		if err := exec(b.conn, statement); err != nil {
			return err
		}
	}
	return nil
}

// add makes one table, fills it, and gives it its indexes.
func (b *builder) add(t table) error {
	var create string
	var indexes, left []string
	err := b.old.each(b.ctx, "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name=?1 COLLATE NOCASE ORDER BY rowid", func(row []driver.Value) error {
		switch kind := text(row[0]); {
		case kind == "table" && text(row[1]) == t.name:
			create = text(row[2])
		case kind == "index":
			b.indexes = append(b.indexes, text(row[1]))
			if row[2] != nil { // else a constraint of the table makes it
				indexes = append(indexes, text(row[2]))
			}
		case kind == "trigger":
			left = append(left, fmt.Sprintf("left out: trigger %s of table %s", printable(text(row[1])), printable(t.name)))
		}
		return nil
	}, t.name)
	if err != nil {
		return err
	}
	if err := exec(b.conn, create); err != nil {
		return err
	}
	columns, err := b.columns(t)
	if err != nil {
		return err
	}
	list := strings.Join(columns, ", ")
	if list == "" {
		return errors.New("it has no column that could be filled")
	}
	from := "old." + quote(t.name)
	if t.plain {
		from += " NOT INDEXED" // a covering index may need a collation that only the application has
	}
	if err := b.run(fmt.Sprintf("INSERT INTO main.%s (%s) SELECT %s FROM %s", quote(t.name), list, list, from)); err != nil {
		return err
	}
	if err := b.counter(t); err != nil {
		return err
	}
	for _, index := range indexes {
		if err := b.run(index); err != nil {
			return err
		}
	}
	if b.tell != nil {
		for _, line := range left {
			b.tell(line)
		}
	}
	return nil
}

// columns are those that take a value: not the generated ones, and the row's number where it has one of its own.
func (b *builder) columns(t table) ([]string, error) {
	var columns []string
	if t.rowid != "" {
		columns = append(columns, t.rowid)
	}
	err := b.old.each(b.ctx, "SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')", func(row []driver.Value) error {
		if row[1] == int64(0) {
			columns = append(columns, quote(text(row[0])))
		}
		return nil
	}, t.name)
	return columns, err
}

// counter keeps AUTOINCREMENT from giving numbers again that were given once.
func (b *builder) counter(t table) error {
	has, err := b.old.one("SELECT count(*) FROM sqlite_schema WHERE name='sqlite_sequence'")
	if err != nil || has != int64(1) {
		return err
	}
	name := quoteText(t.name)
	given, err := b.old.one("SELECT seq FROM sqlite_sequence WHERE name=" + name)
	if err != nil || given == nil {
		return err
	}
	for _, statement := range []string{
		"DELETE FROM main.sqlite_sequence WHERE name=" + name,
		fmt.Sprintf("INSERT INTO main.sqlite_sequence (name, seq) VALUES (%s, %d)", name, given),
	} {
		if err := exec(b.conn, statement); err != nil {
			return err
		}
	}
	return nil
}

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Check implements source.Place.
func (t *Tables) Check(ctx context.Context) (source.Facts, error) {
	facts, err := t.readDatabase(ctx)
	if err != nil {
		return source.Facts{}, fmt.Errorf("check the restored tables: %w", err)
	}
	facts.Facts = slices.DeleteFunc(facts.Facts, func(fact source.Fact) bool { return strings.HasSuffix(fact.Name, "sqlite_sequence") })
	return facts, nil
}

// Selected returns those of the stored facts that the tables bring back: their rows, and what the schema has of them.
func (t *Tables) Selected(facts []source.Fact) []source.Fact {
	names := map[string]bool{}
	for _, name := range t.names {
		names["table "+printable(name)] = true
	}
	for _, name := range t.indexes {
		names["index "+printable(name)] = true
	}
	var list []source.Fact
	for _, fact := range facts {
		if fact.Class == "table" && names["table "+fact.Name] || fact.Class == "schema" && names[fact.Name] {
			list = append(list, fact)
		}
	}
	return list
}

// Commit implements source.Place.
func (t *Tables) Commit(ctx context.Context) (string, error) {
	where, err := t.Place.Commit(ctx)
	if err != nil {
		return "", err
	}
	var shown []string
	for _, name := range t.names {
		shown = append(shown, printable(name))
	}
	return fmt.Sprintf("%s: %s", strings.Join(shown, ", "), where), nil
}

// Close implements source.Place.
func (t *Tables) Close() error {
	err := t.Place.Close()
	if t.whole != nil {
		err = errors.Join(err, t.whole.Close())
	}
	return err
}
