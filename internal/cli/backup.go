package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/hook"
	"holdfast/internal/joblock"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/store"
)

func (a *app) backupCommand() *cobra.Command {
	var flags config.Flags
	var run backupRun
	var full, manual, scheduled bool
	cmd := &cobra.Command{
		Use: "backup [JOB]", Short: "Back up a job, or the sources given", Args: cobra.MaximumNArgs(1),
		Long: "Back up every source of a job into one backup: each is read once, counted, hashed, compressed, sealed and stored;\n" +
			"everything stored is read again, and then the signed manifest makes the backup exist. Without a configuration,\n" +
			"--source, --to and --recipient say what, where and for whom.\n\n" +
			"A source that fails is left out as a whole, and the exit code is 3. Without any source nothing is kept. Then the backup is copied to\n" +
			"the job's mirrors; one that cannot be reached makes the run incomplete, and the next one makes up for it.",
		Example: "  holdfast backup app --reason \"before release 4\"\n" +
			"  holdfast backup --source postgres://app@localhost/app --to /srv/backups --recipient age1…",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				flags.Job = args[0]
			}
			cfg, err := a.load(flags, true)
			if err != nil {
				return err
			}
			if cfg.Disabled {
				a.sayDisabled()
				return nil
			}
			job, err := cfg.Job(holdfast.JobName(flags.Job))
			if err != nil {
				return err
			}
			run.create = run.create || flags.To != "" || flags.Store != ""
			switch {
			case full && manual, full && run.kind != "full", manual && run.kind != "full":
				return holdfast.WithHint(fmt.Errorf("%w: --full, --manual and --kind contradict each other", holdfast.ErrUsage), "give one of them")
			case manual:
				run.kind = "manual"
			case scheduled && run.kind != "hourly":
				return holdfast.WithHint(fmt.Errorf("%w: --scheduled is about hourly runs", holdfast.ErrUsage), "give --kind hourly, or leave it out")
			case !slices.Contains([]string{"full", "hourly", "manual"}, run.kind):
				return holdfast.WithHint(fmt.Errorf("%w: %q is no kind of run", holdfast.ErrUsage, run.kind), "use full, hourly or manual")
			}
			if scheduled && job.Schedule.LeftOut(holdfast.TaskHourly, a.Now()) {
				if a.flags.json {
					a.printEvent("left-out", map[string]any{"job": job.Name})
				}
				a.printer.say("left out: a full backup of job " + string(job.Name) + " is due at the same minute")
				return nil
			}
			return a.backup(cmd.Context(), cfg, job, run)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.Sources, "source", nil, "what to back up: `postgres://…`, a SQLite file, or a folder; may be given several times")
	f.StringVar(&flags.To, "to", "", "the store: a `FOLDER`, or a name from the configuration")
	f.StringVar(&flags.Store, "store", "", "the same as --to")
	f.StringArrayVarP(&flags.Recipients, "recipient", "r", nil, "seal to this age `RECIPIENT`, or key of the configuration; may be given several times")
	f.StringVar(&flags.RecipientsFile, "recipients-file", "", "seal to the recipients in `FILE`")
	f.StringVar(&flags.Job, "job", "", "the `JOB`'s name, when it is made of flags")
	f.StringVar(&flags.Seal, "seal", "", "age, openpgp or openssl, which the recipients must be made for, or none to store everything readable")
	f.StringVar(&flags.Compression, "compression", "", "zstd (the default), gzip or none")
	f.IntVar(&flags.Level, "level", 0, "compression level: zstd 1 to 22 (default 1), gzip 1 to 9")
	f.StringArrayVar(&flags.Mirrors, "mirror", nil, "a further `STORE` that gets a copy; may be given several times")
	f.BoolVar(&full, "full", false, "the same as --kind full; in an archive every backup is a full one")
	f.BoolVar(&manual, "manual", false, "the same as --kind manual")
	f.StringVar(&run.kind, "kind", "full", "what kind of run this is for the keep rules: full, hourly or manual")
	f.BoolVar(&scheduled, "scheduled", false, "with --kind hourly: do nothing when the job's schedule has a full backup at the same minute, as timers and cron need it")
	f.BoolVar(&run.create, "create-store", false, "make the store when it is not there")
	f.BoolVar(&run.prune, "prune", false, "then delete the backups that no rule keeps, as the command prune does")
	f.StringVar(&run.reason, "reason", "", "why this backup is made, kept in its manifest")
	return cmd
}

// backupRun is how one run of a job was called.
type backupRun struct {
	kind, reason  string
	create, prune bool
}

func (a *app) backup(ctx context.Context, cfg *config.Config, job config.Job, run backupRun) (err error) {
	if job.Store.Kind == config.StoreRsync {
		return holdfast.WithHint(fmt.Errorf("%w: store %s is reached by rsync, and can only be a mirror", holdfast.ErrUsage, job.Store.Name), "back up to another store, and give this one as --mirror")
	}
	lock, err := a.holdJob(cfg, job.Store, job.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	task := holdfast.TaskBackup
	if run.kind == "hourly" {
		task = holdfast.TaskHourly
	}
	told := a.announce(ctx, cfg, job.Name, task)
	defer func() { told.ended(ctx, err) }()
	began := a.Now()
	done, err := a.makeBackup(ctx, cfg, job, run, lock, began)
	a.noteBackup(cfg, job, run, done, a.Now().Sub(began), err)
	defer a.carryJournal(context.WithoutCancel(ctx), cfg, storesOf(job))
	if !done.made {
		if repo := a.recordFailure(ctx, cfg, job, began, err); repo != nil && ctx.Err() == nil {
			// Mirrors get the record of it too, and what an earlier run did not bring there. How that went does not say how the run did.
			if mirrorErr := a.mirrorJob(ctx, cfg, job, repo, false); mirrorErr != nil {
				a.printer.warn(holdfast.Sentence(mirrorErr))
			}
		}
		return err
	}
	if ctx.Err() != nil {
		return err
	}
	// The application runs again by now: copies may take their time.
	err = errors.Join(err, a.mirrorJob(ctx, cfg, job, done.repo, run.create))
	if run.prune && ctx.Err() == nil {
		err = errors.Join(err, a.pruneAfter(ctx, cfg, job))
	}
	return err
}

// ranBackup is what a run came to.
type ranBackup struct {
	repo   *archive.Archive
	result engine.Result
	made   bool  // there is a backup, maybe an incomplete one
	free   int64 // bytes in the job's store before; 0: it does not tell
}

// makeBackup makes the backup in the job's store, and does whatever must go before.
func (a *app) makeBackup(ctx context.Context, cfg *config.Config, job config.Job, run backupRun, lock *joblock.Lock, began time.Time) (done ranBackup, err error) {
	if err := a.catchUp(ctx, cfg, job, lock); err != nil {
		return done, err
	}
	if err := cfg.MaySeal(job.Name); err != nil {
		return done, err
	}
	sources, err := a.namedSources(ctx, cfg, job.Sources)
	if err != nil {
		return done, err
	}
	opt, err := sealing(ctx, job)
	if err != nil {
		return done, err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return done, err
	}
	done.repo, err = a.repository(ctx, job.Store, access{seal: opt, signer: signer, create: run.create})
	if err != nil {
		return done, err
	}
	if err := a.cleanUp(ctx, done.repo, lock); err != nil {
		return done, err
	}
	if done.free, err = a.checkRoom(ctx, job, done.repo, run.create); err != nil {
		return done, err
	}
	err = a.around(ctx, cfg, job, hook.Backup, "", lock, func(ctx context.Context) (holdfast.BackupID, error) {
		var err error
		done.result, err = engine.Backup(ctx, done.repo, engine.Plan{
			Job: job.Name, Host: cfg.Host, Kind: run.kind, Reason: run.reason, Sources: sources, Now: began,
			Begun: func(entry archive.Entry) error { return lock.Begun(entry) },
		}, a.printer.observe)
		if err != nil && !errors.Is(err, holdfast.ErrIncomplete) {
			return "", err
		}
		done.made = true
		if endErr := lock.Ended(); endErr != nil {
			return done.result.Entry.ID, endErr
		}
		a.showResult(done.result, a.Now().Sub(began))
		return done.result.Entry.ID, err
	})
	return done, err
}

// checkRoom refuses to begin a backup that its store most likely has no room for: the newest one says how much it will be. It returns
// how much is free, 0 where that is not told.
func (a *app) checkRoom(ctx context.Context, job config.Job, repo *archive.Archive, create bool) (free int64, err error) {
	s, err := a.openStore(ctx, job.Store, create)
	if err != nil {
		return 0, err
	}
	spacer, knows := s.Driver().(store.Spacer)
	if !knows {
		return 0, nil
	}
	free, err = spacer.Free(ctx)
	if err != nil {
		return 0, err
	}
	entries, err := repo.List(ctx, job.Name)
	if err != nil {
		return 0, err
	}
	for _, e := range slices.Backward(regular(entries)) {
		if e.Complete && e.Size > free {
			return free, holdfast.WithHint(fmt.Errorf("%w: %s are free in %s, and the newest backup of job %s takes %s", store.ErrFull, report.Size(free), job.Store.Address(), job.Name, report.Size(e.Size)),
				"make room: `holdfast prune`, or a larger disk")
		}
		if e.Complete {
			break
		}
	}
	return free, nil
}

// noteBackup records the run in the journal.
func (a *app) noteBackup(cfg *config.Config, job config.Job, run backupRun, done ranBackup, took time.Duration, err error) {
	event := journal.BackupCreated
	switch {
	case !done.made:
		event = journal.BackupFailed
	case !done.result.Manifest.Complete:
		event = journal.BackupIncomplete
	}
	a.note(cfg, event, err, func(r *journal.Record) {
		r.Job, r.Store, r.Reason, r.Backup, r.Detail = job.Name, job.Store.Name, run.reason, done.result.Entry.ID, run.kind
		r.Figures = map[string]float64{"seconds": took.Seconds()}
		if done.made {
			r.Figures["bytes"], r.Figures["items"] = float64(done.result.Entry.Size), float64(len(done.result.Manifest.Items))
		}
		if done.free > 0 {
			r.Figures["free"] = float64(done.free)
		}
	})
}

// recordFailure leaves word of a run that made nothing, for whoever prunes from elsewhere: in the job's store, which is returned
// then, and where that cannot be, in each mirror.
func (a *app) recordFailure(ctx context.Context, cfg *config.Config, job config.Job, began time.Time, cause error) *archive.Archive {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureTime)
	defer cancel()
	for i, place := range storesOf(job) {
		s, err := a.openStore(ctx, place, false)
		if err != nil {
			continue // that is why the run failed, mostly, and no second error
		}
		var repo *archive.Archive
		signer, err := a.signer(cfg)
		if err == nil {
			repo = a.archiveOn(s, access{signer: signer})
			_, err = repo.PutFailedRun(ctx, job.Name, archive.Run{Time: began, Finished: a.Now(), Host: cfg.Host, Who: a.who(), Exit: exitCode(cause)})
		}
		switch {
		case err != nil:
			a.printer.warn(fmt.Sprintf("store %s has no record of this failed run: %s", place.Name, holdfast.Sentence(err)))
		case i == 0:
			return repo
		}
	}
	return nil
}

// failureTime bounds how long a failed run tries to leave word.
const failureTime = 30 * time.Second

func (a *app) pruneAfter(ctx context.Context, cfg *config.Config, job config.Job) error {
	if !job.Keep.Given {
		return holdfast.WithHint(fmt.Errorf("%w: --prune deletes nothing, because no rule says what job %s keeps", holdfast.ErrUsage, job.Name), "put keep: {daily: 7} into the job, or set BACKUP_RETENTION_DAYS")
	}
	return a.prune(ctx, cfg, job, &pruneFlags{})
}

// sayDisabled tells, also to --quiet, that nothing is done because the environment says so.
func (a *app) sayDisabled() {
	if a.flags.json {
		a.printEvent("disabled", map[string]any{"variable": "ENABLE_BACKUPS"})
	}
	a.printer.warn("nothing was backed up: ENABLE_BACKUPS switches backups off")
}

// cleanUp removes what an earlier run of this job began and could not end.
func (a *app) cleanUp(ctx context.Context, repo *archive.Archive, lock *joblock.Lock) error {
	var left archive.Entry
	found, err := lock.Left(&left)
	if err != nil || !found {
		return err
	}
	removed, err := repo.Clean(ctx, left)
	if err != nil {
		return fmt.Errorf("clean up after an interrupted run: %w", err)
	}
	if removed > 0 {
		a.printer.say(fmt.Sprintf("removed %d objects of backup %s, which was interrupted before it existed", removed, left.ID))
	}
	return lock.Ended()
}

func (a *app) showResult(result engine.Result, elapsed time.Duration) {
	m := result.Manifest
	if a.flags.json {
		a.printEvent("backup", map[string]any{"id": m.ID, "job": m.Job, "complete": m.Complete, "stored": result.Entry.Size, "seconds": elapsed.Seconds()})
	}
	var plain int64
	for _, item := range m.Items {
		if item.Role == archive.RoleData {
			plain += item.PlainSize
		}
	}
	state := "committed"
	if !m.Complete {
		state = "committed, incomplete"
	}
	a.result("backup %s of job %s: %s; %s in %s (%s), %s; read back and signed",
		m.ID, m.Job, state, report.Size(plain), report.Size(result.Entry.Size), ratio(plain, result.Entry.Size), report.Span(elapsed))
	if !result.Entry.Sealed {
		a.printer.warn("this backup is not sealed: whoever reads the store can read it")
	}
	a.printer.say("it is not proven until it was restored: `holdfast drill " + string(m.ID) + "`")
}
