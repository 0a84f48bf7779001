package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Show and check the journal of everything that was done", Args: cobra.NoArgs,
		Long: "Every backup, copy, drill, restore, download link, prune, pin and use of a key is a record: who, from where, what, when, how it ended\n" +
			"and why. Records are chained by hashes, signed, and carried to the stores.",
	}
	cmd.AddCommand(a.auditShowCommand(), a.auditVerifyCommand(), a.auditReviewCommand(), a.auditRebuildCommand(), a.auditExpireCommand())
	return cmd
}

type auditFlags struct {
	storeFlags
	since, until, event, backup, user string
	last                              int
}

func (a *app) auditShowCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use: "show", Short: "Show what was done", Args: cobra.NoArgs,
		Long:    "Show the records of this installation, oldest first; with --store those of every host that a store has, signatures checked.",
		Example: "  holdfast audit show --event RESTORE,LINK --since 2026-01-01\n  holdfast audit show --user anna --last 20",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return a.auditShow(cmd.Context(), cfg, &f, filter)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "from this `DAY` on")
	flags.StringVar(&f.until, "until", "", "to this `DAY`, included")
	flags.StringVar(&f.event, "event", "", "only these `EVENTS`, separated by commas: RESTORE,LINK,DECRYPT")
	flags.StringVar(&f.backup, "backup", "", "only what was done with this backup, by its `ID`")
	flags.StringVar(&f.user, "user", "", "only what this `USER` did")
	flags.IntVar(&f.last, "last", 0, "only the newest `N`")
	return cmd
}

func (f *auditFlags) filter() (journal.Filter, error) {
	filter := journal.Filter{User: f.user, Backup: holdfast.BackupID(f.backup), Last: f.last}
	job, err := f.job()
	if err != nil {
		return filter, err
	}
	filter.Job = job
	for _, day := range []struct {
		text string
		into *time.Time
		add  int
	}{{f.since, &filter.Since, 0}, {f.until, &filter.Until, 1}} {
		if day.text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, day.text)
		if err != nil {
			return filter, holdfast.WithHint(fmt.Errorf("%w: %q is not a day", holdfast.ErrUsage, day.text), "write 2026-11-22")
		}
		*day.into = at.AddDate(0, 0, day.add)
	}
	for word := range strings.SplitSeq(f.event, ",") {
		if word = strings.ToUpper(strings.TrimSpace(word)); word != "" {
			filter.Events = append(filter.Events, journal.Event(word))
		}
	}
	return filter, nil
}

func (a *app) auditShow(ctx context.Context, cfg *config.Config, f *auditFlags, filter journal.Filter) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	if !a.flags.json {
		fmt.Fprintln(w, "TIME (UTC)\tEVENT\tRESULT\tWHO\tFROM\tJOB\tBACKUP\tSTORE\tREASON")
	}
	show := func(r journal.Record) error {
		if a.flags.json {
			a.printJSON(map[string]any{"seq": r.Seq, "time": r.Time, "event": r.Event, "user": r.Who.User, "host": r.Who.Host, "address": r.Who.Address, "job": r.Job, "backup": r.Backup,
				"store": r.Store, "result": r.Result, "reason": r.Reason, "detail": r.Detail, "figures": r.Figures, "version": r.Version})
			return nil
		}
		about := strings.Trim(r.Reason+"; "+r.Detail, "; ")
		_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Time.Format("2006-01-02 15:04:05"), r.Event, r.Result, quoted(r.Who.User+"@"+r.Who.Host), quoted(r.Who.Address), r.Job, r.Backup, quoted(r.Store), quoted(about))
		return err
	}
	if f.Store == "" {
		if _, err := os.Stat(filepath.Join(cfg.State, "journal")); errors.Is(err, fs.ErrNotExist) {
			a.printer.say("nothing was recorded yet in " + cfg.State)
			return nil
		}
		j, err := a.openJournal(cfg)
		if err != nil {
			return err
		}
		return errors.Join(j.Read(filter, show), w.Flush())
	}
	keys, err := trusted(cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	s, err := a.openStore(ctx, where, false)
	if err != nil {
		return err
	}
	chains, err := journal.Chains(ctx, s)
	if err != nil {
		return err
	}
	var problems []error
	for _, chain := range chains {
		_, err := journal.VerifyStore(ctx, s, chain.Chain, keys, func(r journal.Record) error {
			if !filter.Matches(r) {
				return nil
			}
			return show(r)
		})
		problems = append(problems, err)
	}
	return errors.Join(append(problems, w.Flush())...)
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "verify", Short: "Find out whether the journal is what was written", Args: cobra.NoArgs,
		Long: "Check every record of the journal here, its signed head, and what each store has of it: a record that was changed, removed, added or\n" +
			"moved, and an end that was cut off. With --store and no journal here it checks every chain that the store has, which is what another\n" +
			"machine should do: root on a host can write lies into its own journal, and contradicts them in a store that it cannot overwrite.",
		Example: "  holdfast audit verify\n  holdfast audit verify --store s3 --allowed-signers allowed_signers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.auditVerify(cmd.Context(), cfg, &f)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	return cmd
}

func (a *app) auditVerify(ctx context.Context, cfg *config.Config, f *storeFlags) error {
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	places, placesErr := cfg.AllStores("")
	stores := map[string]*store.Store{}
	for _, place := range places {
		s, err := a.openStore(ctx, place, false)
		if err != nil {
			a.printer.warn(fmt.Sprintf("store %s cannot be looked at: %s", place.Name, holdfast.Sentence(err)))
		}
		stores[place.Name] = s // nil: not reached
	}
	var problems []error
	checked := ""
	if _, err := os.Stat(filepath.Join(cfg.State, "journal")); err == nil {
		j, err := a.openJournal(cfg)
		if err != nil {
			return err
		}
		if own, err := a.ownKey(cfg); err != nil {
			return err
		} else if len(keys) > 0 && own != nil {
			keys = append(keys, *own)
		}
		audit, err := j.Verify(ctx, keys, stores)
		problems = append(problems, err)
		a.showAudit("this installation", audit, err)
		checked = j.Chain()
		for name, why := range audit.Unseen {
			problems = append(problems, fmt.Errorf("%w: store %s was not looked at: %s", holdfast.ErrIncomplete, name, why))
		}
	} else if placesErr != nil {
		return placesErr
	}
	for name, s := range stores {
		if s == nil {
			continue
		}
		chains, err := journal.Chains(ctx, s)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, chain := range chains {
			if chain.Chain == checked {
				continue
			}
			audit, err := journal.VerifyStore(ctx, s, chain.Chain, keys, nil)
			if err != nil {
				err = fmt.Errorf("store %s, chain %s: %w", name, chain.Chain, err)
			}
			problems = append(problems, err)
			a.showAudit("store "+name, audit, err)
		}
	}
	return errors.Join(problems...)
}

// ownKey is the public half of this host's signing key; nil when it has none.
func (a *app) ownKey(cfg *config.Config) (*seal.PublicKey, error) {
	if _, err := os.Stat(cfg.Signer); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return nil, err
	}
	key := signer.PublicKey()
	return &key, nil
}

// reviewEvery is how often somebody should look at the journal.
const reviewEvery = 92 * 24 * time.Hour

func (a *app) showAudit(where string, audit journal.Audit, err error) {
	if a.flags.json {
		a.printEvent("audit", map[string]any{"where": where, "chain": audit.Chain, "records": audit.Records, "first": audit.First, "last": audit.Last, "signed": audit.Head, "stores": audit.Stores, "unseen": audit.Unseen, "signers": audit.Signers, "reviewed": audit.Reviewed, "good": err == nil})
		return
	}
	if err != nil {
		return
	}
	line := fmt.Sprintf("%s: chain %s: %d records whole", where, audit.Chain, audit.Records)
	if audit.Records > 0 {
		line += fmt.Sprintf(", %s to %s, signed to number %d", audit.First.Format(time.DateOnly), audit.Last.Format(time.DateOnly), audit.Head)
	}
	var names []string
	for name, last := range audit.Stores {
		names = append(names, fmt.Sprintf("%s has %d", name, last))
	}
	slices.Sort(names)
	if len(names) > 0 {
		line += "; " + strings.Join(names, ", ")
	}
	a.result("%s", line)
	for _, signer := range audit.Signers {
		a.printer.say("  signed by " + signer)
	}
	switch due := audit.Reviewed.Add(reviewEvery); {
	case audit.Records == 0:
	case audit.Reviewed.IsZero():
		a.printer.say("  never reviewed: `holdfast audit review` records the quarterly look")
	case a.Now().After(due):
		a.printer.say("  last reviewed on " + audit.Reviewed.Format(time.DateOnly) + ": the next review is overdue")
	}
}

func (a *app) auditReviewCommand() *cobra.Command {
	var f storeFlags
	var note string
	cmd := &cobra.Command{
		Use: "review", Short: "Record that somebody has looked at the journal", Args: cobra.NoArgs,
		Long:    "Verify the journal and record that it was looked at, by whom and with what outcome. It should be done every quarter.",
		Example: "  holdfast audit review --note \"three restores, all by the on-call; nothing unusual\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if note == "" {
				return holdfast.WithHint(fmt.Errorf("%w: what was seen is not said", holdfast.ErrUsage), `add --note "…"`)
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			err = a.auditVerify(cmd.Context(), cfg, &f)
			a.note(cfg, journal.Reviewed, err, func(r *journal.Record) { r.Reason = note })
			if places, placesErr := cfg.AllStores(""); placesErr == nil {
				a.carryJournal(cmd.Context(), cfg, places)
			}
			return err
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	cmd.Flags().StringVar(&note, "note", "", "what was seen, which is recorded; must be given")
	return cmd
}

func (a *app) auditRebuildCommand() *cobra.Command {
	var f storeFlags
	var chain string
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Take the journal of this host from a store", Args: cobra.NoArgs,
		Long: "Make the journal here what a store has of it, every signature checked: after the host was lost or set back. What is here is kept in a folder\n" +
			"beside it. Which chain it is must be said where the store has several.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.auditRebuild(cmd.Context(), cfg, &f, chain)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	cmd.Flags().StringVar(&chain, "chain", "", "the `CHAIN`, as audit verify names it")
	return cmd
}

func (a *app) auditRebuild(ctx context.Context, cfg *config.Config, f *storeFlags, chain string) error {
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	s, err := a.openStore(ctx, where, false)
	if err != nil {
		return err
	}
	if chain == "" {
		chains, err := journal.Chains(ctx, s)
		if err != nil {
			return err
		}
		if len(chains) != 1 {
			var names []string
			for _, c := range chains {
				names = append(names, c.Chain)
			}
			return holdfast.WithHint(fmt.Errorf("%w: store %s has %d chains", holdfast.ErrUsage, where.Name, len(chains)), "name one with --chain: "+strings.Join(names, ", "))
		}
		chain = chains[0].Chain
	}
	dir := filepath.Join(cfg.State, "journal")
	n, err := journal.Rebuild(ctx, s, chain, journal.Options{Dir: dir, Host: cfg.Host, Version: a.Version, Now: a.Now}, keys)
	if err != nil {
		return err
	}
	a.note(cfg, journal.Rebuilt, nil, func(r *journal.Record) {
		r.Store, r.Figures = where.Name, map[string]float64{"records": float64(n)}
	})
	a.result("the journal is that of chain %s in store %s: %d records; what was here before is beside %s", chain, where.Name, n, dir)
	return nil
}

func (a *app) auditExpireCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "expire", Short: "Let records go that are older than they must be kept", Args: cobra.NoArgs,
		Long: "Delete records that are older than audit.keep (13 months, and never less than 12): whole months of them here, and whole objects in the\n" +
			"stores. Every chain is checked first, nothing goes from one that is not whole, and where a chain begins from then on is signed. In a\n" +
			"store it takes credentials that can delete.",
		Example: "  holdfast audit expire\n  holdfast audit expire --store s3 --allowed-signers allowed_signers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.auditExpire(cmd.Context(), cfg, &f)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	return cmd
}

func (a *app) auditExpire(ctx context.Context, cfg *config.Config, f *storeFlags) error {
	if err := a.auditVerify(ctx, cfg, f); err != nil {
		return fmt.Errorf("nothing expires from a journal that is not whole: %w", err)
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		keys = append(keys, signer.PublicKey())
	}
	places, err := cfg.AllStores("")
	if err != nil {
		return err
	}
	j, err := a.openJournal(cfg)
	if err != nil {
		return err
	}
	var carried int64
	for _, place := range places {
		s, err := a.openStore(ctx, place, false)
		if err != nil {
			return err
		}
		chains, err := journal.Chains(ctx, s)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if chain.Chain == j.Chain() {
				carried = max(carried, chain.Last)
			}
			gone, err := journal.ExpireStore(ctx, s, chain.Chain, cfg.Audit.Keep, signer, keys, a.Now())
			if err != nil {
				return fmt.Errorf("store %s, chain %s: %w", place.Name, chain.Chain, err)
			}
			a.showExpired(cfg, place.Name, chain.Chain, gone)
		}
	}
	gone, err := j.Trim(cfg.Audit.Keep, carried)
	if err != nil {
		return err
	}
	a.showExpired(cfg, "", j.Chain(), gone)
	a.carryJournal(ctx, cfg, places)
	return nil
}

func (a *app) showExpired(cfg *config.Config, place, chain string, gone int64) {
	where := "here"
	if place != "" {
		where = "in store " + place
	}
	if gone == 0 {
		a.printer.say("chain " + chain + " " + where + ": nothing is old enough")
		return
	}
	detail := fmt.Sprintf("records of the journal up to number %d of chain %s", gone, chain)
	a.note(cfg, journal.Expired, nil, func(r *journal.Record) { r.Store, r.Detail = place, detail })
	a.result("expired %s: %s", where, detail)
}
