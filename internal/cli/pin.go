package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/journal"
)

type pinFlags struct {
	storeFlags
	reason string
	until  string
}

func (a *app) pinCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use: "pin ID", Short: "Keep a backup whatever the rules say", Args: cobra.ExactArgs(1),
		Long: "Keep a backup whatever the rules say, until a day or until it is unpinned. The pin is a signed record in the store, and a\n" +
			"mirror carries it to the others.",
		Example: "  holdfast pin 40323samuq --reason \"before the migration\" --until 2027-06-30",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.pin(cmd.Context(), &f, args[0], true)
		},
	}
	f.addPin(cmd)
	cmd.Flags().StringVar(&f.until, "until", "", "the last `DAY` on which it is kept: 2027-06-30 (default: for ever)")
	return cmd
}

func (a *app) unpinCommand() *cobra.Command {
	var f pinFlags
	cmd := &cobra.Command{
		Use: "unpin ID", Short: "Let the rules decide over a pinned backup again", Args: cobra.ExactArgs(1),
		Long:    "Let the rules decide over a pinned backup again. This too is a signed record.",
		Example: "  holdfast unpin 40323samuq --reason \"the migration is done\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.pin(cmd.Context(), &f, args[0], false)
		},
	}
	f.addPin(cmd)
	return cmd
}

func (f *pinFlags) addPin(cmd *cobra.Command) {
	f.add(cmd)
	f.addSigners(cmd)
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, which is recorded; must be given")
}

// pin writes the record into every store of the job that has the backup.
func (a *app) pin(ctx context.Context, f *pinFlags, id string, pinned bool) error {
	if f.reason == "" {
		return holdfast.WithHint(fmt.Errorf("%w: a pin needs a reason, which is recorded", holdfast.ErrUsage), `add --reason "…"`)
	}
	var until time.Time
	if f.until != "" {
		day, err := time.Parse(time.DateOnly, f.until)
		if err != nil {
			return holdfast.WithHint(fmt.Errorf("%w: %q is not a day", holdfast.ErrUsage, f.until), "write 2027-06-30")
		}
		if until = day.AddDate(0, 0, 1); !until.After(a.Now()) {
			return holdfast.WithHint(fmt.Errorf("%w: %s is over", holdfast.ErrUsage, f.until), "give a day that is to come")
		}
	}
	cfg, err := a.load(f.Flags, false)
	if err != nil {
		return err
	}
	name, err := f.job()
	if err != nil {
		return err
	}
	places, err := cfg.AllStores(name)
	if err != nil {
		return err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	keys, err := trusted(cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	done := 0
	var problems []error
	for _, place := range places {
		entry, err := a.pinIn(ctx, cfg, f, place, access{signer: signer, trusted: keys}, id, pinned, until)
		if err != nil {
			problems = append(problems, fmt.Errorf("store %s: %w", place.Name, err))
			continue
		}
		done++
		a.showPin(place, entry, pinned, until)
		event := journal.Unpinned
		if pinned {
			event = journal.Pinned
		}
		a.note(cfg, event, nil, func(r *journal.Record) {
			r.Job, r.Backup, r.Store, r.Reason = entry.Job, entry.ID, place.Name, f.reason
		})
	}
	a.carryJournal(ctx, cfg, places)
	if done == 0 || len(problems) == 0 {
		return errors.Join(problems...)
	}
	return fmt.Errorf("%w: %w", holdfast.ErrIncomplete, errors.Join(problems...))
}

func (a *app) pinIn(ctx context.Context, cfg *config.Config, f *pinFlags, place config.Store, with access, id string, pinned bool, until time.Time) (archive.Entry, error) {
	repo, err := a.repository(ctx, place, with)
	if err != nil {
		return archive.Entry{}, err
	}
	name, err := f.job()
	if err != nil {
		return archive.Entry{}, err
	}
	entries, err := repo.List(ctx, name)
	if err != nil {
		return archive.Entry{}, err
	}
	old, err := a.importedIn(ctx, cfg, &f.storeFlags, place, repo, name)
	if err != nil {
		return archive.Entry{}, err
	}
	entry, err := archive.Find(append(entries, old.entries...), id)
	if err != nil {
		return archive.Entry{}, err
	}
	if !pinned && !entry.PinnedAt(a.Now()) {
		return entry, holdfast.WithHint(fmt.Errorf("%w: backup %s is not pinned", holdfast.ErrUsage, entry.ID), "`holdfast list` shows which are")
	}
	_, err = repo.PutPin(ctx, entry, pinned, until, archive.Pin{Reason: f.reason, Time: a.Now(), Host: cfg.Host, Who: a.who()})
	return entry, err
}

func (a *app) showPin(place config.Store, entry archive.Entry, pinned bool, until time.Time) {
	if a.flags.json {
		a.printEvent("pin", map[string]any{"id": entry.ID, "job": entry.Job, "store": place.Name, "pinned": pinned, "until": until})
	}
	switch {
	case !pinned:
		a.result("backup %s is no longer pinned in %s: the rules decide again", entry.ID, place.Name)
	case until.IsZero():
		a.result("backup %s is pinned in %s until it is unpinned", entry.ID, place.Name)
	default:
		a.result("backup %s is pinned in %s until the end of %s", entry.ID, place.Name, until.AddDate(0, 0, -1).Format(time.DateOnly))
	}
}
