package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// gather moves, in the staging database, the tables and all that they stand on into one schema. What an extension brings
// stays where it is: the live database has to have that extension.
func (t *Tables) gather(ctx context.Context) error {
	g := &gathering{Tables: t, ctx: ctx}
	return t.within(ctx, t.s.staging, func(conn pgclient.Session) error {
		g.conn = conn
		for _, step := range []func() error{g.identify, g.setFree, g.makeSchema, g.remember, g.move, g.trace} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// gathering is one gather under way.
type gathering struct {
	*Tables
	ctx    context.Context // of the one gather
	conn   pgclient.Session
	oids   []string          // of the tables
	before map[string]string // the schema of each relation, by its number
}

func (g *gathering) exec(doing, sql string) error {
	if err := pgclient.Exec(g.ctx, g.conn, sql); err != nil {
		return pgclient.ExplainQuery(doing, err)
	}
	return nil
}

// identify finds the numbers of the tables. One whose rows the backup does not hold is refused: it would come back empty.
func (g *gathering) identify() error {
	stored := g.storedNames()
	for _, table := range g.tables {
		var oid string
		var rows bool
		err := pgclient.Row(g.ctx, g.conn, "SELECT c.oid::text, c.relkind = 'r' FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass("+pgclient.QuoteLiteral(table.Quoted())+")", &oid, &rows)
		if err != nil {
			return pgclient.ExplainQuery("look for table "+table.String(), err)
		}
		if _, known := stored[table]; rows && !known {
			return holdfast.WithHint(fmt.Errorf("%w: the backup holds the definition of table %s and not its rows, which were excluded", holdfast.ErrUsage, table), "an older backup may hold them; change exclude_table_data for the next one")
		}
		g.oids = append(g.oids, oid)
	}
	return nil
}

// list is the numbers of the tables as SQL has them.
func (g *gathering) list() string {
	return "ARRAY[" + strings.Join(g.oids, ", ") + "]::pg_catalog.oid[]"
}

// setFree takes the tables out of what does not come with them: parents they inherit from, and tables that own sequences they
// draw numbers from.
func (g *gathering) setFree() error {
	var child, parent string
	var partitioned bool
	var statements, said []string
	err := pgclient.Each(g.ctx, g.conn, `SELECT i.inhrelid::pg_catalog.regclass::text, i.inhparent::pg_catalog.regclass::text, p.relkind = 'p'
		FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
		WHERE i.inhrelid = ANY (`+g.list()+`) AND i.inhparent <> ALL (`+g.list()+`) AND c.relkind IN ('r', 'p', 'f')`, func() {
		if partitioned {
			statements = append(statements, "ALTER TABLE "+parent+" DETACH PARTITION "+child)
			said = append(said, child+" comes back as a table of its own, and was a partition of "+parent)
			return
		}
		statements = append(statements, "ALTER TABLE "+child+" NO INHERIT "+parent)
		said = append(said, child+" comes back as a table of its own, and inherited from "+parent)
	}, &child, &parent, &partitioned)
	if err != nil {
		return pgclient.ExplainQuery("look for the parents of the tables", err)
	}
	var sequence string
	err = pgclient.Each(g.ctx, g.conn, `SELECT d.objid::pg_catalog.regclass::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
		WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
		AND s.relkind = 'S' AND d.deptype = 'a' AND d.refobjid <> ALL (`+g.list()+`)
		AND EXISTS (SELECT FROM pg_catalog.pg_depend u JOIN pg_catalog.pg_attrdef a ON u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND u.objid = a.oid
			WHERE u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND u.refobjid = s.oid AND a.adrelid = ANY (`+g.list()+`))`, func() {
		statements = append(statements, "ALTER SEQUENCE "+sequence+" OWNED BY NONE")
	}, &sequence)
	if err != nil {
		return pgclient.ExplainQuery("look for the sequences of the tables", err)
	}
	for _, statement := range statements {
		if err := g.exec("set the tables free", statement); err != nil {
			return err
		}
	}
	for _, line := range said {
		g.warn("%s", line)
	}
	return nil
}

func (g *gathering) makeSchema() error {
	if err := g.exec("make schema "+g.loading, "CREATE SCHEMA "+pgclient.QuoteIdent(g.loading)); err != nil {
		return err
	}
	return g.exec("mark schema "+g.loading, "COMMENT ON SCHEMA "+pgclient.QuoteIdent(g.loading)+" IS "+pgclient.QuoteLiteral(loadingComment))
}

// remember keeps where every table and sequence was.
func (g *gathering) remember() error {
	g.before = map[string]string{}
	var oid, schema string
	err := pgclient.Each(g.ctx, g.conn, `SELECT c.oid::text, n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'S')`, func() { g.before[oid] = schema }, &oid, &schema)
	if err != nil {
		return pgclient.ExplainQuery("list the tables and sequences", err)
	}
	return nil
}

// needed finds what the tables stand on. From each object it goes to what that depends on, and to its parts: defaults,
// constraints, indexes, statistics, types of rows. It stops at what belongs to an extension or to the server itself.
const needed = `
WITH RECURSIVE need(classid, objid) AS (
	SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, t FROM pg_catalog.unnest(%s) t
	UNION
	SELECT step.classid, step.objid FROM need n CROSS JOIN LATERAL (
		SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_catalog.pg_depend d
			WHERE d.classid = n.classid AND d.objid = n.objid AND d.deptype <> 'e'
		UNION ALL
		SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
			WHERE d.refclassid = n.classid AND d.refobjid = n.objid AND d.deptype IN ('a', 'i', 'P', 'S')
			AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass,
				'pg_catalog.pg_constraint'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
				'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)) step
	WHERE n.classid NOT IN ('pg_catalog.pg_namespace'::pg_catalog.regclass, 'pg_catalog.pg_extension'::pg_catalog.regclass,
			'pg_catalog.pg_language'::pg_catalog.regclass, 'pg_catalog.pg_am'::pg_catalog.regclass)
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = n.classid AND e.objid = n.objid AND e.deptype = 'e'))
`

// movable selects of what is needed all that is moved by itself: rows and arrays go with their table or type, indexes and
// owned sequences with their table.
const movable = `
SELECT i.type, i.identity, coalesce(i.schema, ''), n.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND n.objid = ANY (%s) AS asked
FROM need n CROSS JOIN LATERAL pg_catalog.pg_identify_object(n.classid, n.objid, 0) i
LEFT JOIN pg_catalog.pg_class c ON n.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = n.objid
LEFT JOIN pg_catalog.pg_type y ON n.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND y.oid = n.objid
WHERE i.schema IS NOT NULL AND i.schema NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
	AND n.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass,
		'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_opclass'::pg_catalog.regclass, 'pg_catalog.pg_opfamily'::pg_catalog.regclass,
		'pg_catalog.pg_collation'::pg_catalog.regclass, 'pg_catalog.pg_ts_config'::pg_catalog.regclass, 'pg_catalog.pg_ts_dict'::pg_catalog.regclass,
		'pg_catalog.pg_ts_parser'::pg_catalog.regclass, 'pg_catalog.pg_ts_template'::pg_catalog.regclass, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = n.classid AND e.objid = n.objid AND e.deptype = 'e')
	AND (c.oid IS NULL OR c.relkind IN ('r', 'p', 'v', 'm', 'f') OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o
		WHERE o.classid = n.classid AND o.objid = n.objid AND o.refclassid = n.classid AND o.deptype IN ('a', 'i')))
	AND (y.oid IS NULL OR y.typtype IN ('b', 'd', 'e', 'r', 'm', 'c') AND y.typcategory <> 'A'
		AND (y.typrelid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = y.typrelid AND r.relkind = 'c')))
ORDER BY asked DESC, 1, 2`

// move moves all of it.
func (g *gathering) move() error {
	if err := g.lackingExtensions(); err != nil {
		return err
	}
	var kind, identity, schema string
	var asked bool
	var statements, along []string
	err := pgclient.Each(g.ctx, g.conn, fmt.Sprintf(needed+movable, g.list(), g.list()), func() {
		word := strings.TrimSuffix(strings.ToUpper(kind), " OBJECT") // of statistics
		statements = append(statements, fmt.Sprintf("ALTER %s %s SET SCHEMA %s", word, identity, pgclient.QuoteIdent(g.loading)))
		if !asked {
			along = append(along, kind+" "+identity)
			if kind == "table" {
				g.warn("table %s goes along without its rows: the type of its rows is needed", identity)
			}
		}
	}, &kind, &identity, &schema, &asked)
	if err != nil {
		return pgclient.ExplainQuery("find what the tables stand on", err)
	}
	for _, statement := range statements {
		err := pgclient.Exec(g.ctx, g.conn, statement)
		var refused *pgclient.Error
		if errors.As(err, &refused) && (refused.Code == "42P07" || refused.Code == "42710" || refused.Code == "42723") {
			return holdfast.WithHint(fmt.Errorf("two of the same name come from different schemas: %w", pgclient.ExplainQuery("gather what the tables stand on", err)), "restore one table at a time")
		}
		if err != nil {
			return pgclient.ExplainQuery("gather what the tables stand on", err)
		}
	}
	if len(along) > 0 {
		g.observe(holdfast.Event{Kind: holdfast.EventPhase, Source: g.stored.Source, Message: "with what they stand on: " + strings.Join(along, ", ")})
	}
	return nil
}

// lackingExtensions refuses a live database that lacks an extension which the tables stand on.
func (g *gathering) lackingExtensions() error {
	names, err := pgclient.Strings(g.ctx, g.conn, fmt.Sprintf(needed, g.list())+`
		SELECT DISTINCT x.extname::text FROM need n JOIN pg_catalog.pg_depend e ON e.classid = n.classid AND e.objid = n.objid AND e.deptype = 'e'
		JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid ORDER BY 1`)
	if err != nil {
		return pgclient.ExplainQuery("find what the tables stand on", err)
	}
	if len(names) == 0 {
		return nil
	}
	var have []string
	err = g.inLive(g.ctx, func(conn pgclient.Session) error {
		have, err = pgclient.Strings(g.ctx, conn, `SELECT extname::text FROM pg_catalog.pg_extension`)
		return err
	})
	if err != nil {
		return pgclient.ExplainQuery("list the extensions of the live database", err)
	}
	var lacking []string
	for _, name := range names {
		if !slices.Contains(have, name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	var create []string
	for _, name := range lacking {
		for _, e := range g.s.Extensions {
			if e.Name == name {
				create = append(create, fmt.Sprintf("CREATE EXTENSION %s SCHEMA %s;", pgclient.QuoteIdent(e.Name), pgclient.QuoteIdent(e.Schema)))
			}
		}
	}
	return holdfast.WithHint(fmt.Errorf("%w: the tables stand on extension %s, which database %q has not", holdfast.ErrUsage, strings.Join(lacking, ", "), g.s.final),
		"in that database: "+strings.Join(create, " "))
}

// trace finds where the tables and sequences of the schema came from.
func (g *gathering) trace() error {
	g.origin = map[string]string{}
	var oid, name string
	err := pgclient.Each(g.ctx, g.conn, `SELECT c.oid::text, c.relname::text FROM pg_catalog.pg_class c
		WHERE c.relkind IN ('r', 'p', 'S') AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = `+pgclient.QuoteLiteral(g.loading)+`)`,
		func() { g.origin[name] = g.before[oid] }, &oid, &name)
	if err != nil {
		return pgclient.ExplainQuery("list what was gathered", err)
	}
	for _, table := range g.tables {
		if g.origin[table.Name] != table.Schema {
			return fmt.Errorf("table %s was not gathered", table)
		}
	}
	return nil
}
