package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// TableTarget says where single tables land.
type TableTarget struct {
	// Target leads to the live database, which must exist. Overwrite and WithRoles play no part: nothing is replaced.
	Target
	// Tables are names as in SQL: TABLE or SCHEMA.TABLE, in double quotes where SQL needs them; at least one. They are taken
	// from the only database of the backup, else from the one that is called like the target.
	Tables []string
}

// Tables brings single tables of a backup back, with what they stand on, into a schema of their own in a live database.
//
// All definitions of the backup, and of the rows those of the tables, are restored into a staging database. There the tables,
// and the types, functions, sequences and so on that they stand on, are moved into one schema: the server itself knows what
// belongs together and how it is called elsewhere. That schema is dumped into the live database in one transaction, read back,
// and renamed when its rows were compared with the facts. adr/0018 tells why.
type Tables struct {
	*Place
	target TableTarget
	s      *staged
	asked  []pgdump.Table
	tables []pgdump.Table // with their partitions
	// titles are the entries of the schema that belong to the tables; plain marks those whose definition names no owner.
	titles []string
	plain  map[string]bool

	loading   string            // the schema in the live database until Commit
	origin    map[string]string // by the name of a relation in that schema: the schema it was in
	entries   []source.Fact     // what staging has of titles
	loaded    bool              // the live database has the schema
	committed bool
}

var _ source.Place = (*Tables)(nil)

// OpenTables connects to the server of a restore. Nothing is made there yet.
func OpenTables(ctx context.Context, t TableTarget, observe holdfast.Observer) (*Tables, error) {
	p, err := Open(ctx, t.Target, observe)
	if err != nil {
		return nil, err
	}
	p.partial = true
	return &Tables{Place: p, target: t, loading: "restoring_" + p.target.ID}, nil
}

// Restore brings the tables into the schema that stands in for the final one.
func (t *Tables) Restore(ctx context.Context, stored source.Stored) error {
	return because(ctx, "restore", t.restore(ctx, stored))
}

func (t *Tables) restore(ctx context.Context, stored source.Stored) error {
	if t.stored.Source != "" {
		return errors.New("a place takes one restore")
	}
	t.stored = stored
	var err error
	if t.record, err = readRecord(stored); err != nil {
		return err
	}
	if err := t.choose(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{t.checkExtensions, t.adoptMonetary, t.stage, t.clearLoading, t.gather, t.load} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	t.restored = true
	return nil
}

// choose finds the database and the tables in the backup, and the database they go to.
func (t *Tables) choose(ctx context.Context) error {
	live := t.Place.target.Database
	exists, err := t.exists(ctx, live)
	if err != nil {
		return err
	}
	if !exists {
		return holdfast.WithHint(fmt.Errorf("%w: database %q is not on %s, and tables go into one that exists", holdfast.ErrUsage, live, t.server.Where()),
			"create it first: CREATE DATABASE "+pgclient.QuoteIdent(live))
	}
	var names []string
	var from *database
	for i := range t.record.Databases {
		d := &t.record.Databases[i]
		names = append(names, d.Name)
		if len(t.record.Databases) == 1 || d.Name == live {
			from = d
		}
	}
	if from == nil {
		return holdfast.WithHint(fmt.Errorf("%w: which of the %d databases of the backup the tables are taken from is not clear", holdfast.ErrUsage, len(names)),
			"restore into the database of that name; the backup holds: "+strings.Join(names, ", "))
	}
	staging := withSuffix(live, restoringMark+t.Place.target.ID)
	t.s = &staged{database: *from, staging: staging, final: live}
	t.staged = []*staged{t.s}
	for _, text := range t.target.Tables {
		table, err := t.find(text)
		if err != nil {
			return err
		}
		if !slices.Contains(t.asked, table) {
			t.asked = append(t.asked, table)
		}
	}
	if len(t.asked) == 0 {
		return fmt.Errorf("%w: no table is named", holdfast.ErrUsage)
	}
	return t.nameLeftovers(ctx, staging)
}

// find looks a table up by what a person wrote.
func (t *Tables) find(text string) (pgdump.Table, error) {
	parts, ok := pgdump.SplitName(text)
	if !ok || len(parts) > 2 {
		return pgdump.Table{}, holdfast.WithHint(fmt.Errorf("%w: %q is no name of a table", holdfast.ErrUsage, text), `write TABLE or SCHEMA.TABLE, in double quotes where SQL needs them: 'public."Odd name"'`)
	}
	name := parts[len(parts)-1]
	var found []pgdump.Table
	other := "" // kind of relation
	add := func(table pgdump.Table) {
		if table.Name == name && (len(parts) == 1 || table.Schema == parts[0]) && !slices.Contains(found, table) {
			found = append(found, table)
		}
	}
	for _, fact := range t.stored.Facts.Facts {
		title, ours := strings.CutPrefix(fact.Name, t.s.Prefix)
		if !ours {
			continue
		}
		if fact.Class == "table" {
			if of, ok := pgdump.SplitName(title); ok && len(of) == 2 {
				add(pgdump.Table{Schema: of[0], Name: of[1]})
			}
		}
		if fact.Class != "schema" {
			continue
		}
		for _, schema := range t.s.Schemas {
			table := pgdump.Table{Schema: schema, Name: name}
			if kind, whole := strings.CutSuffix(title, " "+table.String()); whole && kind == "TABLE" {
				add(table) // a partitioned one has no rows of its own
			} else if whole && (kind == "VIEW" || kind == "MATERIALIZED VIEW" || kind == "FOREIGN TABLE") && (len(parts) == 1 || schema == parts[0]) {
				other = strings.ToLower(kind)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return pgdump.Table{}, holdfast.WithHint(fmt.Errorf("%w: the backup has a table %q in %d schemas", holdfast.ErrUsage, text, len(found)), "write "+found[0].String()+" or "+found[1].String())
	}
	if other != "" {
		return pgdump.Table{}, holdfast.WithHint(fmt.Errorf("%w: %s is a %s, which has no rows of its own in the backup", holdfast.ErrUsage, text, other), "restore the tables it is made of")
	}
	return pgdump.Table{}, holdfast.WithHint(fmt.Errorf("%w: the backup of database %q has no table %s", holdfast.ErrUsage, t.s.Name, text), "`holdfast show ID --identity FILE` lists them; names are in the case that they have")
}

// stage restores into the staging database what the tables need.
func (t *Tables) stage(ctx context.Context) error {
	t.observe(holdfast.Event{Kind: holdfast.EventPhase, Source: t.stored.Source, Message: fmt.Sprintf("restore definitions and rows of %d tables into database %q", len(t.asked), t.s.staging)})
	if err := t.createDatabase(ctx, t.s); err != nil {
		return err
	}
	if err := t.prepare(ctx, t.s); err != nil {
		return err
	}
	feeder, err := t.newFeeder(ctx)
	if err != nil {
		return err
	}
	var extract *pgdump.Extract
	feeder.filter = func(r io.Reader, rules pgdump.Rules) *pgdump.Filter {
		extract = pgdump.NewExtract(r, t.asked)
		return pgdump.NewFilter(extract, rules)
	}
	if err := feeder.feed(ctx, t.s); err != nil {
		return err
	}
	t.tables = extract.Tables()
	t.titles, t.plain = extract.Titles()
	for _, table := range t.asked {
		if !extract.Has(table) {
			return fmt.Errorf("%w: table %s is in the facts of the backup and not in its dump", holdfast.ErrDifference, table)
		}
	}
	for _, line := range extract.Left() {
		t.warn("left out: %s", line)
	}
	return t.readEntries(ctx)
}

// readEntries reads back what staging has of the tables' columns, indexes, constraints and so on.
func (t *Tables) readEntries(ctx context.Context) error {
	client, err := t.checker(ctx)
	if err != nil {
		return err
	}
	facts, err := t.dumpFacts(ctx, client, t.s.staging, append([]string{"--schema-only"}, t.record.filtersOf(t.s.database)...)...)
	if err != nil {
		return err
	}
	t.entries = t.selectEntries(facts, "")
	return nil
}

// dumpFacts dumps a database through the reader of facts.
func (t *Tables) dumpFacts(ctx context.Context, client pgclient.Program, database string, args ...string) ([]source.Fact, error) {
	conn, server, err := t.site.Dial(ctx, t.server.On(database))
	if err != nil {
		return nil, err
	}
	conn.Close() // it led to the server
	d, err := startDump(ctx, t.programs, client, append([]string{"--encoding=" + t.s.Encoding}, args...), server.With("bytea_output", "hex").With("quote_all_identifiers", "off"))
	if err != nil {
		return nil, err
	}
	d.name = database
	var list []source.Fact
	d.good = func(facts []source.Fact, _ []string) { list = facts }
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{d}, make([]byte, 256<<10))
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return list, err
}

// selectEntries takes from facts what is known of the tables' entries, without owners and privileges, which do not come back.
func (t *Tables) selectEntries(facts []source.Fact, prefix string) []source.Fact {
	var list []source.Fact
	for _, fact := range facts {
		title, ours := strings.CutPrefix(fact.Name, prefix)
		title, _, _ = strings.Cut(title, "#")
		if !ours || !slices.Contains(t.titles, title) {
			continue
		}
		switch {
		case fact.Class == "schema":
			_, columns, _ := strings.Cut(fact.Text, "; cols: ")
			columns, _, _ = strings.Cut(columns, "; GRANT ")
			fact.Text = columns
			list = append(list, fact)
		case fact.Class == "definition" && t.plain[title]:
			list = append(list, fact)
		}
	}
	return list
}

// clearLoading drops the schema that a killed restore of the same backup left in the live database. That none is at work is
// known by its staging database, which could be dropped. Those of other backups are named.
func (t *Tables) clearLoading(ctx context.Context) error {
	return t.inLive(ctx, func(conn pgclient.Session) error {
		names, err := pgclient.Strings(ctx, conn, `SELECT nspname::text FROM pg_catalog.pg_namespace
			WHERE nspname ~ '^restoring_[a-z0-9]{10}$' AND pg_catalog.obj_description(oid, 'pg_namespace') = `+pgclient.QuoteLiteral(loadingComment)+` ORDER BY 1`)
		if err != nil {
			return pgclient.ExplainQuery("look for leftovers of restores", err)
		}
		for _, name := range names {
			if name != t.loading {
				t.warn("schema %s in database %q was left by a restore that was killed: DROP SCHEMA %s CASCADE;", name, t.s.final, pgclient.QuoteIdent(name))
				continue
			}
			t.warn("schema %s in database %q was left by a restore that was killed: it is dropped", name, t.s.final)
			if err := pgclient.Exec(ctx, conn, "DROP SCHEMA "+pgclient.QuoteIdent(name)+" CASCADE"); err != nil {
				return pgclient.ExplainQuery("drop schema "+name, err)
			}
		}
		return nil
	})
}

// loadingComment marks a schema that is of our making and not finished.
const loadingComment = "holdfast restores into this schema"

func (t *Tables) inLive(ctx context.Context, do func(pgclient.Session) error) error {
	return t.within(ctx, t.s.final, do)
}

// within opens a session on a database for the time of a call.
func (t *Tables) within(ctx context.Context, database string, do func(pgclient.Session) error) error {
	conn, _, err := t.site.Dial(ctx, t.server.On(database))
	if err != nil {
		return err
	}
	err = do(conn)
	if closeErr := conn.Close(); err == nil {
		err = closeErr
	}
	return err
}

// load dumps the schema that gather made into the live database, in one transaction.
func (t *Tables) load(ctx context.Context) error {
	t.observe(holdfast.Event{Kind: holdfast.EventPhase, Source: t.stored.Source, Message: fmt.Sprintf("load into database %q", t.s.final)})
	client, err := pgclient.Fitting(ctx, t.programs, "pg_dump", t.major())
	if err != nil {
		return err
	}
	feeder, err := t.newFeeder(ctx)
	if err != nil {
		return err
	}
	d, err := startDump(ctx, t.programs, client, []string{"--schema=" + t.loading, "--encoding=" + t.s.Encoding,
		"--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions", "--no-security-labels"},
		t.server.On(t.s.staging).With("bytea_output", "hex").With("quote_all_identifiers", "off"))
	if err != nil {
		return err
	}
	d.name = t.s.staging
	// All or nothing: the script holds no large object, which would break the transaction.
	err = feeder.run(ctx, t.s, t.s.final, pgdump.NewFilter(d, feeder.rules), "--single-transaction")
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		hint := holdfast.Hint(err)
		if hint == "" || ctx.Err() == nil && strings.Contains(err.Error(), "does not exist") {
			hint = "the table stands on something that this database has not: create it there, or restore into another database"
		}
		return holdfast.WithHint(fmt.Errorf("load into database %q: %w", t.s.final, err), hint)
	}
	t.loaded = true
	return nil
}

// Check reads back the rows from the live database, and tells of the rest what staging had.
func (t *Tables) Check(ctx context.Context) (source.Facts, error) {
	facts, err := t.checkLoaded(ctx)
	return facts, because(ctx, "check", err)
}

func (t *Tables) checkLoaded(ctx context.Context) (source.Facts, error) {
	if !t.restored {
		return source.Facts{}, errors.New("nothing was restored that could be checked")
	}
	client, err := pgclient.Fitting(ctx, t.programs, "pg_dump", t.major())
	if err != nil {
		return source.Facts{}, err
	}
	list, err := t.dumpFacts(ctx, client, t.s.final, "--schema="+t.loading)
	if err != nil {
		return source.Facts{}, err
	}
	facts := source.Facts{Kind: holdfast.KindPostgres, Taken: time.Now().UTC(), Facts: slices.Clone(t.entries)}
	stored := t.storedNames()
	for _, fact := range list {
		if fact.Class != "table" && fact.Class != "sequence" {
			continue
		}
		if parts, ok := pgdump.SplitName(fact.Name); ok && len(parts) == 2 && parts[0] == t.loading && t.origin[parts[1]] != "" {
			if name, known := stored[pgdump.Table{Schema: t.origin[parts[1]], Name: parts[1]}]; known {
				fact.Name = name
			}
		}
		facts.Facts = append(facts.Facts, fact)
	}
	facts.Facts = prefixed(t.s.Prefix, facts.Facts)
	return facts, nil
}

// storedNames gives the names, as facts have them, of the tables and sequences of the backup.
func (t *Tables) storedNames() map[pgdump.Table]string {
	names := map[pgdump.Table]string{}
	for _, fact := range t.stored.Facts.Facts {
		name, ours := strings.CutPrefix(fact.Name, t.s.Prefix)
		if !ours || fact.Class != "table" && fact.Class != "sequence" {
			continue
		}
		if parts, ok := pgdump.SplitName(name); ok && len(parts) == 2 {
			names[pgdump.Table{Schema: parts[0], Name: parts[1]}] = name
		}
	}
	return names
}

// Selected returns those of the stored facts that single tables bring back: rows, sequences, and what belongs to the tables.
func (t *Tables) Selected(facts []source.Fact) []source.Fact {
	list := t.selectEntries(facts, t.s.Prefix)
	for _, fact := range facts {
		name, ours := strings.CutPrefix(fact.Name, t.s.Prefix)
		if !ours || fact.Class != "table" && fact.Class != "sequence" {
			continue
		}
		if parts, ok := pgdump.SplitName(name); ok && len(parts) == 2 && t.origin[parts[1]] == parts[0] {
			list = append(list, fact)
		}
	}
	return list
}

// Commit gives the schema its final name.
func (t *Tables) Commit(ctx context.Context) (string, error) {
	where, err := t.rename(ctx)
	return where, because(ctx, "commit", err)
}

func (t *Tables) rename(ctx context.Context) (string, error) {
	if !t.restored || t.committed {
		return "", errors.New("nothing stands ready to be committed")
	}
	now := t.Place.target.Now
	if now.IsZero() {
		now = time.Now()
	}
	final := ""
	err := t.inLive(ctx, func(conn pgclient.Session) error {
		names, err := pgclient.Strings(ctx, conn, `SELECT nspname::text FROM pg_catalog.pg_namespace`)
		if err != nil {
			return pgclient.ExplainQuery("list the schemas", err)
		}
		stem := "restored_" + now.UTC().Format("20060102t150405z")
		final = stem
		for n := 2; slices.Contains(names, final); n++ {
			final = fmt.Sprintf("%s_%d", stem, n)
		}
		comment := "tables restored by holdfast from a backup of " + t.stored.Facts.Taken.UTC().Format("2006-01-02 15:04:05 UTC")
		for _, statement := range []string{
			"COMMENT ON SCHEMA " + pgclient.QuoteIdent(t.loading) + " IS " + pgclient.QuoteLiteral(comment),
			"ALTER SCHEMA " + pgclient.QuoteIdent(t.loading) + " RENAME TO " + pgclient.QuoteIdent(final),
		} {
			if err := pgclient.Exec(ctx, conn, statement); err != nil {
				return pgclient.ExplainQuery("name the schema "+final, err)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	t.committed = true
	var names []string
	for _, table := range t.asked {
		names = append(names, table.String())
	}
	return fmt.Sprintf("%s in schema %s of database %q on %s", strings.Join(names, ", "), final, t.s.final, t.server.Where()), nil
}

// Close drops the staging database, and what was not committed.
func (t *Tables) Close() error {
	var err error
	if t.loaded && !t.committed {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		drop := "DROP SCHEMA IF EXISTS " + pgclient.QuoteIdent(t.loading) + " CASCADE"
		err = t.inLive(ctx, func(conn pgclient.Session) error { return pgclient.Exec(ctx, conn, drop) })
		if err != nil {
			err = holdfast.WithHint(fmt.Errorf("drop schema %s of database %q: %w", t.loading, t.s.final, err), "drop it by hand: "+drop+";")
		}
	}
	return errors.Join(err, t.Place.Close())
}
