package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// diagnosis collects findings.
type diagnosis struct {
	source   *Source
	site     pgclient.Site
	role     string
	filter   filter
	findings []source.Finding
}

func (d *diagnosis) add(severity source.Severity, fix, format string, args ...any) {
	d.findings = append(d.findings, source.Finding{Severity: severity, Message: fmt.Sprintf(format, args...), Fix: fix})
}

// Diagnose connects as a capture would, and lists everything that would stop it.
func (s *Source) Diagnose(ctx context.Context) ([]source.Finding, error) {
	findings, err := s.diagnose(ctx)
	return findings, because(ctx, "diagnose", err)
}

func (s *Source) diagnose(ctx context.Context) ([]source.Finding, error) {
	d := &diagnosis{source: s}
	var err error
	if d.filter, err = s.opt.filter(); err != nil {
		return nil, err
	}
	conn, server, err := d.dial(ctx)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, holdfast.ErrUsage) {
			return nil, err
		}
		d.add(source.Fails, holdfast.Hint(err), "%v", err)
		return d.findings, nil
	}
	defer conn.Close()
	if err := d.server(ctx, conn, server); err != nil {
		return nil, err
	}
	names := []string{server["dbname"]}
	if s.opt.AllDatabases {
		if names, err = databaseNames(ctx, conn); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := d.database(ctx, server.On(name), len(names) > 1); err != nil {
			return nil, err
		}
	}
	return d.findings, nil
}

func (d *diagnosis) dial(ctx context.Context) (pgclient.Session, pgclient.Params, error) {
	site, p, err := d.source.opt.location().Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	d.site, d.role = site, p["user"]
	return site.Dial(ctx, p)
}

// databaseNames lists what "all databases" means.
func databaseNames(ctx context.Context, conn pgclient.Session) ([]string, error) {
	names, err := pgclient.Strings(ctx, conn, `SELECT datname::text FROM pg_catalog.pg_database
		WHERE datallowconn AND NOT datistemplate ORDER BY datname`)
	if err != nil {
		return nil, pgclient.ExplainQuery("list the databases", err)
	}
	return names, nil
}

// server looks at what concerns the cluster as a whole.
func (d *diagnosis) server(ctx context.Context, conn pgclient.Session, server pgclient.Params) error {
	version, err := pgclient.ServerVersion(ctx, conn)
	if err != nil {
		return err
	}
	major := version / 10000
	if err := supported(major); err != nil {
		d.add(source.Fails, holdfast.Hint(err), "%v", err)
	} else {
		d.add(source.Fine, "", "PostgreSQL %s answers at %s", versionName(version), server.Where())
	}
	if err := pgclient.RefusePooler(ctx, d.site, conn, server); err != nil {
		if ctx.Err() != nil {
			return err
		}
		d.add(source.Fails, holdfast.Hint(err), "%v", err)
	}
	d.programs(ctx, major)
	var superuser, passwords, standby, feedback bool
	err = pgclient.Row(ctx, conn, `SELECT r.rolsuper, pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT'),
		pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('hot_standby_feedback')::boolean
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`, &superuser, &passwords, &standby, &feedback)
	if err != nil {
		return pgclient.ExplainQuery("look at the role", err)
	}
	switch {
	case d.source.opt.SkipGlobals:
		d.add(source.Warns, "leave the globals in", "roles and tablespaces are left out of the backup: a restore on a new server needs them")
	case !passwords:
		d.add(source.Warns, "GRANT SELECT ON pg_catalog.pg_authid TO "+pgclient.QuoteIdent(d.role)+"; or set the passwords again after a restore",
			"role %s may not read password hashes: the globals are backed up without them", pgclient.QuoteIdent(d.role))
	}
	if standby && !feedback {
		d.add(source.Warns, "set hot_standby_feedback = on, or a longer max_standby_streaming_delay",
			"the server is a standby: a long dump may be cancelled by changes on the primary")
	}
	if standby {
		d.add(source.Warns, "back up the primary if they matter", "the server is a standby: rows of unlogged tables are not there")
	}
	return nil
}

func (d *diagnosis) programs(ctx context.Context, major int) {
	if _, err := pgclient.Exactly(ctx, d.site, "initdb", major); err != nil {
		d.add(source.Warns, holdfast.Hint(err)+", or drill on another machine", "drills cannot run here: %v", err)
	}
	dump, err := pgclient.Fitting(ctx, d.site, "pg_dump", major)
	if err != nil {
		d.add(source.Fails, holdfast.Hint(err), "%v", err)
		return
	}
	if dump.Major != major {
		d.add(source.Warns, fmt.Sprintf("install postgresql-client-%d", major), "%s is newer than the server; restores on PostgreSQL %d leave out the settings it does not know", dump, major)
	} else {
		d.add(source.Fine, "", "%s fits the server", dump)
	}
	if !d.source.opt.SkipGlobals && !d.beside(ctx, dump, "pg_dumpall") {
		d.add(source.Fails, fmt.Sprintf("install postgresql-client-%d", dump.Major), "pg_dumpall is not beside %s", dump.Path)
	}
	psql, err := pgclient.Psql(ctx, d.site, major)
	switch {
	case err != nil:
		d.add(source.Warns, holdfast.Hint(err), "%v: restores and drills need it", err)
	case !psql.Restricts():
		d.add(source.Warns, "upgrade it to its newest minor version", `%s does not know \restrict, which newer dumps use and which keeps a forged dump from running commands`, psql)
	}
}

// beside reports whether another program of p's installation is there.
func (d *diagnosis) beside(ctx context.Context, p pgclient.Program, name string) bool {
	list, err := d.site.Find(ctx, name)
	return err == nil && slices.Contains(list, p.Beside(name))
}

// database looks for what the role cannot read in one database.
func (d *diagnosis) database(ctx context.Context, p pgclient.Params, several bool) error {
	conn, _, err := d.site.Dial(ctx, p)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		d.add(source.Fails, holdfast.Hint(err), "database %s: %v", pgclient.QuoteIdent(p["dbname"]), err)
		return nil
	}
	defer conn.Close()
	in := ""
	if several {
		in = " in database " + pgclient.QuoteIdent(p["dbname"])
	}
	before := len(d.findings)
	if err := d.schemas(ctx, conn, in); err != nil {
		return err
	}
	if err := d.relations(ctx, conn, in); err != nil {
		return err
	}
	if err := d.largeObjects(ctx, conn, in); err != nil {
		return err
	}
	if len(d.findings) == before {
		d.add(source.Fine, "", "role %s can read everything%s", pgclient.QuoteIdent(d.role), in)
	}
	return nil
}

func (d *diagnosis) schemas(ctx context.Context, conn pgclient.Session, in string) error {
	names, err := pgclient.Strings(ctx, conn, `SELECT DISTINCT n.nspname::text FROM pg_catalog.pg_namespace n
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'S', 'f')
		WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
		AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1`)
	if err != nil {
		return pgclient.ExplainQuery("look at the schemas", err)
	}
	for _, name := range names {
		if d.filter.schema(name) {
			d.add(source.Fails, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", pgclient.QuoteIdent(name), pgclient.QuoteIdent(d.role)),
				"role %s cannot use schema %s%s", pgclient.QuoteIdent(d.role), pgclient.QuoteIdent(name), in)
		}
	}
	return nil
}

// relation is a table or a sequence that a dump reads.
type relation struct {
	Schema, Name, Kind             string
	Denied, Hidden, Unlogged, Data bool
}

func (d *diagnosis) relations(ctx context.Context, conn pgclient.Session, in string) error {
	// What belongs to an extension is made by CREATE EXTENSION, the rows of its configuration tables apart.
	var list []relation
	var r relation
	err := pgclient.Each(ctx, conn, `
SELECT n.nspname::text, c.relname::text, CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE 'table' END,
	NOT (CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
		ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END),
	c.relkind <> 'S' AND pg_catalog.row_security_active(c.oid),
	c.relpersistence = 'u', c.relkind IN ('r', 'S')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid
		WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e'
		AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND NOT c.oid = ANY (coalesce(x.extconfig, '{}')))
ORDER BY 3 DESC, 1, 2`, func() { list = append(list, r) }, &r.Schema, &r.Name, &r.Kind, &r.Denied, &r.Hidden, &r.Unlogged, &r.Data)
	if err != nil {
		return pgclient.ExplainQuery("look at the tables", err)
	}
	role := pgclient.QuoteIdent(d.role)
	for _, r := range list {
		if !d.filter.table(r.Schema, r.Name) {
			continue
		}
		name := pgclient.QuoteIdent(r.Schema) + "." + pgclient.QuoteIdent(r.Name)
		if r.Denied {
			d.add(source.Fails, fmt.Sprintf("GRANT SELECT ON %s %s TO %s;", strings.ToUpper(r.Kind), name, role),
				"role %s cannot read %s %s%s", role, r.Kind, name, in)
		}
		if r.Hidden && r.Data && d.filter.data(r.Schema, r.Name) {
			d.add(source.Fails, fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", role),
				"row-level security hides rows of table %s from role %s%s", name, role, in)
		}
	}
	return nil
}

func (d *diagnosis) largeObjects(ctx context.Context, conn pgclient.Session, in string) error {
	if d.filter.partial() {
		return nil // such a dump has none
	}
	list, err := pgclient.Strings(ctx, conn, `SELECT l.oid::text FROM pg_catalog.pg_largeobject_metadata l
		WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
		AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
		AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) a WHERE a.privilege_type = 'SELECT'
			AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
		AND pg_catalog.current_setting('lo_compat_privileges') <> 'on' ORDER BY l.oid`)
	if err != nil {
		return pgclient.ExplainQuery("look at the large objects", err)
	}
	for _, oid := range list {
		d.add(source.Fails, fmt.Sprintf("GRANT SELECT ON LARGE OBJECT %s TO %s;", oid, pgclient.QuoteIdent(d.role)),
			"role %s cannot read large object %s%s", pgclient.QuoteIdent(d.role), oid, in)
	}
	return nil
}

// filter decides what a dump with the source's filters reads.
type filter struct {
	includeTables, excludeTables, excludeData []pattern
	includeSchemas, excludeSchemas            []pattern
}

// pattern is a pattern of psql: a name, or a schema and a name.
type pattern struct{ schema, name *regexp.Regexp }

func (opt Options) filter() (filter, error) {
	var f filter
	for _, part := range []struct {
		words   []string
		target  *[]pattern
		schemas bool
	}{
		{opt.IncludeTables, &f.includeTables, false}, {opt.ExcludeTables, &f.excludeTables, false},
		{opt.ExcludeTableData, &f.excludeData, false},
		{opt.IncludeSchemas, &f.includeSchemas, true}, {opt.ExcludeSchemas, &f.excludeSchemas, true},
	} {
		for _, word := range part.words {
			parts := splitPattern(word)
			if part.schemas && len(parts) > 1 {
				parts = parts[len(parts)-1:] // DATABASE.SCHEMA
			}
			var p pattern
			var err error
			if p.name, err = regexp.Compile("^(?:" + parts[len(parts)-1] + ")$"); err == nil && len(parts) > 1 {
				p.schema, err = regexp.Compile("^(?:" + parts[len(parts)-2] + ")$")
			}
			if err != nil {
				return f, holdfast.WithHint(fmt.Errorf("%w: pattern %q: %w", holdfast.ErrUsage, word, err), "write it as psql's \\d takes it: * and ? match, quotes keep upper case")
			}
			*part.target = append(*part.target, p)
		}
	}
	return f, nil
}

// splitPattern turns a pattern of psql into regular expressions, one for each part between dots: outside quotes letters
// are folded to lower case, * is .*, ? is a dot, and $ is itself; in quotes everything stands for itself.
func splitPattern(word string) []string {
	parts := []string{""}
	last := func(text string) { parts[len(parts)-1] += text }
	quoted := false
	for i := 0; i < len(word); {
		r := []rune(word[i:])[0]
		size := len(string(r))
		switch {
		case r == '"' && quoted && strings.HasPrefix(word[i+1:], `"`):
			last(`"`)
			i++
		case r == '"':
			quoted = !quoted
		case quoted:
			last(regexp.QuoteMeta(string(r)))
		case r == '.':
			parts = append(parts, "")
		case r == '*':
			last(`(?s:.*)`)
		case r == '?':
			last(`(?s:.)`)
		case r == '$':
			last(`\$`)
		default:
			last(strings.ToLower(string(r)))
		}
		i += size
	}
	return parts
}

func matches(patterns []pattern, schema, name string) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool {
		return p.name.MatchString(name) && (p.schema == nil || p.schema.MatchString(schema))
	})
}

// partial reports whether only named tables or schemas are dumped.
func (f filter) partial() bool { return len(f.includeTables)+len(f.includeSchemas) > 0 }

func (f filter) schema(name string) bool {
	if len(f.includeTables) > 0 {
		return slices.ContainsFunc(f.includeTables, func(p pattern) bool { return p.schema != nil && p.schema.MatchString(name) })
	}
	return (len(f.includeSchemas) == 0 || matches(f.includeSchemas, "", name)) && !matches(f.excludeSchemas, "", name)
}

func (f filter) table(schema, name string) bool {
	if matches(f.excludeTables, schema, name) {
		return false
	}
	if len(f.includeTables) > 0 {
		return matches(f.includeTables, schema, name)
	}
	return f.schema(schema)
}

func (f filter) data(schema, name string) bool { return !matches(f.excludeData, schema, name) }
