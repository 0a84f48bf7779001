package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// capture is one pinned view of one or all databases.
type capture struct {
	opt       Options
	observe   holdfast.Observer
	site      pgclient.Site
	dump      pgclient.Program
	dumpall   pgclient.Program
	server    pgclient.Params
	snapshots []*snapshot
	record    record
	globals   []byte
	items     []source.Item

	mu     sync.Mutex               // guards what follows
	whole  map[string][]source.Fact // of each item that was read to its end
	notes  []string
	closed bool
}

var _ source.Capture = (*capture)(nil)

func (s *Source) capture(ctx context.Context, observe holdfast.Observer) (*capture, error) {
	site, p, err := s.opt.location().Open(ctx)
	if err != nil {
		return nil, because(ctx, "capture", err)
	}
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	c := &capture{opt: s.opt, site: site, observe: observe, whole: map[string][]source.Fact{}}
	if err := c.open(ctx, p); err != nil {
		c.release()
		return nil, because(ctx, "capture", err)
	}
	return c, nil
}

func (c *capture) open(ctx context.Context, p pgclient.Params) error {
	first, err := openSnapshot(ctx, c.site, p)
	if err != nil {
		return err
	}
	c.snapshots = append(c.snapshots, first)
	c.server = first.server
	version, err := pgclient.ServerVersion(ctx, first.conn)
	if err != nil {
		return err
	}
	c.record = record{Layout: 1, Server: version, Filters: c.opt.filters(), Container: origin(ctx, c.site)}
	if err := supported(c.record.major()); err != nil {
		return err
	}
	if c.dump, err = pgclient.Fitting(ctx, c.site, "pg_dump", c.record.major()); err != nil {
		return err
	}
	c.record.Client = c.dump.Major
	if first.standby {
		// A standby has no rows of unlogged tables, and refuses to read them.
		c.record.Filters = append(c.record.Filters, noUnlogged)
	}
	// The view leaves out what the role may not see; to ask for it by name would end the transaction.
	err = pgclient.Row(ctx, first.conn, `SELECT pg_catalog.pg_get_userbyid(10)::text,
		coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries'), ''),
		pg_catalog.current_setting('lc_monetary'),
		pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')`,
		&c.record.Bootstrap, &c.record.Preload, &c.record.Monetary, &c.record.Passwords)
	if err != nil {
		return pgclient.ExplainQuery("read the properties of the cluster", err)
	}
	if err := c.openOthers(ctx); err != nil {
		return err
	}
	if !c.opt.SkipGlobals {
		c.dumpall = c.dump.Beside("pg_dumpall")
		if c.globals, err = c.readGlobals(ctx); err != nil {
			return err
		}
		if !c.record.Passwords {
			c.note(fmt.Sprintf("the globals are without password hashes: role %q may not read them", p["user"]))
		}
	}
	c.list()
	return nil
}

// supported refuses servers that nobody tested.
func supported(major int) error {
	if major >= oldestMajor && major <= newestMajor {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("PostgreSQL %d is not supported", major),
		fmt.Sprintf("holdfast knows PostgreSQL %d to %d", oldestMajor, newestMajor))
}

// openOthers pins the other databases of the cluster.
func (c *capture) openOthers(ctx context.Context) error {
	if !c.opt.AllDatabases {
		return nil
	}
	first := c.snapshots[0]
	names, err := databaseNames(ctx, first.conn)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == first.database.Name {
			continue
		}
		s, err := openSnapshot(ctx, c.site, c.server.On(name))
		if err != nil {
			return fmt.Errorf("database %q: %w", name, err)
		}
		c.snapshots = append(c.snapshots, s)
	}
	slices.SortFunc(c.snapshots, func(a, b *snapshot) int { return strings.Compare(a.database.Name, b.database.Name) })
	return nil
}

// list makes the items, in the order of restoring.
func (c *capture) list() {
	name := string(c.opt.Name)
	if !c.opt.SkipGlobals {
		c.record.Globals = name + ".globals.sql"
		c.record.GlobalsDigest = digest(c.globals)
		c.items = append(c.items, c.small(c.record.Globals, c.globals, c.globalsFacts))
	}
	taken := map[string]bool{"globals": true, "create": true}
	for _, s := range c.snapshots {
		d := &s.database
		stem := name
		if c.opt.AllDatabases {
			stem += "." + cleanName(d.Name, taken)
			d.Prefix = d.Name + ": "
		}
		d.Create, d.Dump = stem+".create.sql", stem+".sql"
		script := []byte(d.script(c.record.major()))
		d.CreateDigest = digest(script)
		facts := func() ([]source.Fact, error) { return d.facts(), nil }
		c.items = append(c.items, c.small(d.Create, script, facts), source.Item{
			Name: d.Dump, Hint: source.Stream, Size: s.size,
			Open: func(ctx context.Context) (io.ReadCloser, error) { return c.openDump(ctx, s) },
		})
		c.record.Databases = append(c.record.Databases, *d)
	}
}

// cleanName makes of a database's name a part of an object's name that is not taken yet.
func cleanName(name string, taken map[string]bool) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, name)
	if len(clean) > 40 {
		clean = clean[:40]
	}
	unique := clean
	for n := 2; taken[unique]; n++ {
		unique = clean + "-" + strconv.Itoa(n)
	}
	taken[unique] = true
	return unique
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// small is an item whose few bytes are in memory.
func (c *capture) small(name string, content []byte, facts func() ([]source.Fact, error)) source.Item {
	return source.Item{Name: name, Hint: source.Stream, Size: int64(len(content)),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			return &smallReader{ctx: ctx, name: name, rest: *bytes.NewReader(content), good: func() error {
				list, err := facts()
				if err == nil {
					c.finish(name, list)
				}
				return err
			}}, nil
		}}
}

type smallReader struct {
	ctx   context.Context // of the Open that made this reader, which lives no longer
	name  string
	rest  bytes.Reader
	ended bool
	good  func() error
}

func (r *smallReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.rest.Read(p)
	if err == io.EOF && !r.ended {
		if err := r.good(); err != nil {
			return n, err
		}
		r.ended = true
	}
	return n, err
}

func (r *smallReader) Close() error {
	if !r.ended {
		return fmt.Errorf("item %s was closed before its end", r.name)
	}
	return nil
}

// finish keeps the facts of an item that was read to its end.
func (c *capture) finish(item string, facts []source.Fact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole[item] = facts
}

func (c *capture) note(text string) {
	c.mu.Lock()
	if !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
	c.mu.Unlock()
	c.observe(holdfast.Event{Kind: holdfast.EventWarning, Source: c.opt.Name, Message: text})
}

// Items lists globals, then for each database what makes it and what is in it.
func (c *capture) Items() []source.Item { return slices.Clone(c.items) }

// Facts tells what was read.
func (c *capture) Facts(ctx context.Context) (source.Facts, error) {
	for _, item := range c.items {
		c.mu.Lock()
		_, read := c.whole[item.Name]
		c.mu.Unlock()
		if !read {
			return source.Facts{}, fmt.Errorf("facts of source %s: item %s was not read to its end", c.opt.Name, item.Name)
		}
	}
	if c.globals != nil {
		after, err := c.readGlobals(ctx)
		if err != nil {
			return source.Facts{}, because(ctx, "facts", err)
		}
		if !bytes.Equal(withoutKeys(c.globals), withoutKeys(after)) {
			c.note("roles or tablespaces were changed while the backup ran; the globals are those of its beginning")
		}
	}
	driver, err := json.Marshal(c.record)
	if err != nil {
		return source.Facts{}, fmt.Errorf("facts of source %s: %w", c.opt.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	facts := source.Facts{
		Kind: holdfast.KindPostgres, Taken: c.snapshots[0].taken, Exclusions: c.exclusions(), Notes: slices.Clone(c.notes),
		Driver: driver, Properties: map[string]string{
			"server version": versionName(c.record.Server), "client": c.dump.String(), "bootstrap role": c.record.Bootstrap},
	}
	if c.record.Preload != "" {
		facts.Properties["shared_preload_libraries"] = c.record.Preload
	}
	for _, s := range c.snapshots {
		properties := s.database.properties()
		properties["snapshot"], properties["lsn"] = s.id, s.lsn
		for key, value := range properties {
			facts.Properties[s.database.Prefix+key] = value
		}
		if s.taken.Before(facts.Taken) {
			facts.Taken = s.taken
		}
	}
	for _, item := range c.items {
		facts.Facts = append(facts.Facts, c.whole[item.Name]...)
	}
	return facts, nil
}

// exclusions tell what was left out, in the words of the configuration.
func (c *capture) exclusions() []string {
	var list []string
	add := func(words string, patterns []string) {
		for _, pattern := range patterns {
			list = append(list, words+" "+pattern)
		}
	}
	add("only tables", c.opt.IncludeTables)
	add("only schemas", c.opt.IncludeSchemas)
	add("without tables", c.opt.ExcludeTables)
	add("without the rows of tables", c.opt.ExcludeTableData)
	add("without schemas", c.opt.ExcludeSchemas)
	if len(c.opt.IncludeTables)+len(c.opt.IncludeSchemas) > 0 {
		list = append(list, "without large objects, and of other objects only what belongs to the included ones")
	}
	if slices.Contains(c.record.Filters, noUnlogged) {
		list = append(list, "without the rows of unlogged tables: the server is a standby")
	}
	if c.opt.SkipGlobals {
		list = append(list, "without globals (roles, tablespaces)")
	}
	return list
}

const noUnlogged = "--no-unlogged-table-data"

// filters are the arguments of pg_dump that leave things out.
func (opt Options) filters() []string {
	var args []string
	for _, f := range []struct {
		flag     string
		patterns []string
	}{
		{"--table=", opt.IncludeTables}, {"--exclude-table=", opt.ExcludeTables},
		{"--exclude-table-data=", opt.ExcludeTableData},
		{"--schema=", opt.IncludeSchemas}, {"--exclude-schema=", opt.ExcludeSchemas},
	} {
		for _, pattern := range f.patterns {
			args = append(args, f.flag+pattern)
		}
	}
	return args
}

// filtersOf are the arguments for one database. A dump of some tables or schemas leaves out all extensions unless they
// are named, and then lacks the types of its columns.
func (r record) filtersOf(d database) []string {
	args := slices.Clone(r.Filters)
	if r.included() && r.Client >= 14 {
		for _, e := range d.Extensions {
			args = append(args, "--extension="+pgclient.QuoteIdent(e.Name))
		}
	}
	return args
}

// filter reads the arguments back.
func (r record) filter() (filter, error) {
	var opt Options
	for _, arg := range r.Filters {
		for flag, target := range map[string]*[]string{"--table=": &opt.IncludeTables, "--exclude-table=": &opt.ExcludeTables,
			"--schema=": &opt.IncludeSchemas, "--exclude-schema=": &opt.ExcludeSchemas} {
			if word, found := strings.CutPrefix(arg, flag); found {
				*target = append(*target, word)
			}
		}
	}
	return opt.filter()
}

// Close ends the snapshots. A snapshot whose dump is complete has done its work: that its session was lost afterwards
// takes nothing from what was read.
func (c *capture) Close() error {
	c.mu.Lock()
	whole, closed := maps.Clone(c.whole), c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, s := range c.snapshots {
		err := s.close()
		if _, complete := whole[s.database.Dump]; !complete {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// release closes what was opened before an error.
func (c *capture) release() {
	for _, s := range c.snapshots {
		s.conn.Close() // after an error that says more
	}
}
