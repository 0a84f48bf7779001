package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/retention"
	"holdfast/internal/seal"
	"holdfast/internal/survey"
)

// gdprFill gathers the report. What cannot be read is told in it and hides nothing else.
type gdprFill struct {
	app    *app
	cfg    *config.Config
	trust  []seal.PublicKey
	report report.GDPR
	broken error // what is not as it was written
}

// gdpr gathers what is known between two days. broken is holdfast.ErrDifference when records are not what was written; err is that of ctx, or
// of signers that cannot be read.
func (a *app) gdpr(ctx context.Context, cfg *config.Config, f *storeFlags, from, until time.Time) (g report.GDPR, broken, err error) {
	trust, err := trusted(cfg, f)
	if err != nil {
		return g, nil, err
	}
	fill := &gdprFill{app: a, cfg: cfg, trust: trust, report: report.GDPR{
		Host: cfg.Host, Version: a.Version, Config: cfg.File, Made: a.Now(), From: from, Until: until, Identity: cfg.Identity,
	}}
	stores, jobs := storesAndJobs(cfg)
	for _, v := range cfg.Volumes {
		if job, err := cfg.Job(v.Job); err == nil {
			jobs = append(jobs, survey.Job{Name: headerJob(v.Name), Stores: storeNames(job)})
		}
	}
	var found survey.Found
	if len(jobs) > 0 {
		open := func(ctx context.Context) []survey.Place { return a.openPlaces(ctx, stores, trust) }
		if _, found, err = look(ctx, &survey.Surveyor{}, jobs, open); err != nil {
			return g, nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found.Down)) {
		fill.report.Unread = append(fill.report.Unread, fill.unseen(seenAgain, found.Down[name], "store %s", name))
	}
	reachable := slices.DeleteFunc(slices.Clone(stores), func(s config.Store) bool { return found.Down[s.Name] != "" })
	// Before the jobs: what is told of a drill without a record leans on the records.
	fill.chains(ctx, reachable)
	keys := fill.keys(ctx, found.Down)
	for _, job := range cfg.Jobs {
		fill.job(job, jobFound(found, job.Name), keys)
	}
	for _, s := range stores {
		fill.report.Stores = append(fill.report.Stores, gdprStore(cfg.Host, s))
	}
	for _, v := range cfg.Volumes {
		fill.volume(ctx, v, jobFound(found, headerJob(v.Name)))
	}
	return fill.report, fill.broken, context.Cause(ctx)
}

// seenAgain is what to do about what could not be reached.
const seenAgain = "make the report again when it can be reached"

// unseen takes down what could not be looked at, and returns how others call it.
func (g *gdprFill) unseen(fix, why, format string, names ...any) string {
	what := fmt.Sprintf(format, names...)
	g.report.Unseen = append(g.report.Unseen, report.GDPRUnseen{What: what, Why: why, Fix: fix})
	return what
}

// downPlaces are those of a job that could not be looked at, as they are called in Unseen.
func downPlaces(places []health.Place) []string {
	var names []string
	for _, p := range places {
		if p.Down != "" {
			names = append(names, "store "+p.Store)
		}
	}
	return names
}

// jobFound is what the stores have of a job.
func jobFound(found survey.Found, name holdfast.JobName) health.Job {
	at := slices.IndexFunc(found.Jobs, func(j health.Job) bool { return j.Name == name })
	if at < 0 {
		return health.Job{}
	}
	return found.Jobs[at]
}

func storeNames(job config.Job) []string {
	var names []string
	for _, s := range storesOf(job) {
		names = append(names, s.Name)
	}
	return names
}

func (g *gdprFill) job(job config.Job, found health.Job, keys map[string]report.GDPRKey) {
	j := report.GDPRJob{
		Name: job.Name, Seal: string(job.Seal), Stores: storeNames(job), Keep: keepWords(job), Unread: downPlaces(found.Places), RPO: job.Objectives.RPO, RTO: job.Objectives.RTO,
		DrillEvery: job.Drill.Every,
	}
	if gap := job.Schedule.Gap(holdfast.TaskDrill, g.report.Made); gap > 0 {
		j.DrillEvery = gap
	}
	// As long as the alarm waits: a drill takes its time too.
	j.DrillEvery += limitsOf(g.cfg).GraceFor(j.DrillEvery)
	for _, src := range job.Sources {
		j.Sources = append(j.Sources, report.GDPRSource{Name: src.Name, Kind: src.Kind, Secret: src.Secret})
	}
	for _, key := range job.Recipients {
		j.Passphrase = j.Passphrase || !key.Passphrase.IsZero()
		j.Keys = append(j.Keys, keys[key.Name])
	}
	for _, b := range found.Backups {
		if !b.Complete {
			continue
		}
		one := report.GDPRBackup{ID: b.ID, Time: b.Time}
		if j.Backups++; j.Backups == 1 {
			j.Oldest = one
		}
		j.Newest = one
	}
	g.report.Jobs = append(g.report.Jobs, j)
	g.proofs(found)
}

// proofs adds the newest drills that the stores tell of and no record does: those of a machine which carries no journal there.
func (g *gdprFill) proofs(found health.Job) {
	for _, newest := range []func() (health.Proof, bool){found.Proven, found.Drilled} {
		if p, some := newest(); some && p.Trusted && p.Time.Before(g.report.Until) {
			g.proof(found.Name, p)
		}
	}
}

func (g *gdprFill) proof(job holdfast.JobName, p health.Proof) {
	// A drill is recorded after its verdict was signed.
	if slices.ContainsFunc(g.report.Records, func(r report.GDPRRecord) bool {
		return r.Event == string(journal.Drilled) && r.Job == job && !r.Time.Before(p.Time)
	}) {
		return
	}
	result := string(p.Verdict)
	if p.Verdict == holdfast.Failed {
		result = resultOf(holdfast.ErrDifference)
	}
	at, _ := slices.BinarySearchFunc(g.report.Records, p.Time, func(r report.GDPRRecord, t time.Time) int { return r.Time.Compare(t) })
	g.report.Records = slices.Insert(g.report.Records, at, report.GDPRRecord{
		ID: fmt.Sprintf("proof of backup %s in store %s", p.Backup, p.Store), Time: p.Time, Event: string(journal.Drilled), Job: job, Backup: p.Backup, Store: p.Store,
		Who: "not recorded", Result: result, Figures: map[string]float64{"compared": float64(p.Compared), "differences": float64(p.Differ), "rto_seconds": p.RTO.Seconds()},
	})
}

// keepWords are the rules that a job's backups are kept by, in words; none: nothing is ever deleted.
func keepWords(job config.Job) []string {
	if !job.Keep.Given {
		return nil
	}
	words := func(p retention.Policy, where string) []string {
		all := []string{p.Default.String() + where}
		for _, kind := range slices.Sorted(maps.Keys(p.Kinds)) {
			all = append(all, fmt.Sprintf("of kind %s: %s%s", kind, p.Kinds[kind], where))
		}
		return all
	}
	all := words(job.Keep.Policy, "")
	for _, name := range slices.Sorted(maps.Keys(job.Keep.Stores)) {
		all = append(all, words(job.Keep.Stores[name], " in store "+name)...)
	}
	return all
}

// keys are those of the configuration, by name.
func (g *gdprFill) keys(ctx context.Context, down map[string]string) map[string]report.GDPRKey {
	open := func(where config.Store) (*archive.Archive, error) {
		if why := down[where.Name]; why != "" {
			return nil, errors.New(why)
		}
		return g.app.repository(ctx, where, access{trusted: g.trust})
	}
	var unread []string
	views, err := g.app.keysSeen(ctx, g.cfg, open, func(store string, err error) {
		if down[store] != "" { // which is told
			unread = append(unread, "store "+store)
			return
		}
		unread = append(unread, g.unseen(seenAgain, holdfast.Sentence(err), "checks of keys in store %s", store))
	})
	if err != nil && ctx.Err() == nil {
		unread = append(unread, g.unseen("`holdfast key list` says which, and `holdfast key check` makes new ones", holdfast.Sentence(err), "some checks of keys"))
		g.broken = errors.Join(g.broken, err)
	}
	keys := map[string]report.GDPRKey{}
	for _, v := range views {
		key := report.GDPRKey{Name: v.key.Name, ID: strings.Join(v.ids(), ", "), Holder: v.key.Holder, Created: v.created, Expires: v.expires, Unread: unread}
		if last := v.last(); !last.Time.IsZero() {
			key.Checked = last.Time
			key.CheckedBy = fmt.Sprintf("check %s of job %s, by %s on %s", last.ID, last.Job, last.Who, last.Host)
			if !last.trusted {
				key.CheckedBy += "; its signer was not checked"
			}
		}
		keys[v.key.Name] = key
	}
	return keys
}
