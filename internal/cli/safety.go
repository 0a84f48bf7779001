package cli

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/foreign"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// withSafety lets keep make a backup of kind safety for the job of b, sealed to whom its backups are sealed.
func (a *app) withSafety(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, secret bool, keep func(*archive.Archive, engine.Plan) error) (err error) {
	identities, err := a.identities(ctx, cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	opt, err := a.resealing(ctx, cfg, b, identities, b.Entry.Sealed || secret)
	if err != nil {
		return err
	}
	return a.withCopy(ctx, cfg, f, b.Entry.Job, opt, keep)
}

// withCopy is withSafety for a job by name, sealed as opt says.
func (a *app) withCopy(ctx context.Context, cfg *config.Config, f *restoreFlags, job holdfast.JobName, opt seal.Options, keep func(*archive.Archive, engine.Plan) error) (err error) {
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	repo, err := a.readerSealing(ctx, cfg, &f.storeFlags, opt, signer)
	if err != nil {
		return err
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	lock, err := a.lockJob(cfg, where, job)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := a.cleanUp(ctx, repo, lock); err != nil {
		return err
	}
	plan := engine.Plan{
		Job: job, Host: cfg.Host, Kind: "safety", Now: a.Now(), Begun: func(entry archive.Entry) error { return lock.Begun(entry) },
	}
	if err := keep(repo, plan); err != nil {
		return err
	}
	return lock.Ended()
}

// keepSafe makes a sealed backup of what stands at d. A target that its own program cannot read is kept as raw bytes;
// when even that is not to be had, what stands there still keeps existing under another name, and the restore goes on.
func (a *app) keepSafe(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, d destination) error {
	return a.withSafety(ctx, cfg, f, b, d.stored.Secret, func(repo *archive.Archive, plan engine.Plan) error {
		return a.keepStanding(ctx, cfg, f, d, "before an overwrite by backup "+string(b.Entry.ID), repo, plan)
	})
}

// keepStanding makes the backup of what stands at d, or of its raw bytes.
func (a *app) keepStanding(ctx context.Context, cfg *config.Config, f *restoreFlags, d destination, why string, repo *archive.Archive, plan engine.Plan) error {
	plan.Reason = why
	plan.Sources = []engine.NamedSource{a.standing(cfg, d)}
	result, err := engine.Backup(ctx, repo, plan, a.printer.observe)
	if err != nil && ctx.Err() == nil && !errors.Is(err, archive.ErrStore) {
		a.printer.warn("what stands at " + d.name + " cannot be read as what it should be: " + err.Error())
		raw, about, rawErr := a.rawBytes(ctx, cfg, d, f.keepRaw)
		if rawErr != nil && ctx.Err() == nil {
			a.printer.warn("its raw bytes are not kept: " + rawErr.Error())
			a.printer.warn("it is kept on the server under another name, and not in the store")
			return nil
		}
		plan.Reason, plan.Sources = about+"; "+why, []engine.NamedSource{raw}
		result, err = engine.Backup(ctx, repo, plan, a.printer.observe)
	}
	if err != nil {
		return err
	}
	a.sayKept("what is overwritten is kept", plan, result)
	return nil
}

// fileCopy is how a copy is kept before a file of another tool overwrites something.
type fileCopy struct {
	cfg  *config.Config // with the job's store
	job  holdfast.JobName
	seal seal.Options
}

// fileSafety finds the job that a copy can be kept for: that of the import, else the one that is named or the only one.
// Whatever stands in the way is an error, which says why there will be no copy.
func (a *app) fileSafety(ctx context.Context, cfg *config.Config, f *restoreFlags, imported *foreign.Imported) (fileCopy, error) {
	c := fileCopy{cfg: cfg}
	var named holdfast.JobName
	if imported != nil {
		named = imported.Job
	}
	job, err := cfg.Job(named)
	switch {
	case err == nil:
		c.job = job.Name
		if f.Store == "" && job.Store.Name != "" {
			scoped := *cfg
			scoped.Store, c.cfg = job.Store, &scoped
		}
		c.seal, err = sealing(ctx, job)
	case imported != nil:
		// Whoever opens the backups of a job that is not configured here may read this one too.
		var identities []seal.Identity
		identities, err = a.identities(ctx, cfg, &f.storeFlags)
		c.job, c.seal.Recipients = named, seal.RecipientsAmong(identities, nil)
		if err == nil && len(c.seal.Recipients) == 0 {
			err = fmt.Errorf("job %s is not configured here, and no key is given that a copy could be sealed to", named)
		}
	}
	if err != nil {
		return c, err
	}
	c.seal.ToExpired = true
	repo, err := a.reader(ctx, c.cfg, &f.storeFlags)
	if err != nil {
		return c, err
	}
	_, err = repo.List(ctx, c.job)
	return c, err
}

// about says in the plan what is kept.
func (c fileCopy) about() string {
	how := "sealed"
	if c.seal.Plain {
		how = "not sealed, as that job's backups"
	}
	return fmt.Sprintf("before that a copy of it goes into the store, as a backup of job %s (%s)", c.job, how)
}

func (a *app) sayKept(what string, plan engine.Plan, result engine.Result) {
	a.printer.say(fmt.Sprintf("%s as backup %s (%s)", what, result.Entry.ID, plan.Reason))
}

// keepFolder keeps the data folder of a server, sealed, and does nothing else.
func (a *app) keepFolder(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, chosen []source.Stored) error {
	var databases []source.Stored
	for _, stored := range chosen {
		if stored.Kind == holdfast.KindPostgres {
			databases = append(databases, stored)
		}
	}
	if len(databases) != 1 {
		return holdfast.WithHint(fmt.Errorf("%w: --keep-raw is for one PostgreSQL source, and %d are chosen", holdfast.ErrUsage, len(databases)), "name it with --source")
	}
	result, about, err := a.keepRaw(ctx, cfg, f, b, databases[0])
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("kept", map[string]any{"id": result.Entry.ID, "source": databases[0].Source, "folder": f.keepRaw, "reason": about})
	}
	a.result("%s: %s is kept as backup %s: %s", databases[0].Source, f.keepRaw, result.Entry.ID, about)
	return nil
}

func (a *app) keepRaw(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, stored source.Stored) (result engine.Result, about string, err error) {
	raw, about, err := rawFolder(stored, f.keepRaw)
	if err != nil {
		return result, "", err
	}
	err = a.withSafety(ctx, cfg, f, b, stored.Secret, func(repo *archive.Archive, plan engine.Plan) error {
		plan.Reason, plan.Sources = about, []engine.NamedSource{raw}
		result, err = engine.Backup(ctx, repo, plan, a.printer.observe)
		return err
	})
	return result, about, err
}

// withoutServer is for a target whose server does not answer: nothing can be restored there. The bytes of its data folder
// are kept when it was named, so that nobody hesitates to make a new cluster.
func (a *app) withoutServer(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, stored source.Stored, down error) error {
	if f.keepRaw == "" {
		if f.overwrite {
			return holdfast.WithHint(down, holdfast.Hint(down)+"; when it does not start any more, --keep-raw DATA_FOLDER keeps its bytes, sealed, for the time after a restore into a new cluster")
		}
		return down
	}
	result, about, err := a.keepRaw(ctx, cfg, f, b, stored)
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("%w; and the data folder was not kept: %w", down, err), holdfast.Hint(err))
	}
	return holdfast.WithHint(fmt.Errorf("nothing was restored, since no server answers (%w); the data folder %s is kept as backup %s: %s", down, f.keepRaw, result.Entry.ID, about),
		"make a new cluster (initdb, or on Debian pg_createcluster), start it, and run this restore again without --keep-raw and --overwrite")
}
