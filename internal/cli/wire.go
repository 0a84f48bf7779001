package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/engine"
	"holdfast/internal/foreign"
	"holdfast/internal/sandbox"
	"holdfast/internal/scratch"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/sqlite"
)

// signer loads the host's signing key, and makes it when there is none yet.
func (a *app) signer(cfg *config.Config) (*seal.Signer, error) {
	text, err := os.ReadFile(cfg.Signer)
	if errors.Is(err, os.ErrNotExist) {
		private, public, err := seal.NewSigner()
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(cfg.Signer), 0o700); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("make the folder of the signing key: %w", err), "choose another state folder with --state or HOLDFAST_STATE")
		}
		if err := durable.CreateFile(cfg.Signer, []byte(private.Reveal()), 0o600); err != nil {
			return nil, fmt.Errorf("write the signing key: %w", err)
		}
		if err := durable.WriteFile(cfg.Signer+".pub", []byte(public+"\n"), 0o644); err != nil {
			return nil, fmt.Errorf("write the signing key: %w", err)
		}
		s, err := seal.ParseSigner(private)
		if err != nil {
			return nil, err
		}
		a.printer.say("made this host's signing key " + cfg.Signer + ", " + s.PublicKey().Fingerprint())
		return s, nil
	}
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("read the signing key: %w", err), "run as the user that owns it, or choose another with --state")
	}
	return seal.ParseSigner(holdfast.NewSecret(string(text)))
}

// sealing says how the items of a job are sealed.
func sealing(ctx context.Context, job config.Job) (seal.Options, error) {
	opt := seal.Options{
		Compression: seal.Compression(job.Compression), Level: job.Level, Workers: job.Workers, Plain: job.Seal == config.SealNone,
	}
	recipients, err := recipientsOf(ctx, job.Recipients)
	if err != nil {
		return seal.Options{}, err
	}
	opt.Recipients = recipients
	return opt, nil
}

func recipientsOf(ctx context.Context, keys []config.Key) ([]seal.Recipient, error) {
	var recipients []seal.Recipient
	var seen []string
	for _, key := range keys {
		if !key.Passphrase.IsZero() {
			secret, err := key.Passphrase.Resolve(ctx)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", key.Name, err)
			}
			passphrase, err := seal.NewPassphraseFor(key.Format, secret)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", key.Name, err)
			}
			recipients = append(recipients, passphrase)
			continue
		}
		for _, text := range key.Recipients {
			if slices.Contains(seen, text) {
				continue // two keys of the configuration may name one
			}
			seen = append(seen, text)
			recipient, err := seal.ParseRecipient(text)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", key.Name, err)
			}
			recipients = append(recipients, recipient)
		}
	}
	return recipients, nil
}

// namedSources builds the sources of a job.
func (a *app) namedSources(ctx context.Context, cfg *config.Config, list []config.Source) ([]engine.NamedSource, error) {
	var sources []engine.NamedSource
	for _, src := range list {
		built, err := a.newSource(ctx, cfg, src)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", src.Name, err)
		}
		sources = append(sources, engine.NamedSource{Name: src.Name, Kind: src.Kind, Secret: src.Secret, Optional: src.Optional, Source: built})
	}
	return sources, nil
}

func (a *app) newSource(ctx context.Context, cfg *config.Config, src config.Source) (source.Source, error) {
	switch src.Kind {
	case holdfast.KindPostgres:
		opt, err := a.postgresOptions(ctx, cfg, src)
		if err != nil {
			return nil, err
		}
		return postgres.New(opt), nil
	case holdfast.KindSQLite:
		return sqlite.New(sqlite.Options{Name: src.Name, Path: src.SQLite.Path, MaxLock: src.SQLite.MaxLock}), nil
	case holdfast.KindFiles:
		return files.New(filesOptions(src)), nil
	}
	return nil, fmt.Errorf("%w: sources of kind %q are not known", holdfast.ErrUsage, src.Kind)
}

func filesOptions(src config.Source) files.Options {
	opt := files.Options{
		Name: src.Name, Excludes: src.Files.Exclude, OneFilesystem: src.Files.OneFilesystem,
		TolerateUnreadable: src.Files.TolerateUnreadable, Secret: src.Secret,
	}
	for _, root := range src.Files.Paths {
		opt.Roots = append(opt.Roots, files.Root{Path: root.Path, Optional: root.Optional})
	}
	return opt
}

func (a *app) postgresOptions(ctx context.Context, cfg *config.Config, src config.Source) (postgres.Options, error) {
	password, err := a.postgresPassword(ctx, cfg, src.Postgres)
	if err != nil {
		return postgres.Options{}, err
	}
	pg := src.Postgres
	return postgres.Options{
		Name: src.Name, URL: holdfast.NewSecret(pg.Conn), Password: password, Env: a.postgresEnv(cfg), Engine: cfg.Engine,
		AllDatabases: pg.AllDatabases, IncludeTables: pg.IncludeTables, ExcludeTables: pg.ExcludeTables,
		ExcludeTableData: pg.ExcludeTableData, IncludeSchemas: pg.IncludeSchemas, ExcludeSchemas: pg.ExcludeSchemas,
		SkipGlobals: !pg.Globals, LockWait: pg.LockWait, Stall: pg.Stall, BinDirs: cfg.DrillFor(cfg.Selected).BinDirs, Path: a.env("PATH"),
	}, nil
}

func (a *app) postgresPassword(ctx context.Context, cfg *config.Config, pg config.Postgres) (holdfast.Secret, error) {
	if !pg.Password.IsZero() {
		return pg.Password.Resolve(ctx)
	}
	return hostPassword(cfg, pg.Conn), nil
}

func (a *app) postgresEnv(cfg *config.Config) map[string]string {
	env := map[string]string{}
	for name, value := range cfg.PostgresEnv {
		env[name] = value
	}
	if home := a.env("HOME"); home != "" {
		env["HOME"] = home
	}
	return env
}

// env is the value of a variable that is not ours or PostgreSQL's.
func (a *app) env(name string) string {
	for _, pair := range a.Environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// scratchFolder makes a folder to restore into, which is the caller's to close.
func (a *app) scratchFolder(how config.Drill, need int64) (*scratch.Folder, error) {
	folder, err := scratch.Open(scratch.Options{Dir: how.Scratch, AllowDisk: how.AllowDiskScratch, Need: need})
	if err != nil {
		return nil, err
	}
	for _, path := range folder.Left {
		a.printer.warn("removed " + path + ", in which a drill that was killed had left what it restored")
	}
	return folder, nil
}

// throwaways makes the places of a drill, each in a scratch folder of its own that goes away with it.
func (a *app) throwaways(cfg *config.Config, drill config.Drill) func(context.Context, source.Stored, holdfast.Observer) (source.Place, error) {
	return func(ctx context.Context, stored source.Stored, observe holdfast.Observer) (source.Place, error) {
		if place, inside, err := a.contained(ctx, cfg, drill, stored, observe); inside || err != nil {
			return place, err
		}
		folder, err := a.scratchFolder(drill, scratchNeed(stored))
		if err != nil {
			return nil, err
		}
		place, err := a.throwaway(ctx, drill, folder.Path, stored, observe)
		if err != nil {
			return nil, errors.Join(err, folder.Close())
		}
		return &scratchPlace{Place: place, folder: folder}, nil
	}
}

func (a *app) throwaway(ctx context.Context, drill config.Drill, dir string, stored source.Stored, observe holdfast.Observer) (source.Place, error) {
	switch stored.Kind {
	case holdfast.KindPostgres:
		return postgres.Throwaway(ctx, postgres.DrillOptions{Scratch: dir, BinDirs: drill.BinDirs, Path: a.env("PATH")}, stored, observe)
	case holdfast.KindSQLite:
		return sqlite.Throwaway(ctx, dir, stored)
	case holdfast.KindFiles:
		return files.Throwaway(ctx, dir, stored)
	}
	return nil, fmt.Errorf("%w: sources of kind %q are not known to this holdfast", holdfast.ErrCannotTest, stored.Kind)
}

// contained makes the throwaway server of a drill in a container, if that is where it is to be.
func (a *app) contained(ctx context.Context, cfg *config.Config, drill config.Drill, stored source.Stored, observe holdfast.Observer) (place source.Place, inside bool, err error) {
	if stored.Kind != holdfast.KindPostgres || drill.Container == config.ContainerNever {
		return nil, false, nil
	}
	opt := postgres.DrillOptions{BinDirs: drill.BinDirs, Path: a.env("PATH"), Engine: cfg.Engine, Image: drill.Image}
	if inside = drill.Container == config.ContainerAlways; !inside {
		if inside, err = postgres.NeedsContainer(ctx, opt, stored); err != nil || !inside {
			return nil, false, err
		}
	}
	need := scratchNeed(stored)
	if free := scratch.Memory(); free < need {
		return nil, true, holdfast.WithHint(fmt.Errorf("%w: %d MB of memory are free, and a drill in a container needs %d MB", holdfast.ErrCannotTest, free>>20, need>>20),
			"drill on a host with more memory, or with PostgreSQL's server programs installed and a scratch folder on an encrypted volume")
	}
	place, err = postgres.ThrowawayContainer(ctx, opt, need, stored, observe)
	if err != nil {
		if drill.Container == config.ContainerAuto {
			err = holdfast.WithHint(fmt.Errorf("this machine has no server of that version, and for one in a container: %w", err), holdfast.Hint(err))
		}
		return nil, true, err
	}
	return place, true, nil
}

// scratchNeed is a generous bound of what a source takes when it is restored: indexes, and a cluster's own files.
func scratchNeed(stored source.Stored) int64 {
	var plain int64
	for _, item := range stored.Items {
		plain += item.Size
	}
	if stored.Kind == holdfast.KindPostgres {
		return plain + plain/2 + 256<<20
	}
	return plain + plain/10 + 16<<20
}

// scratchPlace is a throwaway whose folder goes away with it.
type scratchPlace struct {
	source.Place
	folder *scratch.Folder
}

func (s *scratchPlace) Close() error { return errors.Join(s.Place.Close(), s.folder.Close()) }

// Assert passes an assertion on to the place, if it takes any.
func (s *scratchPlace) Assert(ctx context.Context, query string) (bool, error) {
	asserter, ok := s.Place.(source.Asserter)
	if !ok {
		return false, fmt.Errorf("%w: this kind of source takes no assertions", holdfast.ErrCannotTest)
	}
	return asserter.Assert(ctx, query)
}

// destination is where one source of a backup goes.
type destination struct {
	stored    source.Stored
	to        string // connection string, file or folder
	folder    string // in which several are put side by side; made when it is not there
	name      string // what a person types to overwrite it: the database's name, or the path
	overwrite bool
	exists    bool
	withRoles bool
	only      []string
	units     []files.Unit // of files that go back where they were; else none
	tables    []string     // of a database that single tables are taken from; else none
	password  holdfast.Secret
	remarks   []string // of the plan, for a person
}

// cluster reports whether the source is all databases of a cluster.
func (d destination) cluster() bool {
	databases := 0
	for _, item := range d.stored.Items {
		if d.stored.Kind == holdfast.KindPostgres && strings.HasSuffix(item.Name, ".create.sql") {
			databases++
		}
	}
	return databases > 1
}

// open makes the place of a restore.
func (a *app) open(ctx context.Context, cfg *config.Config, d destination, id holdfast.BackupID, observe holdfast.Observer) (source.Place, error) {
	warn := func(message string) {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Source: d.stored.Source, Message: message})
	}
	switch d.stored.Kind {
	case holdfast.KindPostgres:
		database := d.name
		if d.cluster() {
			database = ""
		}
		target := postgres.Target{
			URL: holdfast.NewSecret(d.to), Password: d.password, Env: a.postgresEnv(cfg), Engine: cfg.Engine, Database: database, Overwrite: d.overwrite,
			WithRoles: d.withRoles, ID: string(id), Now: a.Now().UTC(), Path: a.env("PATH"),
		}
		if len(d.tables) > 0 {
			target.Database = d.name
			return postgres.OpenTables(ctx, postgres.TableTarget{Target: target, Tables: d.tables}, observe)
		}
		return postgres.Open(ctx, target, observe)
	case holdfast.KindSQLite:
		if len(d.tables) > 0 {
			return sqlite.OpenTables(ctx, sqlite.Target{Path: d.to, Warn: warn}, d.tables)
		}
		return sqlite.Open(ctx, sqlite.Target{Path: d.to, Overwrite: d.overwrite, Warn: warn})
	case holdfast.KindFiles:
		if len(d.units) > 0 {
			return files.OpenInPlace(ctx, d.stored, files.InPlaceTarget{Only: d.only, Now: a.Now(), Warn: warn})
		}
		return files.Open(ctx, files.Target{Dir: d.to, Overwrite: d.overwrite, Only: d.only, Secret: d.stored.Secret, Warn: warn})
	}
	return nil, fmt.Errorf("%w: sources of kind %q are not known to this holdfast", holdfast.ErrUsage, d.stored.Kind)
}

// standing is the source that captures what stands at a destination, for the copy kept before an overwrite.
func (a *app) standing(cfg *config.Config, d destination) engine.NamedSource {
	named := engine.NamedSource{Name: d.stored.Source, Kind: d.stored.Kind, Secret: d.stored.Secret}
	switch d.stored.Kind {
	case holdfast.KindPostgres:
		named.Source = postgres.New(postgres.Options{
			Name: d.stored.Source, URL: holdfast.NewSecret(d.to), Password: d.password, Env: a.postgresEnv(cfg), Engine: cfg.Engine, Path: a.env("PATH"),
			AllDatabases: d.cluster(),
		})
	case holdfast.KindSQLite:
		named.Source = sqlite.New(sqlite.Options{Name: d.stored.Source, Path: d.to})
	case holdfast.KindFiles:
		named.Source = files.New(files.Options{Name: d.stored.Source, Roots: d.roots()})
	}
	return named
}

// unitsOf tells where the files of stored were, and what stands there.
func unitsOf(stored source.Stored, only []string) ([]files.Unit, error) {
	return files.Units(stored, only)
}

// roots are the files that a destination is made of: those that a restore would replace.
func (d destination) roots() []files.Root {
	if len(d.units) == 0 {
		return []files.Root{{Path: d.to}}
	}
	var all []files.Root
	for _, unit := range d.units {
		if unit.Exists {
			all = append(all, files.Root{Path: unit.Path})
		}
	}
	return all
}

// rawBytes captures the files of a destination as they lie on disk, for one that is too damaged to be read by its own
// program, or in part. Of a database they may lie where this host cannot read them. about says what was taken.
func (a *app) rawBytes(ctx context.Context, cfg *config.Config, d destination, dataFolder string) (raw engine.NamedSource, about string, err error) {
	opt := files.Options{Name: d.stored.Source, TolerateUnreadable: true}
	switch d.stored.Kind {
	case holdfast.KindFiles:
		opt.Roots, about = d.roots(), "raw files"
	case holdfast.KindSQLite:
		opt.Roots, about = d.roots(), "raw files, unproven"
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			opt.Roots = append(opt.Roots, files.Root{Path: d.to + suffix, Optional: true})
		}
	case holdfast.KindPostgres:
		var found postgres.Raw
		if dataFolder != "" {
			found, err = postgres.RawFolder(dataFolder)
		} else {
			database := d.name
			if d.cluster() {
				database = ""
			}
			found, err = postgres.RawFiles(ctx, postgres.Target{URL: holdfast.NewSecret(d.to), Password: d.password, Env: a.postgresEnv(cfg), Engine: cfg.Engine}, database)
		}
		if err != nil {
			return raw, "", err
		}
		opt.Roots, about = rawRoots(found)
	}
	return engine.NamedSource{Name: d.stored.Source, Kind: holdfast.KindFiles, Secret: d.stored.Secret, Source: files.New(opt)}, about, nil
}

// rawFolder captures a whole data folder of a PostgreSQL server.
func rawFolder(stored source.Stored, dir string) (raw engine.NamedSource, about string, err error) {
	found, err := postgres.RawFolder(dir)
	if err != nil {
		return raw, "", err
	}
	roots, about := rawRoots(found)
	opt := files.Options{Name: stored.Source, TolerateUnreadable: true, Roots: roots}
	return engine.NamedSource{Name: stored.Source, Kind: holdfast.KindFiles, Secret: stored.Secret, Source: files.New(opt)}, about, nil
}

func rawRoots(found postgres.Raw) (roots []files.Root, about string) {
	for _, path := range found.Paths {
		roots = append(roots, files.Root{Path: path})
	}
	if found.Running {
		return roots, "raw files of a server that runs, torn, unproven"
	}
	return roots, "raw files of a server that does not run, unproven"
}

// databaseOf is the database that a connection string names, and whether it exists on its server.
func (a *app) databaseOf(ctx context.Context, cfg *config.Config, conn string, password holdfast.Secret) (string, bool, error) {
	return postgres.Lookup(ctx, postgres.Target{URL: holdfast.NewSecret(conn), Password: password, Env: a.postgresEnv(cfg), Engine: cfg.Engine})
}

// liveSource is the live source that stored is compared with: at text, or for "" as configured, or for files where they were.
func (a *app) liveSource(ctx context.Context, cfg *config.Config, stored source.Stored, text string, password holdfast.Secret) (source.Source, string, error) {
	switch stored.Kind {
	case holdfast.KindPostgres:
		opt := postgres.Options{URL: holdfast.NewSecret(text), Password: password, Env: a.postgresEnv(cfg), Engine: cfg.Engine, BinDirs: cfg.DrillFor(cfg.Selected).BinDirs, Path: a.env("PATH")}
		if text == "" {
			src, err := configured(cfg, stored)
			if err != nil {
				return nil, "", err
			}
			if opt, err = a.postgresOptions(ctx, cfg, src); err != nil {
				return nil, "", err
			}
		}
		live, err := postgres.Alike(stored, opt)
		if err != nil {
			return nil, "", err
		}
		where, err := live.Where()
		return live, where, err
	case holdfast.KindSQLite:
		opt := sqlite.Options{Name: stored.Source, Path: text}
		if text == "" {
			src, err := configured(cfg, stored)
			if err != nil {
				return nil, "", err
			}
			opt.Path, opt.MaxLock = src.SQLite.Path, src.SQLite.MaxLock
		}
		return sqlite.New(opt), opt.Path, nil
	case holdfast.KindFiles:
		if text != "" {
			return nil, "", holdfast.WithHint(fmt.Errorf("%w: files are compared where they were, and not with %s", holdfast.ErrUsage, text), "write --against "+string(stored.Source))
		}
		live, err := files.Alike(stored)
		return live, "the files where they were", err
	}
	return nil, "", fmt.Errorf("%w: sources of kind %q are not known to this holdfast", holdfast.ErrUsage, stored.Kind)
}

// subject is a file of another tool that was read to its end, as the drivers see it.
type subject struct {
	file   *foreign.File
	read   engine.File
	script postgres.Script // of SQL, and of archives of pg_dump
	tar    files.Foreign
}

// survey reads a file to its end: SQL is lexed, a tar is listed, an image is hashed.
func (a *app) survey(ctx context.Context, how config.Drill, file *foreign.File, ff *fileFlags) (*subject, error) {
	s := &subject{file: file}
	kind, name, open := holdfast.KindPostgres, "file.sql", file.Reader
	var err error
	switch {
	case file.Content == foreign.Tar:
		kind, name = holdfast.KindFiles, "file.tar"
		err = reading(ctx, open, func(r io.Reader) error {
			s.tar, err = files.Survey(ctx, r, file.Bound())
			return err
		})
		s.read.Stored.Facts, s.read.Notes = s.tar.Facts, s.tar.Facts.Notes
	case file.Content == foreign.SQLite:
		kind, name = holdfast.KindSQLite, "file.sqlite"
		err = reading(ctx, open, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		sums, _ := file.Sums()
		s.read.Stored.Facts = sqlite.Told(sums.PlainSize, sums.PlainSHA256)
	case file.Content.Database():
		if file.Content != foreign.SQL {
			open = a.unpacked(how, file, ff)
		}
		counted := &counting{}
		s.script.Script, err = postgres.ReadScript(ctx, func(ctx context.Context) (io.ReadCloser, error) { return counted.open(ctx, open) })
		s.script.Trusted, s.script.WantMajor = ff.trust, ff.major
		s.read.Stored.Facts = source.Facts{Kind: kind, Facts: s.script.Tables}
		s.read.Uncounted = s.script.Uncounted
		s.read.Stored.Items = []source.StoredItem{{Size: counted.n}}
	default:
		return nil, refuse(file)
	}
	if err != nil {
		return nil, err
	}
	s.read.Stored.Source, s.read.Stored.Kind = engine.FileSource, kind
	if len(s.read.Stored.Items) == 0 {
		sums, _ := file.Sums()
		s.read.Stored.Items = []source.StoredItem{{Size: sums.PlainSize}}
	}
	s.read.Stored.Items[0].Name, s.read.Stored.Items[0].Open = name, open
	return s, nil
}

// reading has read see all of what open opens.
func reading(ctx context.Context, open func(context.Context) (io.ReadCloser, error), read func(io.Reader) error) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	err = read(r)
	return joinClose(err, r.Close())
}

// counting counts the bytes of a stream.
type counting struct {
	io.ReadCloser
	n int64
}

func (c *counting) open(ctx context.Context, open func(context.Context) (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := open(ctx)
	c.ReadCloser = r
	return c, err
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// unpacked lets pg_restore turn an archive into SQL, in a scratch folder of its own.
func (a *app) unpacked(how config.Drill, file *foreign.File, ff *fileFlags) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		archive := postgres.Archive{Open: file.Reader}
		need := int64(16 << 20)
		if file.Content == foreign.PgDirectory {
			members, err := file.Members()
			if err != nil {
				return nil, err
			}
			for _, m := range members {
				need += m.Size
			}
			archive = postgres.Archive{Files: func(ctx context.Context, each func(string, io.Reader) error) error {
				return file.Walk(ctx, func(m foreign.Member, r io.Reader) error { return each(m.Name, r) })
			}}
		}
		folder, err := a.scratchFolder(how, need)
		if err != nil {
			return nil, err
		}
		// Whoever vouches for a file lets pg_restore read it where no sandbox can be built.
		opt := postgres.DrillOptions{Scratch: folder.Path, BinDirs: how.BinDirs, Path: a.env("PATH"), Unsandboxed: ff.trust && sandbox.Available() != nil}
		r, err := postgres.Unpack(ctx, opt, archive)
		if err != nil {
			return nil, errors.Join(err, folder.Close())
		}
		return &unpacking{r, folder}, nil
	}
}

type unpacking struct {
	io.ReadCloser
	folder *scratch.Folder
}

func (u *unpacking) Close() error { return errors.Join(u.ReadCloser.Close(), u.folder.Close()) }

// fileThrowaway makes the place of a drill of a file, in a scratch folder that goes away with it.
func (a *app) fileThrowaway(ctx context.Context, how config.Drill, s *subject, observe holdfast.Observer) (source.Place, error) {
	need := scratchNeed(s.read.Stored)
	if s.read.Stored.Kind == holdfast.KindFiles {
		need = max(need, s.tar.Bytes+16<<20)
	}
	folder, err := a.scratchFolder(how, need)
	if err != nil {
		return nil, err
	}
	var place source.Place
	switch s.read.Stored.Kind {
	case holdfast.KindPostgres:
		place, err = postgres.ThrowawayScript(ctx, postgres.DrillOptions{Scratch: folder.Path, BinDirs: how.BinDirs, Path: a.env("PATH")}, s.script, s.read.Stored, observe)
	case holdfast.KindSQLite:
		place, err = sqlite.Throwaway(ctx, folder.Path, s.read.Stored)
	default:
		var p *files.Place
		if p, err = files.Throwaway(ctx, folder.Path, s.read.Stored); err == nil {
			place = s.tar.Adapted(p)
		}
	}
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return &scratchPlace{Place: place, folder: folder}, nil
}

// filePlace makes the place of a restore of a file.
func (a *app) filePlace(ctx context.Context, cfg *config.Config, s *subject, d destination) (source.Place, error) {
	warn := func(message string) { a.printer.warn(message) }
	switch s.read.Stored.Kind {
	case holdfast.KindPostgres:
		return postgres.OpenScript(ctx, postgres.Target{
			URL: holdfast.NewSecret(d.to), Password: d.password, Env: a.postgresEnv(cfg), Database: d.name, Overwrite: d.overwrite, WithRoles: d.withRoles,
			Engine: cfg.Engine, Now: a.Now().UTC(), BinDirs: cfg.DrillFor(cfg.Selected).BinDirs, Path: a.env("PATH"),
		}, s.script, a.printer.observe)
	case holdfast.KindSQLite:
		return sqlite.Open(ctx, sqlite.Target{Path: d.to, Overwrite: d.overwrite, Warn: warn})
	}
	p, err := files.Open(ctx, files.Target{Dir: d.to, Overwrite: d.overwrite, Only: d.only, Warn: warn})
	if err != nil {
		return nil, err
	}
	return s.tar.Adapted(p), nil
}

// clusterPlan is what a restore of the dump of a whole cluster will do on its server.
func (a *app) clusterPlan(ctx context.Context, cfg *config.Config, s *subject, d destination) (postgres.ClusterPlan, error) {
	return postgres.PlanCluster(ctx, postgres.Target{URL: holdfast.NewSecret(d.to), Password: d.password, Env: a.postgresEnv(cfg), Engine: cfg.Engine,
		Overwrite: d.overwrite, BinDirs: cfg.DrillFor(cfg.Selected).BinDirs, Path: a.env("PATH")}, s.script)
}

// liveFile is the live source at text that a file is compared with.
func (a *app) liveFile(cfg *config.Config, kind holdfast.Kind, text string, password holdfast.Secret) (source.Source, string, error) {
	switch {
	case kind == holdfast.KindPostgres && isConnection(text):
		live := postgres.New(postgres.Options{Name: engine.FileSource, URL: holdfast.NewSecret(text), Password: password, Env: a.postgresEnv(cfg),
			SkipGlobals: true, BinDirs: cfg.DrillFor(cfg.Selected).BinDirs, Path: a.env("PATH")})
		where, err := live.Where()
		return live, where, err
	case kind == holdfast.KindSQLite && !isConnection(text):
		return sqlite.New(sqlite.Options{Name: engine.FileSource, Path: text}), text, nil
	}
	return nil, "", holdfast.WithHint(fmt.Errorf("%w: --against does not fit what the file holds (%s)", holdfast.ErrUsage, kind), "give a connection string for a database, a path for SQLite; a tar is not compared")
}
