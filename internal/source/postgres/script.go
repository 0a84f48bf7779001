package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// Script is SQL of another tool, looked through by [pgdump.Scan], that is to be restored. The stored item that holds it
// is the only one.
type Script struct {
	pgdump.Script
	// Trusted lets what [pgdump.Script.Findings] tells of run, psql's own commands among it.
	Trusted bool
	// Unauthenticated says that the file is sealed in a way that does not notice changed bytes, as by openssl enc: what is strange
	// in it may be damage.
	Unauthenticated bool
	// WantMajor is the major version of a throwaway server, whatever the script says. 0: the script's, or the nearest newer
	// one that is here; the newest where the script does not tell.
	WantMajor int
}

// scriptBootstrap is the first role of a server that takes scripts: a dump of a whole cluster makes every other one itself.
const scriptBootstrap = "holdfast"

// check refuses what nobody vouches for.
func (s Script) check() error {
	if s.Trusted || len(s.Findings) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: the SQL reaches beyond its database: %s", holdfast.ErrUsage, told(s.Findings))
	if s.Unauthenticated {
		return holdfast.WithHint(s.doubted(err), "take another copy of the file, or an older one, and compare; if these lines stood in the dump when it was made, and you know what they do, give --trust")
	}
	return holdfast.WithHint(err, "look at these lines: pg_dump does not write them; if you know what they do, give --trust")
}

// doubted adds to what is strange in a script that the file may have been changed, where its seal does not tell.
func (s Script) doubted(err error) error {
	if !s.Unauthenticated {
		return err
	}
	return fmt.Errorf("%w, or the file was changed: openssl enc does not notice", err)
}

// told tells the first of some findings.
func told(findings []pgdump.Finding) string {
	const shown = 5
	var lines []string
	for _, finding := range findings[:min(shown, len(findings))] {
		lines = append(lines, finding.String())
	}
	text := strings.Join(lines, "; ")
	if more := len(findings) - len(lines); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// scripted is what throwaway and target have in common.
type scripted struct {
	*Place
	script Script
}

// ScriptPlace is a staging database that takes a script.
type ScriptPlace struct{ scripted }

// ScriptDrill is a throwaway server that takes a script.
type ScriptDrill struct {
	*Drill
	scripted scripted
}

var (
	_ source.Place    = (*ScriptPlace)(nil)
	_ source.Place    = (*ScriptDrill)(nil)
	_ source.Asserter = (*ScriptDrill)(nil)
)

// OpenScript connects to the server of a restore of one database, or with the dump of a whole cluster of all that are in it:
// Target.Database plays no part then. Nothing is made there yet.
func OpenScript(ctx context.Context, t Target, script Script, observe holdfast.Observer) (*ScriptPlace, error) {
	if script.Cluster {
		if err := script.stageable(t); err != nil {
			return nil, err
		}
		t.Database = ""
	}
	if err := script.check(); err != nil {
		return nil, err
	}
	if !script.Cluster && t.Database == "" {
		return nil, fmt.Errorf("%w: the target names no database", holdfast.ErrUsage)
	}
	p, err := Open(ctx, t, observe)
	if err != nil {
		return nil, err
	}
	if script.Major > p.major() {
		p.warn("the dump is of PostgreSQL %d, and the server is %d: it may hold what the server does not know", script.Major, p.major())
	}
	return &ScriptPlace{scripted{p, script}}, nil
}

// ThrowawayScript starts a server for a script. Errors that say nothing about the script wrap [holdfast.ErrCannotTest].
func ThrowawayScript(ctx context.Context, opt DrillOptions, script Script, stored source.Stored, observe holdfast.Observer) (*ScriptDrill, error) {
	if err := script.check(); err != nil {
		return nil, err
	}
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if err := checkRoom(opt.Scratch, stored); err != nil {
		return nil, err
	}
	major, err := script.server(ctx, pgclient.NewHost(opt.BinDirs, opt.Path), observe)
	if err != nil {
		return nil, err
	}
	d := &Drill{opt: opt, log: &pgclient.Tail{}}
	if err := d.start(ctx, record{Layout: 1, Server: major * 10000, Bootstrap: scriptBootstrap}, observe); err != nil {
		err = errors.Join(err, d.shutdown())
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start a throwaway server: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return &ScriptDrill{d, scripted{d.Place, script}}, nil
}

// server decides on the major version of the throwaway server.
func (s Script) server(ctx context.Context, site pgclient.Site, observe holdfast.Observer) (int, error) {
	list, err := site.Find(ctx, "initdb")
	if err != nil {
		return 0, cannotTest(err, holdfast.Hint(err))
	}
	want := s.Major
	if s.WantMajor > 0 {
		want = s.WantMajor
	}
	if want == 0 && len(list) > 0 {
		newest := min(list[len(list)-1].Major, newestMajor)
		observe(holdfast.Event{Kind: holdfast.EventWarning, Message: fmt.Sprintf("the SQL does not say which PostgreSQL it is of: it is restored on %d, the newest here", newest)})
		return newest, nil
	}
	for _, p := range list {
		if p.Major < max(want, oldestMajor) || p.Major > newestMajor {
			continue
		}
		if p.Major != want {
			observe(holdfast.Event{Kind: holdfast.EventWarning, Message: fmt.Sprintf("the dump is of PostgreSQL %d, and is restored on %d, the nearest newer one here", want, p.Major)})
		}
		return p.Major, nil
	}
	newest := "there is no server here"
	if len(list) > 0 {
		newest = fmt.Sprintf("the newest server here is %d", list[len(list)-1].Major)
	}
	return 0, cannotTest(fmt.Errorf("the dump is of PostgreSQL %d, and %s", want, newest),
		fmt.Sprintf("install postgresql-%d, or drill it where that is; --major tries another version", max(want, oldestMajor)))
}

// Restore runs the script in the throwaway server.
func (d *ScriptDrill) Restore(ctx context.Context, stored source.Stored) error {
	return d.explain(ctx, d.scripted.Restore(ctx, stored))
}

// Check dumps what came of the script.
func (d *ScriptDrill) Check(ctx context.Context) (source.Facts, error) {
	facts, err := d.scripted.Check(ctx)
	return facts, d.explain(ctx, err)
}

// Restore runs the script in staging.
func (p scripted) Restore(ctx context.Context, stored source.Stored) error {
	return because(ctx, "restore", p.run(ctx, stored))
}

func (p scripted) run(ctx context.Context, stored source.Stored) error {
	if p.stored.Source != "" || len(stored.Items) != 1 {
		return errors.New("a place takes one restore, of one script")
	}
	p.stored = stored
	if p.script.Cluster && !p.drill {
		return p.runCluster(ctx, stored)
	}
	item := stored.Items[0].Name
	name := p.target.Database
	if p.drill {
		name = "restored"
	}
	encoding := p.script.Encoding
	if encoding == "" {
		encoding = "UTF8"
	}
	client, err := pgclient.Fitting(ctx, p.programs, "pg_dump", p.major())
	if err != nil {
		return p.cannot(err, holdfast.Hint(err))
	}
	p.record = record{Layout: 1, Server: p.version, Client: client.Major, Databases: []database{{
		Name: name, Dump: item, Encoding: encoding, ConnectionLimit: -1,
	}}}
	for _, name := range p.script.Extensions {
		p.record.Databases[0].Extensions = append(p.record.Databases[0].Extensions, extension{Name: name})
	}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if err := p.checkExtensions(ctx); err != nil {
		return err
	}
	if p.drill && len(p.script.Tablespaces) > 0 {
		return cannotTest(fmt.Errorf("the dump makes the tablespace %s, for which a throwaway server has no place", strings.Join(p.script.Tablespaces, ", ")),
			"restore it by hand on an empty cluster that has the folders")
	}
	if err := p.scriptRoles(ctx); err != nil {
		return err
	}
	feeder, err := p.scriptFeeder(ctx)
	if err != nil {
		return err
	}
	if err := p.scriptDatabase(ctx, p.staged[0]); err != nil {
		return err
	}
	if p.script.Cluster {
		// pg_dumpall --clean drops the database postgres too, in which no session may be.
		if err := p.conn.Close(); err != nil {
			return fmt.Errorf("leave the database: %w", err)
		}
		p.server = p.server.On(p.staged[0].staging)
	}
	if err := feeder.feed(ctx, p.staged[0]); err != nil {
		return p.reproach(err)
	}
	if p.script.Cluster {
		if err := p.adopt(ctx); err != nil {
			return err
		}
	} else if !p.drill {
		if err := p.exec(ctx, "open the staging database", "GRANT CONNECT, TEMPORARY ON DATABASE "+pgclient.QuoteIdent(p.staged[0].staging)+" TO PUBLIC"); err != nil {
			return err
		}
	}
	p.restored = true
	return nil
}

// scriptFeeder is a feeder for SQL of another tool.
func (p scripted) scriptFeeder(ctx context.Context) (*feeder, error) {
	feeder, err := p.newFeeder(ctx)
	if err != nil {
		return nil, err
	}
	if !p.drill && !p.script.Trusted && !feeder.psql.Restricts() {
		return nil, holdfast.WithHint(fmt.Errorf(`%w: %s does not know \restrict, which keeps SQL of unknown origin from running commands on this machine`, holdfast.ErrUsage, feeder.psql),
			"upgrade psql; if you trust the file, give --trust")
	}
	// A throwaway takes the dump of a cluster as it is, with its own \connect.
	whole := p.drill && p.script.Cluster
	// Into a running cluster no command of psql comes, whoever vouches for it.
	feeder.bare = p.script.Trusted && !p.script.Cluster || whole
	feeder.rules.DropDrops = true
	feeder.rules.DropDatabases = !whole
	feeder.filter, feeder.why = pgdump.NewScriptFilter, "as the database is new, or does not know it"
	return feeder, nil
}

// reproach adds what a script lacks for standing alone.
func (p scripted) reproach(err error) error {
	if p.script.Tablefree && strings.Contains(err.Error(), "(SQLSTATE 42P01") {
		return holdfast.WithHint(err, "the SQL fills tables and makes none: it is a dump of data alone, which needs its tables first")
	}
	return err
}

// scriptRoles makes the roles that the script takes for granted in a throwaway, and demands them of a live server. In a throwaway
// they are superusers: what they were is not known, and no right may be missing that they had.
func (p scripted) scriptRoles(ctx context.Context) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	existing, err := pgclient.Strings(ctx, conn, `SELECT rolname::text FROM pg_catalog.pg_roles`)
	if err != nil {
		return pgclient.ExplainQuery("list the roles", err)
	}
	var missing, statements []string
	for _, role := range p.script.Roles {
		if slices.Contains(existing, role) || strings.HasPrefix(role, "pg_") {
			continue
		}
		missing = append(missing, role)
		statements = append(statements, "CREATE ROLE "+pgclient.QuoteIdent(role)+";")
	}
	if len(missing) == 0 {
		return nil
	}
	if !p.drill {
		return holdfast.WithHint(fmt.Errorf("%w: the server lacks the role %s, which the dump takes for granted", holdfast.ErrUsage, strings.Join(missing, ", ")),
			"make it first: "+strings.Join(statements, " "))
	}
	for _, role := range missing {
		if err := p.exec(ctx, "create role "+pgclient.QuoteIdent(role), "CREATE ROLE "+pgclient.QuoteIdent(role)+" SUPERUSER"); err != nil {
			return err
		}
	}
	return nil
}

// madeName finds the name in a CREATE DATABASE, and madeSpace the tablespace.
var (
	madeName  = regexp.MustCompile(`^CREATE DATABASE (?:"(?:[^"]|"")*"|[^\s"]+)`)
	madeSpace = regexp.MustCompile(` TABLESPACE = (?:"(?:[^"]|"")*"|[^\s";]+)`)
)

// scriptDatabase makes the staging database: as the script itself would where it makes just one.
func (p scripted) scriptDatabase(ctx context.Context, s *staged) error {
	own := p.script.Create
	if p.script.Cluster {
		own = ""
	}
	return p.makeScriptDatabase(ctx, s, own, p.script.MakesPublic)
}

// providers finds in a CREATE DATABASE how it sorts, where that came with a version.
var providers = regexp.MustCompile(` LOCALE_PROVIDER = (icu|builtin)\b`)

// lacksProvider is the locale provider of a script's own statement, where a server of this version does not know it.
func (p scripted) lacksProvider(own string) string {
	named := providers.FindStringSubmatch(own)
	if named == nil || p.hasProvider(named[1]) {
		return ""
	}
	return named[1]
}

// makeScriptDatabase makes a staging database by a script's own statement, if there is one and it can be, else with the
// server's own locale, in a throwaway with one that knows letters beyond ASCII.
func (p scripted) makeScriptDatabase(ctx context.Context, s *staged, own string, makesPublic bool) error {
	if err := p.dropLeftover(ctx, s.staging); err != nil {
		return err
	}
	create := "CREATE DATABASE " + pgclient.QuoteIdent(s.staging)
	plain := create + " WITH TEMPLATE = template0"
	candidates := []string{plain}
	switch {
	case s.Encoding == "SQL_ASCII":
		candidates = []string{plain + " ENCODING = 'SQL_ASCII' LC_COLLATE = 'C' LC_CTYPE = 'C'"}
	case p.drill:
		candidates = []string{plain + " ENCODING = 'UTF8' LC_COLLATE = 'C' LC_CTYPE = 'C.UTF-8'", plain}
	}
	provider := p.lacksProvider(own)
	if madeName.MatchString(own) && provider == "" {
		made := madeSpace.ReplaceAllLiteralString(create+strings.TrimSuffix(own[len(madeName.FindString(own)):], ";"), "")
		if p.major() < 15 {
			made = strings.Replace(made, " LOCALE_PROVIDER = libc", "", 1) // the only one there was
		}
		candidates = append([]string{made}, candidates...)
	}
	var err, first error
	for _, statement := range candidates {
		if err = p.exec(ctx, "create database "+pgclient.QuoteIdent(s.staging), statement); err == nil || ctx.Err() != nil || !lacksLocale(err) {
			break
		}
		if first == nil {
			first = err
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return p.explainCreate(err)
	case own == "":
	case provider != "":
		p.warn("PostgreSQL %d does not have the locale provider %s of the database: it is restored with another locale", p.major(), provider)
	case first != nil:
		p.warn("the locale of the database is not here: it is restored with another one, as the server said: %v", first)
	}
	s.made = true
	if !p.drill {
		if err := p.exec(ctx, "close the staging database", "REVOKE ALL ON DATABASE "+pgclient.QuoteIdent(s.staging)+" FROM PUBLIC"); err != nil {
			return err
		}
	}
	if !makesPublic {
		return nil
	}
	conn, _, err := p.site.Dial(ctx, p.server.On(s.staging))
	if err != nil {
		return err
	}
	return errors.Join(pgclient.Exec(ctx, conn, "DROP SCHEMA public"), conn.Close())
}

// adopt takes the databases that the dump of a cluster made for those that were restored.
func (p scripted) adopt(ctx context.Context) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	var names, encodings, closed []string
	var name, encoding string
	var open bool
	err = pgclient.Each(ctx, conn, `SELECT datname::text, pg_catalog.pg_encoding_to_char(encoding)::text, datallowconn FROM pg_catalog.pg_database
		WHERE datname <> 'template0' ORDER BY datname = 'template1', 1`, func() {
		names, encodings = append(names, name), append(encodings, encoding)
		if !open {
			closed = append(closed, name)
		}
	}, &name, &encoding, &open)
	if err != nil {
		return pgclient.ExplainQuery("list the databases", err)
	}
	for _, name := range closed {
		if err := p.exec(ctx, "open database "+pgclient.QuoteIdent(name), "ALTER DATABASE "+pgclient.QuoteIdent(name)+" ALLOW_CONNECTIONS true"); err != nil {
			return err
		}
	}
	started := p.staged[0]
	p.staged = nil
	for i, name := range names {
		prefix := name + ": "
		if name == started.staging {
			prefix = "" // what stands before the first \connect
		}
		// These are there in any case: only what was made in them came from the dump.
		if name == "postgres" || name == "template1" || name == started.staging {
			if empty, err := p.unused(ctx, name); err != nil || empty {
				if err != nil {
					return err
				}
				continue
			}
		}
		p.staged = append(p.staged, &staged{
			database: database{Name: name, Prefix: prefix, Dump: started.Dump, Encoding: encodings[i], ConnectionLimit: -1}, staging: name, final: name,
		})
	}
	if len(p.staged) == 0 {
		p.warn("the dump of the cluster holds no database")
	}
	return nil
}

// ReadScript looks through the script that open reads.
func ReadScript(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) (pgdump.Script, error) {
	r, err := open(ctx)
	if err != nil {
		return pgdump.Script{}, err
	}
	script, err := pgdump.Scan(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	// What the reader says of the bytes tells more than what they did to the SQL.
	if closeErr := r.Close(); closeErr != nil {
		return script, closeErr
	}
	if errors.Is(err, pgdump.ErrTruncated) || errors.Is(err, pgdump.ErrMalformed) {
		return script, damagedScript(err)
	}
	return script, err
}

func damagedScript(err error) error {
	hint := "the dump was not finished, or not copied to its end: take another copy, or an older one"
	if errors.Is(err, pgdump.ErrMalformed) {
		hint = "the file is damaged, or it is not SQL as psql reads it"
	}
	return holdfast.WithHint(&brokenScript{err}, hint)
}

// brokenScript is a script that was cut or damaged: a difference that says by itself what it is.
type brokenScript struct{ error }

func (b *brokenScript) Unwrap() []error { return []error{b.error, holdfast.ErrDifference} }
