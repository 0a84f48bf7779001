package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/journal"
	"holdfast/internal/report"
)

func (a *app) mirrorCommand() *cobra.Command {
	var f storeFlags
	var from string
	var to []string
	var create bool
	cmd := &cobra.Command{
		Use: "mirror [JOB]", Short: "Copy backups to other stores, byte for byte", Args: cobra.MaximumNArgs(1),
		Long: "Copy what other stores lack of a job's backups: by default from the job's store to all its mirrors, in either direction with\n" +
			"--from and --to. The newest comes first; of each, the objects are copied, read back and compared with the signed manifest, and\n" +
			"then the manifest makes the copy exist. A copy that was interrupted goes on where it ended. Nothing is overwritten and nothing is\n" +
			"deleted; what a prune deleted from a store does not come back to it.\n\n" +
			"`holdfast backup` does this for the mirrors of its job.",
		Example: "  holdfast mirror app\n  holdfast mirror app --from box --to main      # the disk was lost, and box has the backups\n" +
			"  holdfast mirror --from /srv/backups --to sftp://u1@box.example:23/./backups",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Job = args[0]
			}
			f.Store = from
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			name, err := f.job()
			if err != nil {
				return err
			}
			return a.mirror(cmd.Context(), cfg, &f, to, name, create)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "the store that has the backups: a `STORE` of the configuration, a folder, s3://… or sftp://…")
	flags.StringArrayVar(&to, "to", nil, "a `STORE` that gets what it lacks; may be given several times")
	flags.StringVar(&f.Job, "job", "", "only backups of this `JOB`")
	flags.BoolVar(&create, "create-store", false, "make a store when it is not there")
	f.addSigners(cmd)
	return cmd
}

// route is the way of one job's backups.
type route struct {
	job  holdfast.JobName
	from config.Store
	to   []config.Store
}

func (a *app) mirror(ctx context.Context, cfg *config.Config, f *storeFlags, to []string, name holdfast.JobName, create bool) error {
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	routes, err := a.routes(ctx, cfg, f, to, name, access{trusted: keys})
	if err != nil {
		return err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	with := access{signer: signer, trusted: keys, create: create}
	var problems []error
	for _, r := range routes {
		for _, to := range r.to {
			if err := apart(r.from, to); err != nil {
				return err
			}
		}
	}
	for _, r := range routes {
		if err := a.mirrorRoute(ctx, cfg, r, with); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// mirrorRoute copies one job. It waits for no run and holds up none: the first copy of a large store takes days, and what a prune deletes
// meanwhile is not missed.
func (a *app) mirrorRoute(ctx context.Context, cfg *config.Config, r route, with access) (err error) {
	told := a.announce(ctx, cfg, r.job, holdfast.TaskMirror)
	defer func() { told.ended(ctx, err) }()
	repo, err := a.repository(ctx, r.from, access{signer: with.signer, trusted: with.trusted})
	if err != nil {
		return fmt.Errorf("%w: job %s: store %s: %w", holdfast.ErrIncomplete, r.job, r.from.Name, err)
	}
	defer a.carryJournal(context.WithoutCancel(ctx), cfg, append([]config.Store{r.from}, r.to...))
	return a.copies(ctx, cfg, r, repo, with)
}

// apart refuses a copy that would be none.
func apart(from, to config.Store) error {
	if storeAddress(from) != storeAddress(to) {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s is the same place as %s", holdfast.ErrUsage, to.Name, from.Name), "a copy must be in another place")
}

// routes says which jobs are copied from where to where.
func (a *app) routes(ctx context.Context, cfg *config.Config, f *storeFlags, texts []string, name holdfast.JobName, with access) ([]route, error) {
	var to []config.Store
	for _, text := range texts {
		store, err := cfg.StoreFor(text)
		if err != nil {
			return nil, err
		}
		to = append(to, store)
	}
	if f.Store != "" && len(to) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: where to is not said", holdfast.ErrUsage), "give --to STORE")
	}
	if f.Store == "" {
		var routes []route
		for _, job := range cfg.Jobs {
			if name != "" && job.Name != name {
				continue
			}
			r := route{job.Name, job.Store, to}
			if len(to) == 0 {
				r.to = job.Mirrors
			} else if name == "" {
				// It is about the jobs that are elsewhere.
				r.to = slices.DeleteFunc(slices.Clone(to), func(s config.Store) bool { return storeAddress(s) == storeAddress(job.Store) })
			}
			if len(r.to) > 0 {
				routes = append(routes, r)
			}
		}
		if len(routes) > 0 {
			return routes, nil
		}
		if _, err := cfg.Job(name); err != nil && name != "" {
			return nil, err
		}
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no mirror to copy to", holdfast.ErrUsage), "give --from and --to, or put mirrors: [STORE] into the job")
	}
	from, err := cfg.StoreNamed("")
	if err != nil {
		return nil, err
	}
	jobs := []holdfast.JobName{name}
	if name == "" {
		repo, err := a.repository(ctx, from, access{trusted: with.trusted})
		if err != nil {
			return nil, err
		}
		if jobs, err = repo.Jobs(ctx); err != nil {
			return nil, err
		}
	}
	var routes []route
	for _, job := range jobs {
		routes = append(routes, route{job, from, to})
	}
	return routes, nil
}

// copies brings one job to all stores of its route, at once: one that fails neither stops nor delays the others.
func (a *app) copies(ctx context.Context, cfg *config.Config, r route, repo *archive.Archive, with access) error {
	var mu sync.Mutex // guards problems
	var problems []error
	var group errgroup.Group
	for _, store := range r.to {
		group.Go(func() error {
			began := a.Now()
			done, err := a.copyTo(ctx, cfg, r, repo, store, with)
			mu.Lock()
			defer mu.Unlock()
			a.showCopies(r, store, done, err)
			if done.Objects > 0 || err != nil {
				a.note(cfg, journal.Mirrored, err, func(rec *journal.Record) {
					rec.Job, rec.Store = r.job, store.Name
					rec.Figures = withSeconds(map[string]float64{"backups": float64(done.Backups), "objects": float64(done.Objects), "bytes": float64(done.Bytes)}, a.Now().Sub(began))
					if done.Objects == 0 {
						return // it may not be there at all
					}
					if free := a.freeIn(ctx, store); free >= 0 {
						rec.Figures["free"] = float64(free)
					}
				})
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("mirror %s: %w", store.Name, err))
			}
			return nil
		})
	}
	_ = group.Wait() // every function returns nil: problems has what went wrong
	if err := errors.Join(problems...); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: job %s: %w", holdfast.ErrIncomplete, r.job, err)
	}
	return nil
}

func (a *app) copyTo(ctx context.Context, cfg *config.Config, r route, repo *archive.Archive, store config.Store, with access) (engine.Mirrored, error) {
	if err := apart(r.from, store); err != nil {
		return engine.Mirrored{}, err
	}
	to, err := a.destinationStore(ctx, store, with)
	if err != nil {
		return engine.Mirrored{}, err
	}
	return engine.Mirror(ctx, repo, to, engine.MirrorPlan{Job: r.job, Host: cfg.Host, Who: a.who(), Now: a.Now}, a.printer.observe)
}

func (a *app) showCopies(r route, store config.Store, done engine.Mirrored, err error) {
	if a.flags.json {
		a.printEvent("mirror", map[string]any{"job": r.job, "from": r.from.Name, "to": store.Name, "backups": done.Backups, "objects": done.Objects, "bytes": done.Bytes, "good": err == nil})
	}
	switch {
	case err == nil && done.Objects == 0:
		a.result("mirror %s of job %s: nothing was missing", store.Name, r.job)
	case err == nil:
		a.result("mirror %s of job %s: copied %d backups, %d objects, %s; read back", store.Name, r.job, done.Backups, done.Objects, report.Size(done.Bytes))
	case done.Objects > 0:
		a.result("mirror %s of job %s: copied %d backups, %d objects, %s; then it failed, and the next run goes on", store.Name, r.job, done.Backups, done.Objects, report.Size(done.Bytes))
	}
}

// mirrorJob copies a job's backups to its mirrors after a run.
func (a *app) mirrorJob(ctx context.Context, cfg *config.Config, job config.Job, repo *archive.Archive, create bool) error {
	if len(job.Mirrors) == 0 {
		return nil
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	return a.copies(ctx, cfg, route{job.Name, job.Store, job.Mirrors}, repo, access{signer: signer, create: create})
}
