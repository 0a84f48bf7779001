package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
)

// chooseFlags say which backup is meant, when no ID does.
type chooseFlags struct{ pick, olderThan string }

func (f *chooseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pick, "pick", pickNewest, "which backup, when no ID is given: newest, random, or mirror, which is the newest in the mirror where one was proven longest ago")
	cmd.Flags().StringVar(&f.olderThan, "older-than", "", "only backups that are at least so old, such as `14d`; a random one is then from the week before that, if there is any")
}

// What --pick takes.
const (
	pickNewest = "newest"
	pickRandom = "random"
	pickMirror = "mirror"
)

// pickWeek is how far behind the age that was asked for a random backup is looked for first.
const pickWeek = 7 * 24 * time.Hour

// check refuses flags that contradict each other or the arguments.
func (f *chooseFlags) check(args []string, store string) error {
	if !slices.Contains([]string{pickNewest, pickRandom, pickMirror}, f.pick) {
		return holdfast.WithHint(fmt.Errorf("%w: --pick %q is not known", holdfast.ErrUsage, f.pick), "use newest, random or mirror")
	}
	if len(args) > 0 && (f.pick != pickNewest || f.olderThan != "") {
		return holdfast.WithHint(fmt.Errorf("%w: a backup is named and is to be chosen too", holdfast.ErrUsage), "give the ID alone, or --pick and --older-than without it")
	}
	if f.pick == pickMirror && store != "" {
		return holdfast.WithHint(fmt.Errorf("%w: a store is named and is to be chosen too", holdfast.ErrUsage), "leave out --store, or --pick mirror")
	}
	return nil
}

// task is the scheduled kind of drill that is called with these flags.
func (f *chooseFlags) task() holdfast.Task {
	switch {
	case f.pick == pickMirror:
		return holdfast.TaskDrillCopy
	case f.olderThan != "":
		return holdfast.TaskDrillOld
	}
	return holdfast.TaskDrill
}

// choose turns the flags into the ID of a complete backup; args that name one go before.
func (a *app) choose(ctx context.Context, repo *archive.Archive, f *storeFlags, how chooseFlags, args []string) ([]string, error) {
	if how.pick != pickRandom && how.olderThan == "" {
		return args, nil
	}
	var age time.Duration
	if how.olderThan != "" {
		var err error
		if age, err = config.ParseSpan(how.olderThan); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("%w: --older-than: %w, not %q", holdfast.ErrUsage, err, how.olderThan), "write 14d or 36h")
		}
	}
	job, err := f.job()
	if err != nil {
		return nil, err
	}
	entries, err := repo.List(ctx, job)
	if err != nil {
		return nil, err
	}
	chosen, found := chosenEntry(regular(entries), how.pick == pickRandom, age, a.Now())
	if !found {
		text := "there is no complete backup"
		if how.olderThan != "" {
			text += " that is older than " + how.olderThan
		}
		return nil, holdfast.WithHint(fmt.Errorf("%w: %s", holdfast.ErrCannotTest, text), "`holdfast list` shows what there is; the keep rules say how long: docs/retention.md")
	}
	return []string{string(chosen.ID)}, nil
}

// chosenEntry is the newest complete entry that is at least so old, or a random one: of the week before that age, else of all.
func chosenEntry(entries []archive.Entry, random bool, age time.Duration, now time.Time) (chosen archive.Entry, found bool) {
	var old, week []archive.Entry
	for _, e := range entries {
		if !e.Complete || now.Sub(e.Time) < age {
			continue
		}
		old = append(old, e)
		if now.Sub(e.Time) < age+pickWeek {
			week = append(week, e)
		}
	}
	switch {
	case len(old) == 0:
		return archive.Entry{}, false
	case !random:
		return old[len(old)-1], true
	case len(week) > 0 && age > 0:
		return week[rand.IntN(len(week))], true
	}
	return old[rand.IntN(len(old))], true
}

// longestUnread finds the copy of a complete backup that was looked at longest ago, in any store of the job, or of every job. A copy was
// read back when it was made.
func (a *app) longestUnread(ctx context.Context, cfg *config.Config, f *storeFlags) (where config.Store, id holdfast.BackupID, err error) {
	name, err := f.job()
	if err != nil {
		return where, "", err
	}
	places, err := cfg.AllStores(name)
	if err != nil {
		return where, "", err
	}
	var oldest time.Time // when the chosen one was last looked at
	unseen, err := a.eachListed(ctx, cfg, f, places, name, func(place config.Store, entries []archive.Entry) {
		for _, e := range regular(entries) {
			looked := e.Time
			if last, is := e.Verified(); is {
				looked = last.Time
			}
			if e.Complete && (id == "" || looked.Before(oldest)) {
				where, id, oldest = place, e.ID, looked
			}
		}
	})
	if err == nil && id == "" {
		err = noneComplete("no store", unseen, holdfast.ErrIncomplete, "make one with `holdfast backup`")
	}
	return where, id, err
}

// mirrorToProve is the mirror of the job in which a backup was proven longest ago; one where that never happened comes first.
func (a *app) mirrorToProve(ctx context.Context, cfg *config.Config, f *storeFlags) (config.Store, error) {
	name, err := f.job()
	if err != nil {
		return config.Store{}, err
	}
	job, err := cfg.Job(name)
	if err != nil {
		return config.Store{}, err
	}
	if len(job.Mirrors) == 0 {
		return config.Store{}, holdfast.WithHint(fmt.Errorf("%w: job %s has no mirrors", holdfast.ErrUsage, job.Name), "put mirrors: [STORE] into the job")
	}
	f.Job = string(job.Name)
	var chosen config.Store
	var oldest time.Time
	elsewhere := map[holdfast.BackupID]bool{} // proofs of the job's own store, which mirrors get too
	unseen, err := a.eachListed(ctx, cfg, f, storesOf(job), job.Name, func(place config.Store, entries []archive.Entry) {
		var proven time.Time
		complete := false
		for _, e := range regular(entries) {
			complete = complete || e.Complete
			for _, proof := range e.Proofs {
				if place.Name == job.Store.Name {
					elsewhere[proof.ID] = true
				} else if proof.Verdict == holdfast.Proven && !elsewhere[proof.ID] && proof.Time.After(proven) {
					proven = proof.Time
				}
			}
		}
		if place.Name != job.Store.Name && complete && (chosen.Name == "" || proven.Before(oldest)) {
			chosen, oldest = place, proven
		}
	})
	if err == nil && chosen.Name == "" {
		err = noneComplete("no mirror of job "+string(job.Name), unseen, holdfast.ErrCannotTest, "`holdfast mirror "+string(job.Name)+"` copies what is missing")
	}
	return chosen, err
}

// noneComplete says that no complete backup was found in stores, of which some may not have been seen.
func noneComplete(where string, unseen bool, class error, hint string) error {
	if unseen {
		where, hint = where+" that could be looked at", "`holdfast doctor` says what is wrong with a store"
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s holds a complete backup", class, where), hint)
}

// eachListed lists the backups of a job, or of every job, in stores, one after another. A store that cannot be looked at is warned of, and counts
// as unseen.
func (a *app) eachListed(ctx context.Context, cfg *config.Config, f *storeFlags, stores []config.Store, job holdfast.JobName, do func(config.Store, []archive.Entry)) (unseen bool, err error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return false, err
	}
	for i, place := range a.openPlaces(ctx, stores, keys) {
		var entries []archive.Entry
		if place.Err == nil {
			entries, place.Err = place.Archive.List(ctx, job)
		}
		if place.Err != nil {
			a.printer.warn("store " + place.Store + " was not looked at: " + holdfast.Sentence(place.Err))
			unseen = true
			continue
		}
		do(stores[i], entries)
	}
	return unseen, ctx.Err()
}
