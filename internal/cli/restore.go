package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/engine"
	"holdfast/internal/source"
)

type restoreFlags struct {
	storeFlags
	file         fileFlags
	latest       bool
	to           []string
	sources      []string
	paths        []string
	tables       []string
	item         string
	overwrite    bool
	inPlace      bool
	withRoles    bool
	confirm      string
	passwordFile string
	keepRaw      string
	hooks        bool
	noHooks      bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	var why whyFlags
	cmd := &cobra.Command{
		Use: "restore [ID|FILE]", Short: "Bring a backup back, into a new place by default", Args: cobra.MaximumNArgs(1),
		Long: "Bring a backup back. Everything is first restored beside its final place and compared with what was recorded; only then\n" +
			"does it take its place, so that a restore that fails changes nothing. Without an ID the backups are listed and one is\n" +
			"asked for; --latest takes the newest.\n\n" +
			"Where to: --to gives a connection string for a database and a folder for files; with several sources of a kind write\n" +
			"--to SOURCE=PLACE for each. Without --to, files and SQLite images go to ./restored-ID.\n\n" +
			"At a terminal the plan is shown and the word RESTORE is asked for, and to overwrite also the name of what is\n" +
			"overwritten. Without a terminal --confirm gives that word or name. What is overwritten is kept, sealed, in the store, and\n" +
			"beside its place under another name.\n\n" + fileHelp +
			" What a file of SQL or of pg_dump holds goes into a new database, a tar into a folder, a SQLite image to a file. What a\n" +
			"file takes the place of is kept beside it, and not in a store.",
		Example: "  holdfast restore --latest --identity key.txt --to postgres://postgres@localhost/app_restored\n" +
			"  holdfast restore 7k2m… --identity key.txt --source config --in-place\n" +
			"  holdfast restore 7k2m… --identity key.txt --source config --path etc/nginx --to /tmp/nginx\n" +
			"  holdfast restore 7k2m… --identity key.txt --table public.users --to postgres://postgres@localhost/app\n" +
			"  holdfast restore 7k2m… --identity key.txt --item app.sql --to app.sql\n" +
			"  holdfast restore old/app.sql.gz.gpg --identity private.asc --to postgres://postgres@localhost/app_restored",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.why(why); err != nil {
				return err
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if len(args) > 0 && isFile(args[0]) {
				return a.restoreFile(cmd.Context(), cfg, &f, args[0])
			}
			return a.restore(cmd.Context(), cfg, &f, args)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	f.file.add(cmd, true)
	why.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.latest, "latest", false, "take the newest backup")
	flags.StringArrayVar(&f.to, "to", nil, "where: `PLACE`, or SOURCE=PLACE; may be given several times")
	flags.StringArrayVar(&f.sources, "source", nil, "only this `SOURCE` of the backup; may be given several times")
	flags.StringArrayVar(&f.paths, "path", nil, "only this file or folder of a files source, named as show --identity names it; may be given several times")
	flags.StringArrayVar(&f.tables, "table", nil, "only this `TABLE`, or SCHEMA.TABLE, into a schema restored_TIME of the database --to, or of a SQLite source into a new file; may be given several times")
	flags.StringVar(&f.item, "item", "", "write one item's plain bytes to the file --to, or to standard output with --to -")
	flags.BoolVar(&f.overwrite, "overwrite", false, "let what is restored take the place of what is there")
	flags.BoolVar(&f.inPlace, "in-place", false, "put files back where they were, all of them or those of --path; what is there is kept beside")
	flags.StringVar(&f.keepRaw, "keep-raw", "", "keep the raw bytes of the target server's data `FOLDER`, sealed, when its database cannot be dumped or it does not start; without --to that is all that is done")
	flags.BoolVar(&f.withRoles, "with-roles", false, "also change roles that exist in the cluster to what they were")
	flags.StringVar(&f.confirm, "confirm", "", "`WORD` typed in advance: RESTORE, or to overwrite the name of the database, file or folder, or with --in-place of the source")
	flags.BoolVar(&f.hooks, "hooks", false, "run the job's hooks although nothing is overwritten")
	flags.BoolVar(&f.noHooks, "no-hooks", false, "run no hooks")
	flags.StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password of the target server (mode 0600; default: PGPASSWORD, the password file)")
	return cmd
}

func (a *app) restore(ctx context.Context, cfg *config.Config, f *restoreFlags, args []string) error {
	repo, err := a.reader(ctx, cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	if len(args) == 0 && !f.latest {
		if args, err = a.askBackup(ctx, cfg, repo, f); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		if old, _, is, err := a.chosenImport(ctx, cfg, &f.storeFlags, repo, args); err != nil || is {
			if err != nil {
				return err
			}
			if err := a.checkImported(ctx, cfg, &f.storeFlags, &f.file, old, holdfast.L0); err != nil {
				return fmt.Errorf("backup %s: %w", old.ID, err)
			}
			return a.restoreForeign(ctx, cfg, f, old.Path(), &old)
		}
	}
	b, err := a.pick(ctx, repo, &f.storeFlags, args)
	if err != nil {
		return err
	}
	all, err := b.Stored(ctx)
	if err != nil {
		return err
	}
	chosen, err := choose(all, f.sources)
	if err != nil {
		return err
	}
	if chosen, err = oneDatabase(f, chosen); err != nil {
		return err
	}
	if f.item != "" {
		a.about.Detail = "item " + f.item
		return a.writeItem(ctx, chosen, f)
	}
	if f.keepRaw != "" && len(f.to) == 0 {
		return a.keepFolder(ctx, cfg, f, b, chosen)
	}
	destinations, err := a.destinations(ctx, cfg, f, b, chosen)
	if err != nil {
		return err
	}
	hooked, note, err := restoreHooks(cfg, b.Entry.Job, destinations, f)
	if err != nil {
		return err
	}
	if err := a.confirm(ctx, b, destinations, note, f.confirm); err != nil {
		return err
	}
	var names []string
	for _, d := range destinations {
		names = append(names, string(d.stored.Source)+" to "+d.name)
	}
	a.about.Detail = strings.Join(names, ", ")
	targets, err := a.targets(cfg, f, b, destinations)
	if err != nil {
		return err
	}
	removeEmpty, err := makeFolders(destinations)
	defer removeEmpty()
	if err != nil {
		return err
	}
	results, err := a.restoreAround(ctx, cfg, hooked, b.Entry.ID, func(ctx context.Context) ([]engine.Restored, error) {
		return engine.Restore(ctx, targets, a.printer.observe)
	})
	for _, result := range results {
		if result.Where == "" {
			continue
		}
		if a.flags.json {
			a.printEvent("restore", map[string]any{"id": b.Entry.ID, "source": result.Source, "where": result.Where, "compared": result.Checked, "texts": result.Texts})
		}
		a.result("%s: restored, %s; %d facts compared, no difference", result.Source, result.Where, result.Checked)
		for _, text := range result.Texts {
			if f.withRoles && strings.HasPrefix(text, "role ") {
				continue // compared before they were changed
			}
			a.printer.say("  " + quoted(text))
		}
	}
	return err
}

// makeFolders makes the folders that hold several sources side by side. The function it returns removes those of them in
// which nothing was put, so that a restore that fails leaves nothing behind.
func makeFolders(destinations []destination) (removeEmpty func(), err error) {
	var made []string
	for _, d := range destinations {
		if d.folder == "" {
			continue
		}
		switch mkdirErr := os.Mkdir(d.folder, 0o700); {
		case mkdirErr == nil:
			made = append(made, d.folder)
		case !errors.Is(mkdirErr, fs.ErrExist):
			err = errors.Join(err, holdfast.WithHint(fmt.Errorf("make the folder of what is restored: %w", mkdirErr), "give a folder whose parent exists with --to"))
		}
	}
	return func() {
		for _, dir := range made {
			// A folder that holds something cannot be removed, and is not to be.
			_ = os.Remove(dir)
		}
	}, err
}

// askBackup lists the backups and asks for one.
func (a *app) askBackup(ctx context.Context, cfg *config.Config, repo *archive.Archive, f *restoreFlags) ([]string, error) {
	job, err := f.job()
	if err != nil {
		return nil, err
	}
	entries, old, err := a.everything(ctx, cfg, &f.storeFlags, repo, job)
	if err != nil {
		return nil, err
	}
	if err := a.showList(listed{entries: entries}, old); err != nil {
		return nil, err
	}
	if len(entries) == 0 || !a.interactive() {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no backup was chosen", holdfast.ErrUsage), "give an ID from the list, or --latest")
	}
	answer, err := a.ask(ctx, "ID of the backup to restore: ")
	if err != nil {
		return nil, err
	}
	if answer == "" {
		return nil, fmt.Errorf("%w: no backup was chosen", holdfast.ErrUsage)
	}
	return []string{answer}, nil
}

// ask prints a question and reads one line.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.Err, question)
	line, err := bufio.NewReader(&answers{ctx: ctx, file: a.In}).ReadString('\n')
	if ctx.Err() != nil {
		fmt.Fprintln(a.Err)
		return "", holdfast.ErrInterrupted
	}
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return "", fmt.Errorf("%w: no answer: %w", holdfast.ErrUsage, err)
	}
	return strings.TrimSpace(line), nil
}

// answers reads what is typed, byte by byte, so that a buffered reader takes no more of the input than the line it is asked
// for. It stops waiting when ctx ends: nobody should have to type on to be let go.
type answers struct {
	ctx  context.Context // of the one question
	file *os.File
}

func (r *answers) Read(p []byte) (int, error) {
	waiting := []unix.PollFd{{Fd: int32(r.file.Fd()), Events: unix.POLLIN}}
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Poll(waiting, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if n > 0 {
			return r.file.Read(p[:min(1, len(p))])
		}
	}
}

func choose(all []source.Stored, names []string) ([]source.Stored, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []source.Stored
	var known []string
	for _, stored := range all {
		known = append(known, string(stored.Source))
	}
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, holdfast.WithHint(fmt.Errorf("%w: the backup holds no source %q", holdfast.ErrUsage, name), "it holds: "+strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// writeItem writes one item's plaintext, for those who know what to do with it.
func (a *app) writeItem(ctx context.Context, chosen []source.Stored, f *restoreFlags) error {
	var known []string
	for _, stored := range chosen {
		for _, item := range stored.Items {
			known = append(known, item.Name)
			if item.Name != f.item {
				continue
			}
			if len(f.to) != 1 {
				return holdfast.WithHint(fmt.Errorf("%w: where item %s goes is not given", holdfast.ErrUsage, f.item), "give one --to FILE, or --to - for standard output")
			}
			r, err := item.Open(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if f.to[0] == "-" {
				_, err := io.Copy(a.Out, r)
				return err
			}
			if err := writeNew(f.to[0], r); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s: %d bytes, as recorded\n", f.to[0], item.Size)
			return err
		}
	}
	return holdfast.WithHint(fmt.Errorf("%w: the backup holds no item %q", holdfast.ErrUsage, f.item), "it holds: "+strings.Join(known, ", "))
}

// writeNew writes r into a new file for its owner only. The file appears when it is whole.
func writeNew(path string, r io.Reader) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	defer root.Close()
	file, err := durable.Create(root, filepath.Base(path), 0o600)
	if err != nil {
		return err
	}
	if _, err := file.ReadFrom(r); err != nil {
		err = errors.Join(err, file.Abort())
		if errors.Is(err, syscall.ENOSPC) {
			return holdfast.WithHint(err, "make room, or write to another disk; nothing was left there")
		}
		return err
	}
	if err := file.Commit(); errors.Is(err, fs.ErrExist) {
		return holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, path), "choose another name; nothing is overwritten")
	} else if err != nil {
		return err
	}
	return nil
}

// destinations decides where every source goes and looks what is there.
func (a *app) destinations(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, chosen []source.Stored) ([]destination, error) {
	var password holdfast.Secret
	if f.passwordFile != "" {
		var err error
		if password, err = config.SecretFile(f.passwordFile).Resolve(ctx); err != nil {
			return nil, err
		}
	}
	if f.inPlace && !slices.ContainsFunc(chosen, func(s source.Stored) bool { return s.Kind == holdfast.KindFiles }) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: --in-place is for files, and none of the chosen sources is of that kind", holdfast.ErrUsage), "give --to for databases")
	}
	var all []destination
	for _, stored := range chosen {
		if f.inPlace && stored.Kind == holdfast.KindFiles {
			d, err := a.inPlace(f, stored)
			if err != nil {
				return nil, fmt.Errorf("source %s: %w", stored.Source, err)
			}
			all = append(all, d)
			continue
		}
		if len(f.tables) > 0 {
			d, err := a.tableDestination(ctx, cfg, f, b, stored, password)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
			continue
		}
		to, folder, err := placeFor(stored, chosen, f.to, b.Entry.ID)
		if err != nil {
			return nil, err
		}
		if f.passwordFile == "" {
			password = hostPassword(cfg, to)
		}
		d := destination{stored: stored, to: to, folder: folder, overwrite: f.overwrite, withRoles: f.withRoles, only: f.paths, password: password}
		if len(f.paths) > 0 && stored.Kind != holdfast.KindFiles {
			return nil, holdfast.WithHint(fmt.Errorf("%w: --path is for files, and source %s is of kind %s", holdfast.ErrUsage, stored.Source, stored.Kind), "name the files source with --source")
		}
		switch {
		case d.cluster():
			// The databases keep their names; which of them exist is looked up, and refused without --overwrite, where they land.
			d.name, d.exists = string(stored.Source), f.overwrite
		case stored.Kind == holdfast.KindPostgres:
			d.name, d.exists, err = a.databaseOf(ctx, cfg, to, password)
			if err != nil && ctx.Err() == nil {
				err = a.withoutServer(ctx, cfg, f, b, stored, err)
			}
		default:
			d.name = to
			d.exists, err = occupied(to)
		}
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", stored.Source, err)
		}
		if d.exists && !f.overwrite {
			return nil, holdfast.WithHint(fmt.Errorf("%w: source %s: the target %s is not empty", holdfast.ErrUsage, stored.Source, d.name),
				"choose a new place with --to, or give --overwrite; what is there is then kept under another name")
		}
		all = append(all, d)
	}
	return all, nil
}

func occupied(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil:
		return len(entries) > 0, nil
	}
	if _, statErr := os.Lstat(path); statErr == nil {
		return true, nil
	}
	return false, err
}

// placeFor finds where a source goes: --to SOURCE=PLACE, else the one --to that fits its kind, else a folder of the
// backup's own. folder is where it stands beside others, and may have to be made.
func placeFor(stored source.Stored, chosen []source.Stored, to []string, id holdfast.BackupID) (place, folder string, err error) {
	var bare []string
	for _, text := range to {
		if place, found := strings.CutPrefix(text, string(stored.Source)+"="); found {
			place, err := filled(stored, place)
			return place, "", err
		}
		if !slices.ContainsFunc(chosen, func(s source.Stored) bool { return strings.HasPrefix(text, string(s.Source)+"=") }) {
			bare = append(bare, text)
		}
	}
	database := stored.Kind == holdfast.KindPostgres
	var fits []string
	for _, text := range bare {
		if isConnection(text) == database {
			fits = append(fits, text)
		}
	}
	alike := 0
	for _, other := range chosen {
		if (other.Kind == holdfast.KindPostgres) == database {
			alike++
		}
	}
	switch {
	case len(fits) > 1 || len(fits) == 1 && database && alike > 1:
		return "", "", holdfast.WithHint(fmt.Errorf("%w: where source %s goes is not clear", holdfast.ErrUsage, stored.Source), "write --to "+string(stored.Source)+"=PLACE, or choose with --source")
	case len(fits) == 1 && (database || alike == 1):
		place, err := filled(stored, fits[0])
		return place, "", err
	case len(fits) == 1:
		folder = fits[0]
	case database:
		return "", "", holdfast.WithHint(fmt.Errorf("%w: source %s is a database, and no server is given for it", holdfast.ErrUsage, stored.Source),
			"give --to postgres://USER@HOST/NEW_DATABASE, or choose other sources with --source")
	}
	if folder == "" {
		folder = "restored-" + string(id)
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", "", fmt.Errorf("find %s: %w", folder, err)
	}
	return filepath.Join(folder, fileName(stored)), folder, nil
}

func filled(stored source.Stored, place string) (string, error) {
	if stored.Kind == holdfast.KindPostgres {
		return place, nil
	}
	path, err := filepath.Abs(place)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", place, err)
	}
	if info, err := os.Stat(path); stored.Kind == holdfast.KindSQLite && err == nil && info.IsDir() {
		return filepath.Join(path, fileName(stored)), nil
	}
	return path, nil
}

func fileName(stored source.Stored) string {
	if stored.Kind == holdfast.KindSQLite {
		return string(stored.Source) + ".sqlite"
	}
	return string(stored.Source)
}

func isConnection(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") || config.InContainer(text) ||
		!strings.HasPrefix(text, "/") && !strings.HasPrefix(text, ".") && strings.Contains(text, "=")
}

// confirm shows the plan and asks for the typed words, or takes them from --confirm where nobody can type.
func (a *app) confirm(ctx context.Context, b *archive.Backup, destinations []destination, note, given string) error {
	a.printer.say(fmt.Sprintf("restore backup %s of %s (job %s, host %s):", b.Entry.ID, b.Entry.Time.Format("2006-01-02 15:04:05 UTC"), b.Entry.Job, b.Manifest.Host))
	var overwritten []string
	for _, d := range destinations {
		if d.exists {
			overwritten = append(overwritten, d.name)
		}
		if len(d.units) > 0 {
			a.sayInPlace(d)
			continue
		}
		if len(d.tables) > 0 {
			a.sayTables(d)
			continue
		}
		what := "new"
		if d.exists {
			what = "OVERWRITES what is there, which is kept under another name"
		}
		a.printer.say(fmt.Sprintf("  %s (%s) -> %s, %s", d.stored.Source, d.stored.Kind, d.name, what))
	}
	if note != "" {
		a.printer.say("  " + note)
	}
	return a.agree(ctx, overwritten, given)
}

// agree asks for the word, and for the name of everything that is overwritten.
func (a *app) agree(ctx context.Context, overwritten []string, given string) error {
	if given != "" {
		return checkWord(given, overwritten)
	}
	if !a.interactive() {
		if len(overwritten) > 0 {
			return holdfast.WithHint(fmt.Errorf("%w: nobody is there to confirm the overwrite", holdfast.ErrUsage), "give --confirm "+overwritten[0])
		}
		return holdfast.WithHint(fmt.Errorf("%w: nobody is there to confirm the restore", holdfast.ErrUsage), "give --confirm RESTORE")
	}
	word, err := a.ask(ctx, "type RESTORE to go on: ")
	if err != nil {
		return err
	}
	if word != "RESTORE" {
		return fmt.Errorf("%w: the word was not RESTORE; nothing was changed", holdfast.ErrUsage)
	}
	for _, name := range overwritten {
		word, err := a.ask(ctx, "type the name of what is overwritten ("+name+"): ")
		if err != nil {
			return err
		}
		if word != name {
			return fmt.Errorf("%w: the name was not %s; nothing was changed", holdfast.ErrUsage, name)
		}
	}
	return nil
}

// checkWord holds a word given in advance against the plan. One word can confirm one overwrite.
func checkWord(given string, overwritten []string) error {
	switch {
	case len(overwritten) == 0 && given == "RESTORE":
		return nil
	case len(overwritten) == 0:
		return holdfast.WithHint(fmt.Errorf("%w: --confirm %q does not fit: nothing is overwritten", holdfast.ErrUsage, given), "give --confirm RESTORE")
	case len(overwritten) > 1:
		return holdfast.WithHint(fmt.Errorf("%w: %d targets would be overwritten at once", holdfast.ErrUsage, len(overwritten)), "restore one at a time with --source")
	case given != overwritten[0]:
		return holdfast.WithHint(fmt.Errorf("%w: --confirm %q is not the name of what is overwritten", holdfast.ErrUsage, given), "give --confirm "+overwritten[0])
	}
	return nil
}

// targets builds what the engine restores, with the copy that is kept before an overwrite.
func (a *app) targets(cfg *config.Config, f *restoreFlags, b *archive.Backup, destinations []destination) ([]engine.Target, error) {
	var targets []engine.Target
	for _, d := range destinations {
		target := engine.Target{
			Stored: d.stored,
			Open: func(ctx context.Context) (source.Place, error) {
				return a.open(ctx, cfg, d, b.Entry.ID, a.printer.observe)
			},
		}
		if d.exists {
			target.Safety = func(ctx context.Context) error { return a.keepSafe(ctx, cfg, f, b, d) }
		}
		targets = append(targets, target)
	}
	return targets, nil
}
