package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/store"
)

// sweepAge is how old what cut uploads left behind must be before a prune collects it.
const sweepAge = 7 * 24 * time.Hour

type pruneFlags struct {
	storeFlags
	stores  []string
	keep    string
	dryRun  bool
	force   bool
	imports bool
	reason  string
}

func (a *app) pruneCommand() *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use: "prune [JOB]", Short: "Delete the backups that no rule keeps", Args: cobra.MaximumNArgs(1),
		Long: "Delete, in each store of a job, the backups that its keep rule no longer keeps, and say why each is kept or goes. Never deleted are the\n" +
			"newest complete backup, the newest proven one, what is pinned or locked, what is younger than a day, and the last copy anywhere of\n" +
			"what some store's rule keeps. Nothing at all is deleted while the newest run has failed, the newest backup is older than twice its interval,\n" +
			"or the clock looks wrong; --force overrides that, and never what is protected.\n\n" +
			"Each deletion is first recorded in the store with its reason and signed. docs/retention.md has the rules.",
		Example: "  holdfast prune --dry-run\n  holdfast prune app --store box\n  holdfast prune --store /srv/backups --job app --keep daily=7,weekly=4,monthly=12,yearly=forever",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Job = args[0]
			}
			if f.force && f.reason == "" {
				return holdfast.WithHint(fmt.Errorf("%w: --force needs a reason, which is recorded", holdfast.ErrUsage), `add --reason "…"`)
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if len(cfg.Jobs) == 0 && len(f.stores) == 1 {
				f.Store = f.stores[0] // a janitor without a configuration
				if cfg, err = a.load(f.Flags, false); err != nil {
					return err
				}
			}
			jobs, err := a.pruneJobs(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			var problems []error
			for _, job := range jobs {
				if err := a.prune(cmd.Context(), cfg, job, &f); err != nil {
					problems = append(problems, fmt.Errorf("job %s: %w", job.Name, err))
				}
			}
			return errors.Join(problems...)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.stores, "store", nil, "delete in this `STORE` only: a name from the configuration, a folder, s3://… or sftp://…; may be given several times")
	flags.StringVar(&f.Job, "job", "", "only backups of this `JOB`")
	flags.StringVar(&f.keep, "keep", "", "the `RULE`, instead of the configuration's: daily=7,weekly=4,monthly=12,yearly=forever")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "say what would be deleted, and delete nothing")
	flags.BoolVar(&f.force, "force", false, "delete in spite of what blocks; needs --reason")
	flags.StringVar(&f.reason, "reason", "", "why it is forced, which is recorded")
	flags.BoolVar(&f.imports, "imports", false, "also delete imported files that no rule keeps, which are otherwise only looked at")
	f.addSigners(cmd)
	return cmd
}

// pruneJobs are the jobs that a prune is about, with their rules and stores: the one that is named, or all that have a rule and keep
// something in the stores that are named.
func (a *app) pruneJobs(ctx context.Context, cfg *config.Config, f *pruneFlags) ([]config.Job, error) {
	name, err := f.job()
	if err != nil {
		return nil, err
	}
	var keep config.Keep
	if f.keep != "" {
		if keep, err = config.ParseKeep(f.keep); err != nil {
			return nil, err
		}
	}
	var jobs []config.Job
	var elsewhere error // why a job is left out
	for _, job := range cfg.Jobs {
		if name != "" && job.Name != name {
			continue
		}
		if name == "" {
			if chosen, err := pruneStores(cfg, f.stores, job); err != nil && len(chosen) == 0 {
				elsewhere = err
				continue
			}
		}
		if f.keep != "" {
			job.Keep = keep
		}
		if job.Keep.Given {
			jobs = append(jobs, job)
		}
	}
	if len(jobs) > 0 {
		return jobs, nil
	}
	if elsewhere != nil {
		return nil, elsewhere
	}
	if _, err := cfg.Job(name); err != nil && name != "" && len(cfg.Jobs) > 0 && len(f.stores) == 0 {
		return nil, err
	}
	if f.keep == "" || slices.ContainsFunc(cfg.Jobs, func(j config.Job) bool { return j.Name == name }) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no rule says what is kept, so nothing is deleted", holdfast.ErrUsage),
			"put keep: {daily: 7, weekly: 4, monthly: 12, yearly: forever} into the job, or give --keep")
	}
	// A janitor without a configuration: the store tells the jobs.
	where, err := cfg.StoreNamed("")
	if err != nil {
		return nil, err
	}
	names := []holdfast.JobName{name}
	if name == "" {
		repo, err := a.repository(ctx, where, access{})
		if err != nil {
			return nil, err
		}
		if names, err = repo.Jobs(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		jobs = append(jobs, config.Job{Name: name, Store: where, Keep: keep})
	}
	return jobs, nil
}

func (a *app) prune(ctx context.Context, cfg *config.Config, job config.Job, f *pruneFlags) (err error) {
	keys, err := trusted(cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	with := access{trusted: keys}
	began := a.Now()
	if !f.dryRun {
		lock, lockErr := a.lockJob(cfg, job.Store, job.Name)
		if lockErr != nil {
			return lockErr
		}
		defer func() { err = errors.Join(err, lock.Release()) }()
		told := a.announce(ctx, cfg, job.Name, holdfast.TaskPrune)
		defer func() { told.ended(ctx, err) }()
		if with.signer, err = a.signer(cfg); err != nil {
			return err
		}
	}
	places := storesOf(job)
	only, err := pruneStores(cfg, f.stores, job)
	if err != nil && (f.Job != "" || len(only) == 0) {
		return err
	}
	var shelves []engine.Shelf
	for _, place := range places {
		repo, err := a.repository(ctx, place, with)
		if err != nil {
			a.printer.warn(fmt.Sprintf("store %s cannot be reached, so it counts as holding nothing: %s", place.Name, holdfast.Sentence(err)))
		}
		shelves = append(shelves, engine.Shelf{Name: place.Name, Archive: repo, Err: err, Policy: job.Keep.For(place.Name)})
	}
	plan := engine.PrunePlan{Job: job.Name, Host: cfg.Host, Who: a.who(), Now: a.Now(), Force: f.force}
	if err := a.pruneImports(ctx, cfg, f, job, shelves[0], &plan); err != nil {
		return err
	}
	review, err := engine.ReviewPrune(ctx, shelves, plan)
	if err != nil {
		return err
	}
	for _, warning := range review.Warnings {
		a.printer.warn(holdfast.Sentence(warning))
	}
	review = review.Only(only)
	a.showReview(job, review, f.dryRun)
	if f.dryRun {
		return review.Unseen()
	}
	deleted := map[string]int{}
	failed := map[string]error{} // by the store
	pruneErr := engine.Prune(ctx, review, func(d engine.Deletion) {
		switch {
		case d.Err != nil:
			failed[d.Store] = d.Err
		case !d.Held && !d.Pinned:
			deleted[d.Store]++
		}
		a.showDeletion(job, d)
		if d.Pinned {
			return
		}
		a.note(cfg, journal.Pruned, d.Err, func(r *journal.Record) {
			r.Job, r.Backup, r.Store, r.Detail, r.Reason = job.Name, d.Entry.ID, d.Store, d.Why, f.reason
			r.Figures = map[string]float64{"objects": float64(d.Objects)}
			if d.Held {
				r.Result = "retained"
			}
		})
	})
	defer a.carryJournal(context.WithoutCancel(ctx), cfg, places)
	problems := []error{pruneErr}
	hint := "mend that first; `holdfast prune --force --reason \"…\"` overrides it, and never deletes what is protected"
	if f.force {
		hint = "mend that first: `holdfast verify` says what is the matter; --force does not override it"
	}
	for _, s := range review.Stores {
		switch {
		case s.Open():
			a.result("store %s of job %s: %d backups deleted", s.Name, job.Name, deleted[s.Name])
			a.note(cfg, journal.PruneDone, failed[s.Name], func(r *journal.Record) {
				r.Job, r.Store, r.Reason = job.Name, s.Name, f.reason
				r.Figures = withSeconds(map[string]float64{"deleted": float64(deleted[s.Name]), "kept": float64(len(s.Decisions) - deleted[s.Name])}, a.Now().Sub(began))
			})
			problems = append(problems, a.sweep(ctx, places, s.Name))
		case s.Blocked != "":
			a.note(cfg, journal.PruneBlocked, nil, func(r *journal.Record) { r.Job, r.Store, r.Detail, r.Result = job.Name, s.Name, s.Blocked, "refused" })
			problems = append(problems, holdfast.WithHint(fmt.Errorf("nothing was deleted in store %s: %s", s.Name, s.Blocked),
				hint))
		}
	}
	return errors.Join(problems...)
}

// pruneStores are the names of the job's stores that things are deleted in, with no texts none, which means all. What is no store of it
// is an error beside them.
func pruneStores(cfg *config.Config, texts []string, job config.Job) ([]string, error) {
	var names []string
	var problem error
	for _, text := range texts {
		where, err := cfg.StoreFor(text)
		switch {
		case err != nil:
			problem = err
		case storeAt(storesOf(job), where.Name) < 0:
			problem = holdfast.WithHint(fmt.Errorf("%w: %s is no store of job %s", holdfast.ErrUsage, text, job.Name), "name its store or one of its mirrors")
		default:
			names = append(names, where.Name)
		}
	}
	return names, problem
}

// storeAt is the place of the store called name, -1 when it is none of them.
func storeAt(places []config.Store, name string) int {
	return slices.IndexFunc(places, func(s config.Store) bool { return s.Name == name })
}

// storesOf is where a job's backups are: its store, and its mirrors.
func storesOf(job config.Job) []config.Store {
	return append([]config.Store{job.Store}, job.Mirrors...)
}

// pruneImports lets imported files of the job be kept by its rules.
func (a *app) pruneImports(ctx context.Context, cfg *config.Config, f *pruneFlags, job config.Job, shelf engine.Shelf, plan *engine.PrunePlan) error {
	if shelf.Archive == nil {
		return nil
	}
	old, err := a.importedIn(ctx, cfg, &f.storeFlags, job.Store, shelf.Archive, job.Name)
	if err != nil {
		a.printer.warn("imported files are left alone: " + holdfast.Sentence(err))
		return nil
	}
	plan.Imported = old.entries
	if f.imports {
		plan.RemoveImported = func(ctx context.Context, entry archive.Entry, record archive.Prune) error {
			return a.removeImported(ctx, shelf.Archive, old.files[entry.ID], entry, record)
		}
	}
	return nil
}

func (a *app) showReview(job config.Job, review engine.Review, dry bool) {
	for _, s := range review.Stores {
		goes := "DELETE"
		if s.Blocked != "" {
			goes = "would go"
		}
		if a.flags.json {
			for _, d := range s.Decisions {
				fields := map[string]any{"job": job.Name, "store": s.Name, "id": d.Entry.ID, "time": d.Entry.Time, "kind": d.Entry.Kind, "stored": d.Entry.Size, "keep": d.Keep, "why": d.Why, "read_only": d.ReadOnly, "blocked": s.Blocked}
				if !d.Until.IsZero() {
					fields["until"] = d.Until
				}
				a.printEvent("decision", fields)
			}
			continue
		}
		if s.Err != nil || !dry {
			continue
		}
		fmt.Fprintf(a.Out, "job %s, store %s: %s\n", job.Name, s.Name, ruleText(job.Keep, s.Name))
		if s.Blocked != "" {
			fmt.Fprintf(a.Out, "  BLOCKED: %s\n", s.Blocked)
		}
		w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
		for _, d := range s.Decisions {
			verdict := "keep"
			switch {
			case !d.Keep && d.ReadOnly:
				verdict = "read-only"
			case !d.Keep:
				verdict = goes
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", d.Entry.ID, d.Entry.Time.Format("2006-01-02 15:04"), d.Entry.Kind, report.Size(d.Entry.Size), verdict, d.Why)
		}
		for _, l := range s.Leftovers {
			fmt.Fprintf(w, "  %s\t%s\t\t%s\t%s\t%d objects of a run or prune that never ended\n", l.Entry.ID, l.Entry.Time.Format("2006-01-02 15:04"), report.Size(l.Bytes), goes, l.Objects)
		}
		_ = w.Flush() // to a.Out, whose errors the commands do not look at either
	}
}

func ruleText(keep config.Keep, name string) string {
	policy := keep.For(name)
	parts := []string{}
	if text := policy.Default.String(); text != "" {
		parts = append(parts, text)
	}
	for _, kind := range []string{"full", "hourly", "manual", "safety", "imported"} {
		if rule, own := keep.Kind(name, kind); own {
			parts = append(parts, kind+": "+rule.String())
		}
	}
	return "keeps " + strings.Join(parts, "; ")
}

func (a *app) showDeletion(job config.Job, d engine.Deletion) {
	if a.flags.json {
		fields := map[string]any{"job": job.Name, "store": d.Store, "id": d.Entry.ID, "why": d.Why, "objects": d.Objects, "deleted": d.Err == nil && !d.Held && !d.Pinned, "retained": d.Held, "pinned": d.Pinned}
		if !d.Retained.IsZero() {
			fields["until"] = d.Retained
		}
		a.printEvent("deletion", fields)
	}
	what := fmt.Sprintf("%s of %s in %s", d.Entry.ID, d.Entry.Time.Format("2006-01-02 15:04 UTC"), d.Store)
	switch {
	case d.Pinned:
		a.printer.warn(what + " stays: a record in this store pins it; `holdfast unpin` again, if it should not")
	case d.Held && !d.Retained.IsZero():
		a.printer.say("  retained until " + d.Retained.UTC().Format("2006-01-02 15:04 UTC") + ": " + what)
	case d.Held:
		a.printer.say("  retained by the store: " + what)
	case d.Err == nil:
		a.printer.say("  deleted " + what + ": " + d.Why)
	}
}

// sweep collects what cut uploads left behind in a store, where it knows such things.
func (a *app) sweep(ctx context.Context, places []config.Store, name string) error {
	place := places[storeAt(places, name)]
	s, err := a.openStore(ctx, place, false)
	if err != nil {
		return err
	}
	janitor, is := s.Driver().(store.Janitor)
	if !is {
		return nil
	}
	n, what, err := janitor.Sweep(ctx, sweepAge)
	if n > 0 {
		a.printer.say(fmt.Sprintf("store %s: removed %d %s", name, n, what))
	}
	if err != nil {
		return fmt.Errorf("store %s: collect %s: %w", name, what, err)
	}
	return nil
}
