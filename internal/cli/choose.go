package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
)

// chooseFlags say which backup is meant, when no ID does.
type chooseFlags struct{ pick, olderThan string }

func (f *chooseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pick, "pick", "newest", "which backup, when no ID is given: newest or random")
	cmd.Flags().StringVar(&f.olderThan, "older-than", "", "only backups that are at least so old, such as `14d`; a random one is then from the week before that, if there is any")
}

// pickWeek is how far behind the age that was asked for a random backup is looked for first.
const pickWeek = 7 * 24 * time.Hour

// choose turns the flags into the ID of a complete backup; args that name one go before.
func (a *app) choose(ctx context.Context, repo *archive.Archive, f *storeFlags, how chooseFlags, args []string) ([]string, error) {
	if how.pick != "newest" && how.pick != "random" {
		return nil, holdfast.WithHint(fmt.Errorf("%w: --pick %q is not known", holdfast.ErrUsage, how.pick), "use newest or random")
	}
	if how.pick == "newest" && how.olderThan == "" {
		return args, nil
	}
	if len(args) > 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: a backup is named and is to be chosen too", holdfast.ErrUsage), "give the ID alone, or --pick and --older-than without it")
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
	chosen, found := chosenEntry(regular(entries), how.pick == "random", age, a.Now())
	if !found {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no complete backup that is older than %s", holdfast.ErrCannotTest, how.olderThan), "`holdfast list` shows what there is; the keep rules say how long: docs/retention.md")
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

// longestUnread finds the copy of a complete backup that was looked at longest ago, in any store of the job, or of every job: what was
// never looked at comes first, and of that the newest.
func (a *app) longestUnread(ctx context.Context, cfg *config.Config, f *storeFlags) (where config.Store, id holdfast.BackupID, err error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return where, "", err
	}
	name, err := f.job()
	if err != nil {
		return where, "", err
	}
	places, err := cfg.AllStores(name)
	if err != nil {
		return where, "", err
	}
	var chosen archive.Entry
	var read time.Time // when the chosen one was last looked at
	for i, place := range a.openPlaces(ctx, places, keys) {
		if place.Err == nil {
			var entries []archive.Entry
			if entries, place.Err = place.Archive.List(ctx, name); place.Err == nil {
				for _, e := range regular(entries) {
					last, _ := e.Verified()
					if !e.Complete || chosen.ID != "" && (last.Time.After(read) || last.Time.Equal(read) && !e.Time.After(chosen.Time)) {
						continue
					}
					chosen, read, where = e, last.Time, places[i]
				}
			}
		}
		if place.Err != nil {
			a.printer.warn("store " + place.Store + " was not looked at: " + holdfast.Sentence(place.Err))
		}
	}
	if chosen.ID == "" {
		return where, "", holdfast.WithHint(fmt.Errorf("%w: no store holds a complete backup", holdfast.ErrIncomplete), "make one with `holdfast backup`")
	}
	return where, chosen.ID, nil
}
