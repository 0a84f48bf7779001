package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// Target says where a restore on a live server lands.
type Target struct {
	// URL, Password and Env lead to the server, as in Options.
	URL      holdfast.Secret
	Password holdfast.Secret
	Env      map[string]string
	// Engine is as in Options.
	Engine string
	// Database is the final name; default: the name at backup time. With several databases it must be empty.
	Database string
	// Overwrite lets a database of that name give way: it is kept under another one.
	Overwrite bool
	// WithRoles changes roles that exist already to what they were. Without it only missing ones are created.
	WithRoles bool
	// ID ends the name of the staging database; default: random.
	ID string
	// Now stands in the name that an overwritten database is kept under; default: the time of Commit.
	Now time.Time
	// BinDirs and Path are as in Options.
	BinDirs []string
	Path    string
}

// Place is a staging database beside the final one.
type Place struct {
	target   Target
	observe  holdfast.Observer
	site     pgclient.Site   // where sessions are opened
	programs pgclient.Site   // where programs run: the same, or a sandbox in it
	server   pgclient.Params // leads to a database that stays: postgres or template1
	named    string          // the database that the target's address names
	drill    bool
	partial  bool // single tables: owners and privileges do not come back
	together bool // all roles are made, and all databases take their names at once
	settles  bool // the cluster is new, and becomes the server's own: it gets every global

	conn      pgclient.Session
	version   int
	record    record
	stored    source.Stored
	staged    []*staged
	roles     roles
	created   []string // roles that this restore made
	restored  bool
	committed bool
}

// staged is one database of the backup on its way.
type staged struct {
	database
	staging string
	final   string
	made    bool
	vacant  bool   // the final name is taken by a database that initdb made and nobody used
	kept    string // what the database before is now called
}

var (
	_ source.Place      = (*Place)(nil)
	_ source.Reversible = (*Place)(nil)
)

func (t Target) location() pgclient.Location {
	return pgclient.Location{URL: t.URL, Password: t.Password, Env: t.Env, Engine: t.Engine, BinDirs: t.BinDirs, Path: t.Path}
}

// Open connects to the server of a restore. Nothing is made there yet.
func Open(ctx context.Context, t Target, observe holdfast.Observer) (*Place, error) {
	site, server, err := t.location().Open(ctx)
	if err != nil {
		return nil, because(ctx, "open the target", err)
	}
	p, err := open(ctx, t, server, site, site, observe)
	return p, because(ctx, "open the target", err)
}

func open(ctx context.Context, t Target, server pgclient.Params, site, programs pgclient.Site, observe holdfast.Observer) (*Place, error) {
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	if t.ID == "" {
		t.ID = string(holdfast.NewBackupID())
	}
	p := &Place{target: t, observe: observe, site: site, programs: programs, named: server["dbname"]}
	// The database that the connection string names is often the one to restore, which may not exist.
	var firstErr error
	for _, name := range []string{"postgres", "template1", server["dbname"]} {
		conn, pinned, err := site.Dial(ctx, server.On(name))
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		p.conn, p.server = conn, pinned
		break
	}
	if p.conn == nil {
		return nil, firstErr
	}
	version, err := pgclient.ServerVersion(ctx, p.conn)
	if err == nil {
		p.version = version
		err = supported(p.major())
	}
	var standby bool
	if err == nil {
		err = pgclient.Row(ctx, p.conn, `SELECT pg_catalog.pg_is_in_recovery()`, &standby)
	}
	if err == nil && standby {
		err = holdfast.WithHint(fmt.Errorf("%w: the server at %s is a standby", holdfast.ErrUsage, p.server.Where()), "restore on the primary")
	}
	if err != nil {
		p.conn.Close() // it changed nothing
		return nil, err
	}
	return p, nil
}

func (p *Place) major() int { return p.version / 10000 }

func (p *Place) warn(format string, args ...any) {
	p.observe(holdfast.Event{Kind: holdfast.EventWarning, Source: p.stored.Source, Message: fmt.Sprintf(format, args...)})
}

// session returns the session of the place; one that was lost, as by a cancelled query, is opened again.
func (p *Place) session(ctx context.Context) (pgclient.Session, error) {
	if p.conn != nil && !p.conn.Closed() {
		return p.conn, nil
	}
	conn, _, err := p.site.Dial(ctx, p.server)
	if err != nil {
		return nil, err
	}
	p.conn = conn
	return conn, nil
}

func (p *Place) exec(ctx context.Context, doing, sql string) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	if err := pgclient.Exec(ctx, conn, sql); err != nil {
		return pgclient.ExplainQuery(doing, err)
	}
	return nil
}

// Restore brings globals, then each database, into staging.
func (p *Place) Restore(ctx context.Context, stored source.Stored) error {
	return because(ctx, "restore", p.restore(ctx, stored))
}

func (p *Place) restore(ctx context.Context, stored source.Stored) error {
	if p.stored.Source != "" {
		return errors.New("a place takes one restore")
	}
	p.stored = stored
	var err error
	if p.record, err = readRecord(stored); err != nil {
		return err
	}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if err := p.readSmallItems(ctx); err != nil {
		return err
	}
	if err := p.checkExtensions(ctx); err != nil {
		return err
	}
	if err := p.adoptMonetary(ctx); err != nil {
		return err
	}
	if err := p.makeRoles(ctx); err != nil {
		return err
	}
	feeder, err := p.newFeeder(ctx)
	if err != nil {
		return err
	}
	for _, s := range p.staged {
		if err := p.restoreOne(ctx, s, feeder); err != nil {
			return err
		}
	}
	if p.drill {
		// Later than the dumps: a role's settings may hinder a restore, read-only transactions for one.
		p.applyRoleSettings(ctx, nil)
	}
	p.restored = true
	return nil
}

// adoptMonetary lets values of type money be read as they were written: "1.000" may be a thousand or one.
func (p *Place) adoptMonetary(ctx context.Context) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	var current string
	if err := pgclient.Row(ctx, conn, `SELECT pg_catalog.current_setting('lc_monetary')`, &current); err != nil {
		return pgclient.ExplainQuery("read lc_monetary", err)
	}
	if p.record.Monetary == "" || p.record.Monetary == current {
		return nil
	}
	if err := pgclient.Exec(ctx, conn, `SELECT pg_catalog.set_config('lc_monetary', `+pgclient.QuoteLiteral(p.record.Monetary)+`, false)`); err != nil {
		if ctx.Err() != nil {
			return err
		}
		p.warn("the server does not know the locale %q: values of type money, if there are any, may be read wrongly", p.record.Monetary)
		return nil
	}
	p.server = p.server.With("lc_monetary", p.record.Monetary)
	return nil
}

// plan gives every database its names, and refuses a target that is taken.
func (p *Place) plan(ctx context.Context) error {
	if p.target.Database != "" && len(p.record.Databases) > 1 {
		return holdfast.WithHint(fmt.Errorf("%w: the backup holds %d databases, which cannot all be called %q",
			holdfast.ErrUsage, len(p.record.Databases), p.target.Database), "restore them under their own names")
	}
	for _, d := range p.record.Databases {
		final := d.Name
		if p.target.Database != "" {
			final = p.target.Database
		}
		exists, err := p.exists(ctx, final)
		if err != nil {
			return err
		}
		vacant := false
		if exists && (len(p.record.Databases) > 1 || p.together) && final == "postgres" {
			if vacant, err = p.unused(ctx, final); err != nil {
				return err
			}
		}
		if exists && !vacant && !p.drill && !p.target.Overwrite {
			return holdfast.WithHint(fmt.Errorf("%w: database %q exists on %s", holdfast.ErrUsage, final, p.server.Where()),
				"choose another name, or replace it with --overwrite, which keeps the old one under another name")
		}
		staging := withSuffix(final, restoringMark+p.target.ID)
		p.staged = append(p.staged, &staged{database: d, staging: staging, final: final, vacant: vacant})
		if err := p.nameLeftovers(ctx, staging); err != nil {
			return err
		}
	}
	return nil
}

const restoringMark = "_restoring_"

// nameLeftovers tells of staging databases that killed restores of other backups left. Nobody but a person can know that
// they are not wanted any more.
func (p *Place) nameLeftovers(ctx context.Context, staging string) error {
	if p.drill {
		return nil
	}
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(staging, p.target.ID)
	names, err := pgclient.Strings(ctx, conn, fmt.Sprintf(`SELECT datname::text FROM pg_catalog.pg_database d
		WHERE pg_catalog.starts_with(datname::text, %s) AND datname <> %s
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datname = d.datname) ORDER BY 1`,
		pgclient.QuoteLiteral(stem), pgclient.QuoteLiteral(staging)))
	if err != nil {
		return pgclient.ExplainQuery("look for leftovers of restores", err)
	}
	for _, name := range names {
		p.warn("database %s was left by a restore that was killed: DROP DATABASE %s;", pgclient.QuoteIdent(name), pgclient.QuoteIdent(name))
	}
	return nil
}

// unused reports whether nobody made anything in database. Every cluster has one called postgres, so that a whole cluster
// could never be restored if that one counted as a target that is not empty.
func (p *Place) unused(ctx context.Context, database string) (bool, error) {
	conn, _, err := p.site.Dial(ctx, p.server.On(database))
	if err != nil {
		return false, err
	}
	var made int
	// What a catalog has no schema for counts from the first OID that initdb does not give.
	err = pgclient.Row(ctx, conn, `WITH own AS (SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_')
		SELECT (SELECT pg_catalog.count(*) FROM own WHERE nspname <> 'public')
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relnamespace IN (SELECT oid FROM own))
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE pronamespace IN (SELECT oid FROM own))
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_type WHERE typnamespace IN (SELECT oid FROM own))
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql')
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata)
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_event_trigger WHERE oid >= 16384)
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_publication WHERE oid >= 16384)
			+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_foreign_data_wrapper WHERE oid >= 16384)`, &made)
	if err != nil {
		err = pgclient.ExplainQuery("look into database "+pgclient.QuoteIdent(database), err)
	}
	return made == 0, errors.Join(err, conn.Close())
}

func (p *Place) exists(ctx context.Context, database string) (bool, error) {
	conn, err := p.session(ctx)
	if err != nil {
		return false, err
	}
	var exists bool
	err = pgclient.Row(ctx, conn, `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = `+pgclient.QuoteLiteral(database)+`)`, &exists)
	if err != nil {
		return false, pgclient.ExplainQuery("look for database "+pgclient.QuoteIdent(database), err)
	}
	return exists, nil
}

// withSuffix shortens name so that it fits PostgreSQL's 63 bytes together with its suffix.
func withSuffix(name, suffix string) string {
	room := 63 - len(suffix)
	if len(name) > room {
		name = name[:room]
		for !utf8.ValidString(name) && name != "" {
			name = name[:len(name)-1]
		}
	}
	return name + suffix
}

// maxSmall bounds the items that are held in memory.
const maxSmall = 64 << 20

// readSmallItems reads all but the dumps and compares them with what was recorded: their statements are run one by
// one, in part or not at all, so that nothing else would notice damage.
func (p *Place) readSmallItems(ctx context.Context) error {
	for _, s := range p.staged {
		if _, err := p.readSmall(ctx, s.Create, s.CreateDigest); err != nil {
			return err
		}
		if _, found := p.stored.Item(s.Dump); !found {
			return fmt.Errorf("item %s is missing from the backup", s.Dump)
		}
	}
	if p.record.Globals == "" {
		return nil
	}
	content, err := p.readSmall(ctx, p.record.Globals, p.record.GlobalsDigest)
	if err != nil {
		return err
	}
	p.roles, err = parseRoles(content)
	return err
}

func (p *Place) readSmall(ctx context.Context, name, want string) ([]byte, error) {
	item, found := p.stored.Item(name)
	if !found {
		return nil, fmt.Errorf("item %s is missing from the backup", name)
	}
	r, err := item.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open item %s: %w", name, err)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	err = errors.Join(err, r.Close())
	if err != nil {
		return nil, fmt.Errorf("read item %s: %w", name, err)
	}
	if len(content) > maxSmall || digest(content) != want {
		return nil, fmt.Errorf("%w: item %s is not what was recorded", holdfast.ErrDifference, name)
	}
	return content, nil
}

// included reports whether only some tables or schemas were captured: such a dump lacks what they stand on.
func (r record) included() bool {
	return slices.ContainsFunc(r.Filters, func(arg string) bool {
		return strings.HasPrefix(arg, "--table=") || strings.HasPrefix(arg, "--schema=")
	})
}

func (r record) onlyTables() bool {
	return slices.ContainsFunc(r.Filters, func(arg string) bool { return strings.HasPrefix(arg, "--table=") })
}

// checkExtensions names all missing extensions at once, before anything is restored.
func (p *Place) checkExtensions(ctx context.Context) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	available, err := pgclient.Strings(ctx, conn, `SELECT name::text FROM pg_catalog.pg_available_extensions`)
	if err != nil {
		return pgclient.ExplainQuery("list the extensions", err)
	}
	var missing []string
	for _, s := range p.staged {
		for _, e := range s.Extensions {
			if !slices.Contains(available, e.Name) && !slices.Contains(missing, e.Name) {
				missing = append(missing, e.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return p.cannot(fmt.Errorf("the server lacks the extension %s", strings.Join(missing, ", ")), missingExtension(missing, p.major()))
}

// cannot marks what a drill's server lacks: that says nothing about the backup.
func (p *Place) cannot(err error, hint string) error {
	if p.drill {
		err = fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
	}
	return holdfast.WithHint(err, hint)
}

// missingExtension says what to install; the names are Debian's and those of the PostgreSQL project's repository.
func missingExtension(names []string, major int) string {
	special := map[string]string{
		"postgis": "postgis-3", "postgis_topology": "postgis-3", "postgis_raster": "postgis-3", "vector": "pgvector",
		"pg_cron": "cron", "pg_partman": "partman", "pg_repack": "repack", "timescaledb": "timescaledb",
	}
	var packages []string
	for _, name := range names {
		suffix, known := special[name]
		if !known {
			suffix = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		}
		if text := fmt.Sprintf("postgresql-%d-%s", major, suffix); !slices.Contains(packages, text) {
			packages = append(packages, text)
		}
	}
	return "install it there (the package may be called " + strings.Join(packages, ", ") + ")"
}

// restoreOne makes the staging database of s and fills it.
func (p *Place) restoreOne(ctx context.Context, s *staged, f *feeder) error {
	p.observe(holdfast.Event{Kind: holdfast.EventPhase, Source: p.stored.Source, Message: fmt.Sprintf("restore into database %q", s.staging)})
	if err := p.createDatabase(ctx, s); err != nil {
		return err
	}
	if err := p.prepare(ctx, s); err != nil {
		return err
	}
	if err := f.feed(ctx, s); err != nil {
		return err
	}
	for _, statement := range s.propertySQL(s.staging) {
		if err := p.exec(ctx, "set the properties of database "+pgclient.QuoteIdent(s.staging), statement); err != nil {
			if !strings.Contains(statement, " SET ") || ctx.Err() != nil {
				return err
			}
			p.warn("a setting of database %q was not taken: %v", s.final, err)
		}
	}
	return nil
}

// Check dumps what stands in staging through the reader that made the facts.
func (p *Place) Check(ctx context.Context) (source.Facts, error) {
	facts, err := p.check(ctx)
	return facts, because(ctx, "check", err)
}

func (p *Place) check(ctx context.Context) (source.Facts, error) {
	if !p.restored {
		return source.Facts{}, errors.New("nothing was restored that could be checked")
	}
	client, err := p.checker(ctx)
	if err != nil {
		return source.Facts{}, err
	}
	facts := source.Facts{Kind: holdfast.KindPostgres, Taken: time.Now().UTC(), Exclusions: p.stored.Facts.Exclusions,
		Properties: map[string]string{"server version": versionName(p.version), "client": client.String()}}
	if p.record.Globals != "" {
		list, err := p.checkRoles(ctx, client)
		if err != nil {
			return source.Facts{}, err
		}
		facts.Facts = append(facts.Facts, list...)
	}
	for _, s := range p.staged {
		list, err := p.checkOne(ctx, s, client)
		if err != nil {
			return source.Facts{}, fmt.Errorf("check database %q: %w", s.staging, err)
		}
		facts.Facts = append(facts.Facts, list...)
	}
	return facts, nil
}

// checker is the pg_dump that made the backup, if that major version is here and fits the server: another one may
// write the same thing in other words.
func (p *Place) checker(ctx context.Context) (pgclient.Program, error) {
	major := p.major()
	if p.record.Client > major {
		if found, err := pgclient.Fitting(ctx, p.programs, "pg_dump", p.record.Client); err == nil && found.Major == p.record.Client {
			return found, nil
		}
	}
	found, err := pgclient.Fitting(ctx, p.programs, "pg_dump", major)
	if err != nil {
		return pgclient.Program{}, p.cannot(err, holdfast.Hint(err))
	}
	if found.Major != p.record.Client {
		p.warn("the backup was made by pg_dump %d and is checked by pg_dump %d: definitions may differ in their text", p.record.Client, found.Major)
	}
	return found, nil
}

func (p *Place) checkOne(ctx context.Context, s *staged, client pgclient.Program) ([]source.Fact, error) {
	conn, server, err := p.site.Dial(ctx, p.server.On(s.staging))
	if err != nil {
		return nil, err
	}
	now, err := readDatabase(ctx, conn)
	conn.Close() // it changed nothing
	if err != nil {
		return nil, err
	}
	now.Prefix = s.Prefix
	args := append([]string{"--encoding=" + s.Encoding}, p.record.filtersOf(s.database)...)
	d, err := startDump(ctx, p.programs, client, args, server.With("bytea_output", "hex").With("quote_all_identifiers", "off"))
	if err != nil {
		return nil, err
	}
	d.name = s.staging
	var list []source.Fact
	d.good = func(facts []source.Fact, _ []string) { list = facts }
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{d}, make([]byte, 256<<10))
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	return append(now.facts(), prefixed(s.Prefix, p.publicFacts(s, list, client))...), nil
}

// Close drops what was not committed.
func (p *Place) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if !p.committed && !p.drill {
		for _, s := range p.staged {
			if !s.made {
				continue
			}
			doing := "drop staging database " + pgclient.QuoteIdent(s.staging)
			if s.Template { // no template is dropped, and a Commit that failed may have made it one
				errs = append(errs, p.exec(ctx, doing, "ALTER DATABASE "+pgclient.QuoteIdent(s.staging)+" IS_TEMPLATE false"))
			}
			if err := p.exec(ctx, doing, "DROP DATABASE IF EXISTS "+pgclient.QuoteIdent(s.staging)+" WITH (FORCE)"); err != nil {
				errs = append(errs, holdfast.WithHint(err, "drop it by hand: DROP DATABASE "+pgclient.QuoteIdent(s.staging)+" WITH (FORCE);"))
			}
		}
		if errors.Join(errs...) == nil {
			for _, role := range slices.Backward(p.created) {
				errs = append(errs, p.exec(ctx, "drop role "+pgclient.QuoteIdent(role), "DROP ROLE IF EXISTS "+pgclient.QuoteIdent(role)))
			}
		}
	}
	p.staged, p.created = nil, nil
	if p.conn != nil && !p.conn.Closed() {
		p.conn.Close() // it has no work left
	}
	return errors.Join(errs...)
}
