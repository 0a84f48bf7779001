package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/foreign"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

// fileHelp says in each command what else it takes.
const fileHelp = "In place of an ID it takes a file of another tool: SQL, pg_dump -Fc, -Ft and -Fd, tar, SQLite; compressed by gzip,\n" +
	"zstd, xz or bzip2, sealed by gpg, openssl or age, all of it told by content. What exists as a file, or has a slash, is one."

// fileFlags are the flags of what takes a file of another tool.
type fileFlags struct {
	trust      bool
	iterations int
	major      int
}

func (f *fileFlags) add(cmd *cobra.Command, runs bool) {
	flags := cmd.Flags()
	flags.IntVar(&f.iterations, "iterations", 0, "the -iter `N` that a file of openssl enc was made with (default: openssl's own 10000, and ours)")
	flags.BoolVar(&f.trust, "trust", false, "take a file that unpacks to more than a thousand times its size")
	if runs {
		flags.Lookup("trust").Usage = "let SQL of another tool run programs and psql's own commands, and take a file that unpacks to more than a thousand times its size"
		flags.IntVar(&f.major, "major", 0, "PostgreSQL `VERSION` to drill a file on (default: the one it was dumped from)")
	}
}

// isFile tells a file from an ID.
func isFile(argument string) bool {
	if strings.Contains(argument, "/") {
		return true
	}
	_, err := os.Lstat(argument)
	return err == nil
}

// joinClose keeps the error of closing where there is no other.
func joinClose(err, closeErr error) error {
	if err == nil {
		return closeErr
	}
	return err
}

// openFile recognises a file with the identities that were given.
func (a *app) openFile(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, path string) (*foreign.File, error) {
	identities, err := a.identities(ctx, cfg, f)
	if err != nil {
		return nil, err
	}
	return foreign.Open(ctx, path, foreign.Options{Identities: identities, Iterations: ff.iterations, Trust: ff.trust})
}

// fileDrill is one drill of a file.
type fileDrill struct {
	path       string
	assertions []engine.Assertion
	dir        string // of the report
	live       *againstFlags
	imported   string // what is said of its import
	want       string // the SHA-256 that it must have, "" for any
}

func (a *app) drillFile(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, w fileDrill) error {
	d, err := a.runFileDrill(ctx, cfg, f, ff, &w)
	if d.Verdict == "" {
		return err
	}
	path, reportErr := writeReport(w.dir, &d)
	if reportErr != nil {
		return reportErr
	}
	a.showFileDrill(&d, path)
	return err
}

func (a *app) runFileDrill(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, w *fileDrill) (report.Drill, error) {
	for _, assertion := range w.assertions {
		if assertion.Source != engine.FileSource {
			return report.Drill{}, holdfast.WithHint(fmt.Errorf("%w: a file holds no source %q, which an assertion names", holdfast.ErrUsage, assertion.Source), "its source is called file")
		}
	}
	info, err := os.Stat(w.path)
	if err != nil {
		return report.Drill{}, holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err), "check the path; without a slash, what is no file is taken for the ID of a backup")
	}
	path, err := filepath.Abs(w.path)
	if err != nil {
		return report.Drill{}, fmt.Errorf("find %s: %w", w.path, err)
	}
	if w.dir == "" {
		w.dir = filepath.Join(cfg.State, "reports")
	}
	if _, err := a.identities(ctx, cfg, f); err != nil {
		return report.Drill{}, err
	}
	how := cfg.DrillFor(cfg.Selected)
	about := &report.File{Path: path, Size: info.Size(), Made: foreign.TimeOf(path, info.ModTime()), Imported: w.imported}
	var s *subject
	plan := engine.FilePlan{
		About: about, Assertions: w.assertions, Who: a.who(), Host: cfg.Host, Version: a.Version, Every: how.Every, Clock: a.Now,
		Read: func(ctx context.Context) (engine.File, error) {
			var err error
			s, err = a.readFile(ctx, cfg, f, ff, w.path, about)
			if err == nil && w.want != "" && about.SHA256 != w.want {
				err = changedSince(path)
			}
			if err != nil {
				return engine.File{}, err
			}
			return s.read, nil
		},
		Place: func(ctx context.Context, observe holdfast.Observer) (source.Place, error) {
			return a.fileThrowaway(ctx, how, s, observe)
		},
	}
	if ff.trust {
		plan.Opted = append(plan.Opted, "the file was trusted: what it runs beyond its database was let run in the sandbox")
	}
	if how.AllowDiskScratch {
		plan.Opted = append(plan.Opted, "a scratch folder on a plain disk was allowed: "+how.Scratch)
	}
	if len(w.live.texts) > 0 {
		if plan.Living, err = a.livingFile(ctx, cfg, w.live); err != nil {
			return report.Drill{}, err
		}
	}
	return engine.DrillFile(ctx, plan, a.printer.observe)
}

// livingFile resolves the one live source that a file can be compared with.
func (a *app) livingFile(ctx context.Context, cfg *config.Config, f *againstFlags) (engine.Living, error) {
	if len(f.texts) > 1 {
		return nil, fmt.Errorf("%w: a file is compared with one live source", holdfast.ErrUsage)
	}
	password := cfg.PostgresPassword
	if f.passwordFile != "" {
		var err error
		if password, err = config.SecretFile(f.passwordFile).Resolve(ctx); err != nil {
			return nil, err
		}
	}
	text := strings.TrimPrefix(f.texts[0], string(engine.FileSource)+"=")
	return func(_ context.Context, stored source.Stored) (source.Source, string, error) {
		return a.liveFile(cfg, stored.Kind, text, password)
	}, nil
}

// readFile reads a file to its end and tells what it is.
func (a *app) readFile(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, path string, about *report.File) (s *subject, err error) {
	file, err := a.openFile(ctx, cfg, f, ff, path)
	if file != nil {
		about.What = file.String()
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = joinClose(err, file.Close()) }()
	s, err = a.survey(ctx, cfg.DrillFor(cfg.Selected), file, ff)
	about.Unauthenticated, about.Weak = file.Unauthenticated, file.Weak
	if sums, whole := file.Sums(); whole {
		about.Size, about.SHA256, about.Plain = sums.Size, sums.SHA256, sums.PlainSize
	}
	if err != nil {
		return nil, err
	}
	about.From = s.from()
	s.script.Unauthenticated, s.read.Unopened = file.Unauthenticated, file.Dumps()
	return s, nil
}

func (a *app) showFileDrill(d *report.Drill, path string) {
	failing, _, compared := d.Differences()
	if a.flags.json {
		a.printEvent("drill", map[string]any{"file": d.File.Path, "what": d.File.What, "sha256": d.File.SHA256, "size": d.File.Size, "made": d.File.Made,
			"from": d.File.From, "holds": d.File.Holds, "unauthenticated": d.File.Unauthenticated, "weak": d.File.Weak, "verdict": d.Verdict, "compared": compared, "differences": failing,
			"drift": driftJSON(engine.FileSource, d.Sources[0].Live), "rto_seconds": d.RTO().Seconds(), "report": path})
	} else {
		a.printer.say("")
	}
	for _, check := range d.Checks {
		a.result("  %-11s %-18s %s", check.Name, check.Result, quoted(check.Detail))
	}
	for _, note := range d.Sources[0].Notes {
		a.printer.say("  note: " + quoted(note))
	}
	name := quoted(filepath.Base(d.File.Path))
	if d.File.What != "" {
		name += " (" + d.File.What + ")"
	}
	switch d.Verdict {
	case holdfast.Restores:
		a.result("file %s RESTORES: %s; not compared: nothing was recorded when it was made; RTO %s", name, d.File.Holds, report.Span(d.RTO()))
	default:
		a.result("file %s is %s; RTO %s", name, strings.ToUpper(string(d.Verdict)), report.Span(d.RTO()))
	}
	a.showDrift(engine.FileSource, d.Sources[0].Live)
	a.result("report: %s", path)
}

func changedSince(path string) error {
	return holdfast.WithHint(fmt.Errorf("%w: %s is not what it was when it was imported: its SHA-256 is another one", holdfast.ErrDifference, path),
		"find out what changed it; another copy may be as it was")
}

// restoreFile brings a file of another tool into a new place.
func (a *app) restoreFile(ctx context.Context, cfg *config.Config, f *restoreFlags, path string) error {
	return a.restoreForeign(ctx, cfg, f, path, nil)
}

// restoreForeign restores the file at path, which must still be what it was if it was imported.
func (a *app) restoreForeign(ctx context.Context, cfg *config.Config, f *restoreFlags, path string, imported *foreign.Imported) error {
	if f.latest || len(f.sources) > 0 || f.item != "" || f.inPlace || f.keepRaw != "" || f.hooks {
		return holdfast.WithHint(fmt.Errorf("%w: --latest, --source, --item, --in-place, --keep-raw and --hooks are for backups, and %s is a file", holdfast.ErrUsage, path), "leave them out")
	}
	about := &report.File{}
	a.printer.say("read " + path + " to its end")
	s, err := a.readFile(ctx, cfg, &f.storeFlags, &f.file, path, about)
	if err != nil {
		return err
	}
	if imported != nil && about.SHA256 != imported.SHA256 {
		return changedSince(path)
	}
	d, err := a.fileDestination(ctx, cfg, f, s)
	if err != nil {
		return err
	}
	a.printer.say(fmt.Sprintf("restore %s (%s):", path, about.What))
	what, overwritten := "new", []string(nil)
	var safety func(context.Context) error
	if d.exists {
		kept, err := a.fileSafety(ctx, cfg, f, imported)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil && f.Job != "":
			return err
		case err != nil:
			d.remarks = append(d.remarks, "NO sealed copy of it is kept: "+holdfast.Sentence(err), "it is left under another name beside it, and nowhere else; --job NAME names the job whose store and keys a copy is for")
		default:
			d.remarks = append(d.remarks, kept.about())
			safety = func(ctx context.Context) error {
				return a.withCopy(ctx, kept.cfg, f, kept.job, kept.seal, func(repo *archive.Archive, plan engine.Plan) error {
					return a.keepStanding(ctx, kept.cfg, f, d, "before an overwrite by the file "+filepath.Base(path), repo, plan)
				})
			}
		}
		what, overwritten = "OVERWRITES what is there, which is kept under another name", []string{d.name}
	}
	a.printer.say(fmt.Sprintf("  file (%s) -> %s, %s", s.read.Stored.Kind, d.name, what))
	for _, line := range d.remarks {
		a.printer.say("  " + line)
	}
	a.warnOfSeal(about.Unauthenticated, about.Weak)
	if err := a.agree(ctx, overwritten, f.confirm); err != nil {
		return err
	}
	target := engine.FileTarget{File: s.read, Open: func(ctx context.Context) (source.Place, error) {
		return a.filePlace(ctx, cfg, s, d)
	}, Safety: safety}
	result, holding, err := engine.RestoreFile(ctx, target, a.printer.observe)
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("restore", map[string]any{"file": path, "sha256": about.SHA256, "where": result.Where, "holds": holding, "compared": result.Checked})
	}
	for _, note := range slices.Concat(s.read.Notes, result.Texts) {
		a.printer.say("  note: " + quoted(note))
	}
	a.result("file: restored, %s; %s; nothing was recorded when it was made", result.Where, holding)
	return nil
}

// warnOfSeal tells what the seal of a file does not do.
func (a *app) warnOfSeal(unauthenticated bool, weak string) {
	if unauthenticated {
		a.printer.warn("unauthenticated: openssl enc does not notice changed bytes, what comes out may have been altered")
	}
	if weak != "" {
		a.printer.warn("weak key derivation: " + weak + " (openssl enc without -pbkdf2): whoever has the file can try billions of passphrases a second")
	}
}

// fileDestination decides where a file goes and looks what is there.
func (a *app) fileDestination(ctx context.Context, cfg *config.Config, f *restoreFlags, s *subject) (destination, error) {
	d := destination{stored: s.read.Stored, overwrite: f.overwrite, only: f.paths, password: cfg.PostgresPassword}
	if f.passwordFile != "" {
		var err error
		if d.password, err = config.SecretFile(f.passwordFile).Resolve(ctx); err != nil {
			return d, err
		}
	}
	kind := s.read.Stored.Kind
	if len(f.paths) > 0 && kind != holdfast.KindFiles {
		return d, fmt.Errorf("%w: --path is for a tar, and the file is of kind %s", holdfast.ErrUsage, kind)
	}
	switch {
	case len(f.to) > 1:
		return d, fmt.Errorf("%w: a file goes to one place, and --to was given %d times", holdfast.ErrUsage, len(f.to))
	case len(f.to) == 1:
		d.to = strings.TrimPrefix(f.to[0], string(engine.FileSource)+"=")
	case kind != holdfast.KindPostgres:
		d.to = "restored-" + strings.TrimSuffix(filepath.Base(foreign.BareName(s.file.Path)), ".tar")
	}
	var err error
	switch {
	case kind == holdfast.KindPostgres && !isConnection(d.to):
		return d, holdfast.WithHint(fmt.Errorf("%w: the file holds a database, and no server is given for it", holdfast.ErrUsage), "give --to postgres://USER@HOST/NEW_DATABASE")
	case kind == holdfast.KindPostgres && s.script.Cluster:
		return a.clusterDestination(ctx, cfg, f, s, d)
	case f.withRoles:
		return d, fmt.Errorf("%w: --with-roles is for backups and for dumps of a whole cluster, and the file is none", holdfast.ErrUsage)
	case kind == holdfast.KindPostgres:
		d.name, d.exists, err = a.databaseOf(ctx, cfg, d.to, d.password)
	case isConnection(d.to):
		return d, holdfast.WithHint(fmt.Errorf("%w: the file holds no PostgreSQL database", holdfast.ErrUsage), "give --to a file or a folder")
	default:
		if d.to, err = filled(d.stored, d.to); err == nil {
			d.name = d.to
			d.exists, err = occupied(d.to)
		}
	}
	if err != nil {
		return d, err
	}
	if d.exists && !f.overwrite {
		return d, holdfast.WithHint(fmt.Errorf("%w: the target %s is not empty", holdfast.ErrUsage, d.name),
			"choose a new place with --to, or give --overwrite; what is there is then kept under another name")
	}
	return d, nil
}

// clusterDestination looks at the server that the dump of a whole cluster goes to, and tells what will be done there.
func (a *app) clusterDestination(ctx context.Context, cfg *config.Config, f *restoreFlags, s *subject, d destination) (destination, error) {
	d.withRoles = f.withRoles
	plan, err := a.clusterPlan(ctx, cfg, s, d)
	if err != nil {
		return d, err
	}
	d.name = fmt.Sprintf("%s on %s", quotedList(plan.Databases), plan.Where)
	if plan.Vacant {
		d.remarks = append(d.remarks, "database postgres there is unused: it is kept under another name")
	}
	if len(plan.NewRoles) > 0 {
		d.remarks = append(d.remarks, "roles that are made: "+quotedList(plan.NewRoles))
	}
	if len(plan.OldRoles) > 0 {
		fate := "roles that exist, and stay as they are: "
		if d.withRoles {
			fate = "roles that exist, and are changed to what the dump says once the databases have their names, one after another: "
		}
		d.remarks = append(d.remarks, fate+quotedList(plan.OldRoles))
	}
	d.remarks = append(d.remarks, "all databases take their names at once, when every one was restored and counted, or none does and the roles that were made are removed again",
		"only a restore that is killed leaves something: databases called NAME_restoring_…, and the roles")
	return d, nil
}

func quotedList(names []string) string {
	var list []string
	for _, name := range names {
		list = append(list, quoted(name))
	}
	return strings.Join(list, ", ")
}

// from tells what the file was taken from, in its own words.
func (s *subject) from() string {
	if s.script.Server == "" {
		return ""
	}
	text := "PostgreSQL " + s.script.Server
	if s.script.Client != "" {
		text += ", by pg_dump " + s.script.Client
	}
	return text
}

// refuse tells what a content that is restored by nobody is.
func refuse(file *foreign.File) error {
	if file.Content == foreign.Empty {
		return foreign.Damaged(errors.New("there is nothing in it: whatever was to be backed up had failed"), "take an older one")
	}
	if file.Unauthenticated {
		// The wrong bytes may be no more than its first ones.
		return holdfast.WithHint(fmt.Errorf("%w: %s is %s, or the file was changed: openssl enc does not notice", holdfast.ErrUsage, file.Name(), cmp.Or(file.Remark, "of no kind that is known here")),
			"take another copy of the file, or an older one, and compare")
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s is %s", holdfast.ErrUsage, file.Name(), cmp.Or(file.Remark, "of no kind that is known here")),
		"known are SQL of PostgreSQL, the formats of pg_dump, tar and SQLite, each compressed by gzip, zstd, xz or bzip2 and sealed by gpg, openssl or age")
}
