package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/foreign"
	"holdfast/internal/report"
	"holdfast/internal/seal"
)

func (a *app) importCommand() *cobra.Command {
	var f storeFlags
	var create bool
	cmd := &cobra.Command{
		Use: "import DIR", Short: "List and drill a folder of old backups, without touching it", Args: cobra.ExactArgs(1),
		Long: "Look through a folder, only reading, and record every backup file in it, told by content: SQL, pg_dump's formats, tar,\n" +
			"SQLite, compressed or sealed in any way. From then on they stand in list and show, verify says whether one changed or\n" +
			"vanished, and drill and restore take their IDs. Nothing is copied; the folder is never written to. A further import takes\n" +
			"what is new.",
		Example: "  holdfast import /var/backups/old --store /srv/backups --job old",
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := holdfast.ParseJobName(cmp.Or(f.Job, "imported"))
			if err != nil {
				return err
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.importFolder(cmd.Context(), cfg, job, args[0], create)
		},
	}
	f.add(cmd)
	cmd.Flags().Lookup("job").Usage = "the `JOB` that they are listed under (default \"imported\")"
	cmd.Flags().BoolVar(&create, "create-store", false, "make the store when it is not there")
	return cmd
}

func (a *app) importFolder(ctx context.Context, cfg *config.Config, job holdfast.JobName, dir string, create bool) (err error) {
	folder, err := filepath.Abs(dir)
	if err == nil {
		folder, err = filepath.EvalSymlinks(folder)
	}
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err), "give a folder that exists")
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return holdfast.WithHint(fmt.Errorf("%w: %s is not a folder", holdfast.ErrUsage, dir), "give the folder that the file is in; one file is taken by drill and restore")
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	s, err := a.openStore(ctx, where, create)
	if err != nil {
		return err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	lock, err := a.lockJob(cfg, where, job)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	result, err := foreign.NewLedger(s, nil).Import(ctx, foreign.Import{
		Folder: folder, Job: job, Host: cfg.Host, Version: a.Version, Now: a.Now(), Signer: signer, Skip: []string{storeAddress(where), realPath(cfg.State)},
	}, nil)
	if err != nil {
		return err
	}
	a.about.Job, a.about.Store, a.about.Detail, a.about.Figures = job, where.Name, folder, map[string]float64{"files": float64(len(result.New))}
	return a.showImport(job, folder, result)
}

// mostNames bounds the files that are named one by one.
const mostNames = 10

func (a *app) showImport(job holdfast.JobName, folder string, r foreign.ImportResult) error {
	var size int64
	kinds := map[string]int{}
	var first, last time.Time
	for _, file := range r.New {
		size += file.Size
		kinds[foreign.Imported{RecordedFile: file}.What()]++
		if first.IsZero() || file.Time.Before(first) {
			first = file.Time
		}
		if file.Time.After(last) {
			last = file.Time
		}
	}
	if a.flags.json {
		a.printEvent("import", map[string]any{"folder": folder, "job": job, "new": len(r.New), "bytes": size, "known": r.Known, "not_recognised": r.Strange, "unreadable": len(r.Unreadable), "kinds": kinds})
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		a.printer.say(fmt.Sprintf("  %5d  %s", kinds[kind], kind))
	}
	for _, kind := range []foreign.Content{foreign.Empty, foreign.Broken} {
		for _, file := range r.New {
			if file.Content == kind {
				a.printer.warn(quoted(file.Name) + " is " + string(kind))
			}
		}
	}
	text := fmt.Sprintf("imported %d files of %s as backups of job %s", len(r.New), report.Size(size), job)
	if len(r.New) > 0 {
		text += fmt.Sprintf(", made from %s to %s", first.Format(time.DateOnly), last.Format(time.DateOnly))
	}
	if r.Known > 0 {
		text += fmt.Sprintf("; %d were known", r.Known)
	}
	a.result("%s; %s was only read", text, folder)
	if len(r.Strange) > 0 {
		names := r.Strange[:min(len(r.Strange), mostNames)]
		more := ""
		if len(names) < len(r.Strange) {
			more = ", …"
		}
		a.printer.say(fmt.Sprintf("not recognised, and left out: %d files (%s%s)", len(r.Strange), quoted(strings.Join(names, ", ")), more))
	}
	if len(r.Unreadable) > 0 {
		return holdfast.WithHint(fmt.Errorf("%w: %d files could not be read: %w", holdfast.ErrIncomplete, len(r.Unreadable), errors.Join(r.Unreadable[:min(len(r.Unreadable), mostNames)]...)),
			"run as a user who may read them; a further import takes what is new")
	}
	return nil
}

// imports are the imported files of a store, as entries among the others.
type imports struct {
	files   map[holdfast.BackupID]foreign.Imported
	entries []archive.Entry
}

// imported lists what was imported into the store of the command.
func (a *app) imported(ctx context.Context, cfg *config.Config, f *storeFlags, repo *archive.Archive, job holdfast.JobName) (imports, error) {
	where, err := cfg.StoreNamed("")
	if err != nil {
		return imports{}, err
	}
	return a.importedIn(ctx, cfg, f, where, repo, job)
}

// importedIn lists what was imported into one store, but for what a prune deleted. A record that is not to be trusted is an error
// that comes with the others.
func (a *app) importedIn(ctx context.Context, cfg *config.Config, f *storeFlags, where config.Store, repo *archive.Archive, job holdfast.JobName) (imports, error) {
	all := imports{files: map[holdfast.BackupID]foreign.Imported{}}
	s, err := a.openStore(ctx, where, false)
	if err != nil {
		return all, err
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return all, err
	}
	files, listErr := foreign.NewLedger(s, keys).List(ctx, job)
	if len(files) == 0 {
		return all, listErr
	}
	gone, err := repo.Pruned(ctx, job)
	if err != nil {
		return all, errors.Join(listErr, err)
	}
	for _, file := range files {
		entry := importedEntry(file)
		if gone(entry) {
			continue
		}
		all.files[file.ID] = file
		all.entries = append(all.entries, entry)
	}
	return all, errors.Join(listErr, repo.Attach(ctx, job, all.entries))
}

func importedEntry(file foreign.Imported) archive.Entry {
	e := archive.Entry{Job: file.Job, Time: file.Time, ID: file.ID, Kind: archive.KindImported, Complete: true, Sealed: file.Sealed(), Size: file.Size}
	for _, layer := range file.Layers {
		if layer.Seals() {
			e.Format = seal.Format(layer)
			break
		}
	}
	return e
}

// importedEverywhere lists what was imported into any of the stores that could be listed: mirrors carry the records too.
func (a *app) importedEverywhere(ctx context.Context, cfg *config.Config, f *storeFlags, from listed, job holdfast.JobName) (imports, error) {
	all := imports{files: map[holdfast.BackupID]foreign.Imported{}}
	var problems []error
	for _, place := range from.stores {
		repo, err := a.repository(ctx, place, access{})
		if err != nil {
			continue // told already
		}
		some, err := a.importedIn(ctx, cfg, f, place, repo, job)
		if err != nil && len(from.stores) > 1 {
			err = fmt.Errorf("store %s: %w", place.Name, err)
		}
		problems = append(problems, err)
		for _, entry := range some.entries {
			if _, known := all.files[entry.ID]; !known {
				all.files[entry.ID] = some.files[entry.ID]
				all.entries = append(all.entries, entry)
			}
		}
	}
	return all, errors.Join(problems...)
}

// everything lists backups and imported files together, oldest first.
func (a *app) everything(ctx context.Context, cfg *config.Config, f *storeFlags, repo *archive.Archive, job holdfast.JobName) ([]archive.Entry, imports, error) {
	entries, err := repo.List(ctx, job)
	if err != nil {
		return nil, imports{}, err
	}
	old, err := a.imported(ctx, cfg, f, repo, job)
	entries = append(entries, old.entries...)
	archive.Sort(entries)
	return entries, old, err
}

// chosenImport finds the imported file that args name, or, where the store has no backup of its own, the newest. It is false
// for everything else, which pick knows.
func (a *app) chosenImport(ctx context.Context, cfg *config.Config, f *storeFlags, repo *archive.Archive, args []string) (foreign.Imported, archive.Entry, bool, error) {
	none := func(err error) (foreign.Imported, archive.Entry, bool, error) {
		return foreign.Imported{}, archive.Entry{}, false, err
	}
	job, err := f.job()
	if err != nil {
		return none(err)
	}
	entries, old, err := a.everything(ctx, cfg, f, repo, job)
	id := ""
	if len(args) > 0 {
		id = args[0]
	} else if slices.ContainsFunc(entries, func(e archive.Entry) bool { return e.Kind != archive.KindImported }) {
		return none(nil)
	}
	if len(entries) == 0 {
		return none(err) // that there is none, pick tells
	}
	entry, findErr := archive.Find(entries, id)
	if findErr != nil {
		// It may stand in a record that is not believed.
		return none(cmp.Or(err, findErr))
	}
	file, is := old.files[entry.ID]
	if !is {
		return none(nil)
	}
	if !file.Trusted {
		a.printer.warn("signer not checked: " + file.Signer)
	}
	return file, entry, true, nil
}

// asBackup stands for an imported file where a proof needs a backup: what it is about is named by its entry and its digest.
func asBackup(file foreign.Imported, entry archive.Entry) *archive.Backup {
	return &archive.Backup{Entry: entry, Digest: file.SHA256, Signer: file.Signer, Trusted: file.Trusted}
}

func (a *app) showImported(ctx context.Context, repo *archive.Archive, file foreign.Imported, entry archive.Entry) error {
	var proofs []archive.Proof
	var problems []error
	for _, p := range entry.Proofs {
		proof, _, err := repo.ReadProof(ctx, asBackup(file, entry), p)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		proofs = append(proofs, proof)
	}
	if a.flags.json {
		a.printJSON(map[string]any{"imported": file, "path": file.Path(), "what": file.What(), "state": entry.State(), "proofs": proofs})
		return errors.Join(problems...)
	}
	fmt.Fprintf(a.Out, "backup      %s (imported, %s)\njob         %s on host %s\nfile        %s\nwhat        %s\nmade        %s\nchanged     %s\nsize        %s\nsha256      %s\nimported    %s\nsigned by   %s\n",
		file.ID, entry.State(), file.Job, file.Host, quoted(file.Path()), file.What(), file.Time.Format(time.RFC3339), file.Modified.Format(time.RFC3339), report.Size(file.Size), file.SHA256,
		file.When.Format(time.RFC3339), file.Signer)
	fmt.Fprintln(a.Out, "recorded    nothing when it was made")
	for _, p := range proofs {
		fmt.Fprintf(a.Out, "proof       %s  %s  by %s on %s; %d compared with what the file says of itself, %d differences\n", p.Time.Format(time.RFC3339), p.Verdict, p.Who, p.Host, p.Facts, p.Differences)
	}
	return errors.Join(problems...)
}

// verifyImported looks whether a file is what it was when it was imported, as deep as level says.
func (a *app) verifyImported(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, file foreign.Imported, level holdfast.Level) error {
	if err := a.checkImported(ctx, cfg, f, ff, file, level); err != nil {
		return fmt.Errorf("backup %s: %w", file.ID, err)
	}
	if a.flags.json {
		a.printEvent("verify", map[string]any{"id": file.ID, "level": level.String(), "file": file.Path(), "bytes": file.Size, "good": true})
	}
	a.result("backup %s: %s good, file %s, %s, as it was when it was imported", file.ID, level, quoted(file.Path()), report.Size(file.Size))
	return nil
}

func (a *app) checkImported(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, file foreign.Imported, level holdfast.Level) error {
	path := file.Path()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, folderErr := os.Stat(file.Folder); folderErr != nil {
			return holdfast.WithHint(fmt.Errorf("%w: the folder %s is not there", holdfast.ErrCannotTest, file.Folder), "mount it; it was imported on host "+file.Host)
		}
		return holdfast.WithHint(fmt.Errorf("%w: %s is gone", holdfast.ErrDifference, path), "find out what removed it; another copy may be there")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
	}
	if !info.IsDir() && info.Size() != file.Size {
		return holdfast.WithHint(fmt.Errorf("%w: %s has %d bytes, and had %d when it was imported", holdfast.ErrDifference, path, info.Size(), file.Size), "find out what changed it; another copy may be as it was")
	}
	if level == holdfast.L0 {
		return nil
	}
	_, sum, err := foreign.Hash(ctx, path)
	if err != nil {
		return err
	}
	if sum != file.SHA256 {
		return changedSince(path)
	}
	if level == holdfast.L1 {
		return nil
	}
	opened, err := a.openFile(ctx, cfg, f, ff, path)
	if err != nil {
		return err
	}
	defer opened.Close() // what was opened for recognition says nothing more
	if opened.Content == foreign.PgDirectory {
		return opened.Walk(ctx, func(foreign.Member, io.Reader) error { return nil })
	}
	r, err := opened.Reader(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return joinClose(err, r.Close())
}

// drillImported drills a file as it was imported, and keeps the verdict beside its record.
func (a *app) drillImported(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, file foreign.Imported, entry archive.Entry, w fileDrill) error {
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	if err := a.checkImported(ctx, cfg, f, ff, file, holdfast.L0); err != nil && !errors.Is(err, holdfast.ErrDifference) {
		return err
	} else if err != nil {
		return fmt.Errorf("backup %s: %w", file.ID, err)
	}
	identities, err := a.identities(ctx, cfg, f)
	if err != nil {
		return err
	}
	opt, keep, err := a.sealingImported(ctx, cfg, file, identities)
	if err != nil {
		return err
	}
	repo, err := a.readerSealing(ctx, cfg, f, opt, signer)
	if err != nil {
		return err
	}
	w.path, w.want = file.Path(), file.SHA256
	w.imported = fmt.Sprintf("backup %s of job %s, on %s", file.ID, file.Job, file.When.Format("2006-01-02 15:04:05 UTC"))
	d, drillErr := a.runFileDrill(ctx, cfg, f, ff, &w)
	if d.Verdict == "" {
		return drillErr
	}
	var details []byte
	if keep {
		if details, err = json.Marshal(d); err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
	}
	failing, texts, compared := d.Differences()
	seconds := map[string]float64{}
	for _, phase := range d.Phases {
		seconds[phase.Name] += phase.Elapsed.Seconds()
	}
	_, putErr := repo.PutProof(ctx, asBackup(file, entry), archive.Proof{
		Verdict: d.Verdict, Time: d.Finished, Host: d.Host, Who: d.Who, Version: d.Version, Facts: compared, Differences: failing, Texts: texts, Seconds: seconds,
	}, details)
	if putErr != nil {
		putErr = fmt.Errorf("keep the verdict %q: %w", d.Verdict, putErr)
	}
	path, err := writeReport(w.dir, &d)
	if err != nil {
		return errors.Join(drillErr, putErr, err)
	}
	a.showFileDrill(&d, path)
	return errors.Join(drillErr, putErr)
}

// sealingImported says how the details of a drill are sealed: to the job's recipients where the job is configured here, else to
// whoever opened the file; plain where the file is. keep is false when nobody is there to seal to.
func (a *app) sealingImported(ctx context.Context, cfg *config.Config, file foreign.Imported, identities []seal.Identity) (opt seal.Options, keep bool, err error) {
	for _, known := range cfg.Jobs {
		if known.Name == file.Job && known.Seal != config.SealNone && len(known.Recipients) > 0 {
			opt, err := sealing(ctx, known)
			opt.ToExpired = true
			return opt, err == nil, err
		}
	}
	if !file.Sealed() {
		return seal.Options{Plain: true}, true, nil
	}
	recipients := seal.RecipientsAmong(identities, nil)
	return seal.Options{Recipients: recipients, ToExpired: true}, len(recipients) > 0, nil
}

// removeImported deletes a file that was imported, if it still is what the record says, after the record of its end is stored.
func (a *app) removeImported(ctx context.Context, repo *archive.Archive, file foreign.Imported, entry archive.Entry, record archive.Prune) error {
	path := file.Path()
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
	}
	if err == nil {
		if !info.Mode().IsRegular() {
			return holdfast.WithHint(fmt.Errorf("%w: %s is not a file, and is left alone", holdfast.ErrUsage, quoted(path)), "delete it by hand")
		}
		_, sum, err := foreign.Hash(ctx, path)
		if err != nil {
			return err
		}
		if sum != file.SHA256 {
			return changedSince(path)
		}
	}
	if err := repo.RecordPrune(ctx, entry, record); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", quoted(path), err)
	}
	return durable.SyncDir(filepath.Dir(path))
}
