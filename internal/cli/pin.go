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
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	keys, err := trusted(cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	shelves, entry, err := a.findPinned(ctx, cfg, f, access{signer: signer, trusted: keys}, name, id)
	if err != nil {
		return err
	}
	if !pinned && !entry.PinnedAt(a.Now()) && !slices.ContainsFunc(shelves, func(s pinShelf) bool { return s.own.PinnedAt(a.Now()) }) {
		return holdfast.WithHint(fmt.Errorf("%w: backup %s is not pinned", holdfast.ErrUsage, entry.ID), "`holdfast list` shows which are")
	}
	var problems []error
	for _, shelf := range shelves {
		if shelf.err == nil {
			_, shelf.err = shelf.repo.PutPin(ctx, entry, pinned, until, archive.Pin{Reason: f.reason, Time: a.Now(), Host: cfg.Host, Who: a.who()})
		}
		if shelf.err != nil {
			problems = append(problems, fmt.Errorf("store %s: %w", shelf.place.Name, shelf.err))
			continue
		}
		a.showPin(shelf.place, entry, pinned, until)
		event := journal.Unpinned
		if pinned {
			event = journal.Pinned
		}
		a.note(cfg, event, nil, func(r *journal.Record) {
			r.Job, r.Backup, r.Store, r.Reason = entry.Job, entry.ID, shelf.place.Name, f.reason
		})
	}
	places := make([]config.Store, len(shelves))
	for i, shelf := range shelves {
		places[i] = shelf.place
	}
	a.carryJournal(ctx, cfg, places)
	if len(problems) == 0 {
		return nil
	}
	if len(problems) == len(shelves) {
		return errors.Join(problems...)
	}
	return fmt.Errorf("%w: %w", holdfast.ErrIncomplete, errors.Join(problems...))
}

// pinShelf is one store of the job that the pinned backup belongs to.
type pinShelf struct {
	place config.Store
	repo  *archive.Archive
	own   archive.Entry // as this store has it
	err   error         // it cannot be looked at
}

// findPinned finds the backup in whichever store has it, and returns it with what all stores know of its pins, and the stores of its job
// that have it or cannot be looked at. One that lacks it gets the pin with the backup.
func (a *app) findPinned(ctx context.Context, cfg *config.Config, f *pinFlags, with access, name holdfast.JobName, id string) ([]pinShelf, archive.Entry, error) {
	places, err := cfg.AllStores(name)
	if err != nil {
		return nil, archive.Entry{}, err
	}
	var shelves []pinShelf
	var lists [][]archive.Entry
	var down []error
	for _, place := range places {
		shelf := pinShelf{place: place}
		var list []archive.Entry
		if list, shelf.repo, shelf.err = a.pinnable(ctx, cfg, f, place, with, name); shelf.err != nil {
			down = append(down, fmt.Errorf("store %s: %w", place.Name, shelf.err))
		}
		shelves, lists = append(shelves, shelf), append(lists, list)
	}
	entry, err := archive.Find(archive.Merge(lists...), id)
	if err != nil {
		if len(down) > 0 {
			err = errors.Join(append(down, err)...)
		}
		return nil, entry, err
	}
	own, err := cfg.AllStores(entry.Job)
	if err != nil {
		return nil, entry, err
	}
	var kept []pinShelf
	for i, shelf := range shelves {
		at := slices.IndexFunc(lists[i], func(e archive.Entry) bool { return e.ID == entry.ID })
		if at >= 0 {
			shelf.own = lists[i][at]
		}
		if at >= 0 || shelf.err != nil && storeAt(own, shelf.place.Name) >= 0 {
			kept = append(kept, shelf)
		}
	}
	return kept, entry, nil
}

// pinnable lists what can be pinned in a store: backups, and imported files.
func (a *app) pinnable(ctx context.Context, cfg *config.Config, f *pinFlags, place config.Store, with access, name holdfast.JobName) ([]archive.Entry, *archive.Archive, error) {
	repo, err := a.repository(ctx, place, with)
	if err != nil {
		return nil, nil, err
	}
	entries, err := repo.List(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	old, err := a.importedIn(ctx, cfg, &f.storeFlags, place, repo, name)
	return append(entries, old.entries...), repo, err
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
