package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	since, until, event, backup, volume, user string
	last                                      int
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
	flags.StringVar(&f.volume, "volume", "", "only what was done with this encrypted `VOLUME`")
	flags.StringVar(&f.user, "user", "", "only what this `USER` did")
	flags.IntVar(&f.last, "last", 0, "only the newest `N`")
	return cmd
}

func (f *auditFlags) filter() (journal.Filter, error) {
	filter := journal.Filter{User: f.user, Backup: holdfast.BackupID(f.backup), Volume: f.volume, Last: f.last}
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
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, holdfast.WithHint(fmt.Errorf("%w: from %s to %s there is no day", holdfast.ErrUsage, f.since, f.until), "--since is the first day and --until the last")
	}
	if f.last < 0 {
		return filter, holdfast.WithHint(fmt.Errorf("%w: --last %d is no number of records", holdfast.ErrUsage, f.last), "give 1 or more, or leave it out")
	}
	known := journal.Events()
	for word := range strings.SplitSeq(f.event, ",") {
		event := journal.Event(strings.ToUpper(strings.TrimSpace(word)))
		if event == "" {
			continue
		}
		if !slices.Contains(known, event) {
			return filter, holdfast.WithHint(fmt.Errorf("%w: there is no event %q", holdfast.ErrUsage, word), fmt.Sprintf("the events are %s", strings.Trim(fmt.Sprint(known), "[]")))
		}
		filter.Events = append(filter.Events, event)
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
			a.printJSON(map[string]any{"seq": r.Seq, "time": r.Time, "event": r.Event, "user": r.Who.User, "host": r.Who.Host, "address": r.Who.Address, "job": r.Job, "task": r.Task, "backup": r.Backup,
				"store": r.Store, "volume": r.Volume, "result": r.Result, "reason": r.Reason, "detail": r.Detail, "figures": r.Figures, "version": r.Version})
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
	s, keys, err := a.auditStore(ctx, cfg, &f.storeFlags)
	if err != nil {
		return err
	}
	if len(s.chains) == 0 {
		a.printer.warn("store " + s.name + " has no journal")
	}
	var chosen []journal.Record
	var problems []error
	for _, chain := range s.chains {
		_, err := journal.VerifyStore(ctx, s.Store, chain.Chain, keys, func(r journal.Record, _ []byte) error {
			if filter.Matches(r) {
				chosen = append(chosen, r)
			}
			return nil
		})
		problems = append(problems, err)
	}
	if len(s.chains) > 1 {
		slices.SortStableFunc(chosen, func(x, y journal.Record) int { return x.Time.Compare(y.Time) })
	}
	for _, r := range filter.Newest(chosen) {
		problems = append(problems, show(r))
	}
	return errors.Join(append(problems, w.Flush())...)
}

// chainStore is a store and the chains that it has.
type chainStore struct {
	*store.Store
	name   string
	chains []journal.ChainInfo
}

// auditStore opens the one store that is named, and reads whose signatures count there.
func (a *app) auditStore(ctx context.Context, cfg *config.Config, f *storeFlags) (chainStore, []seal.PublicKey, error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return chainStore{}, nil, err
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return chainStore{}, nil, err
	}
	s, err := a.chainsIn(ctx, where)
	return s, keys, err
}

func (a *app) chainsIn(ctx context.Context, where config.Store) (chainStore, error) {
	s, err := a.openStore(ctx, where, false)
	if err != nil {
		return chainStore{}, err
	}
	chains, err := journal.Chains(ctx, s)
	return chainStore{s, where.Name, chains}, err
}

// names lists chains for a hint.
func (s chainStore) names() string {
	var names []string
	for _, c := range s.chains {
		names = append(names, c.Chain)
	}
	return strings.Join(names, ", ")
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "verify", Short: "Find out whether the journal is what was written", Args: cobra.NoArgs,
		Long: "Check every record of the journal here, its signed head, and what each store has of it: a record that was changed, removed, added or\n" +
			"moved, and an end that was cut off. With --store and no journal here it checks every chain that the store has, which is what another\n" +
			"machine should do: root on a host can write lies into its own journal, and contradicts them in a store that it cannot overwrite. A store\n" +
			"that cannot be looked at, or nothing to look at, is exit code 3.",
		Example: "  holdfast audit verify\n  holdfast audit verify --store s3 --allowed-signers allowed_signers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			_, err = a.auditVerify(cmd.Context(), cfg, &f)
			a.journal = nil // nothing was recorded that is to be signed
			return err
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	return cmd
}

// auditVerify checks the journal here and all that the stores have, and returns the stores. What is not as it was written is
// holdfast.ErrDifference; a store that could not be looked at, or nothing to look at, is holdfast.ErrIncomplete.
func (a *app) auditVerify(ctx context.Context, cfg *config.Config, f *storeFlags) ([]chainStore, error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return nil, err
	}
	_, statErr := os.Stat(filepath.Join(cfg.State, "journal"))
	here := statErr == nil
	places, err := cfg.AllStores("")
	if err != nil && (!here || len(cfg.Stores) > 0) {
		return nil, err
	}
	var stores []chainStore
	var problems []error
	opened, away := map[string]*store.Store{}, map[string]string{}
	for _, place := range places {
		s, err := a.chainsIn(ctx, place)
		if err != nil {
			away[place.Name] = holdfast.Sentence(err)
			problems = append(problems, unseen(place.Name, err))
			continue
		}
		opened[place.Name] = s.Store
		stores = append(stores, s)
	}
	own, signs := "", false
	if here {
		j, err := a.openJournal(cfg)
		if err != nil {
			return nil, err
		}
		if key, err := a.ownKey(cfg); err != nil {
			return nil, err
		} else if len(keys) > 0 && key != nil {
			keys = append(keys, *key)
		}
		audit, err := j.Verify(ctx, keys, opened)
		problems = append(problems, err)
		for _, name := range slices.Sorted(maps.Keys(audit.Unseen)) {
			problems = append(problems, unseen(name, errors.New(audit.Unseen[name])))
		}
		maps.Copy(audit.Unseen, away)
		a.showAudit("this installation", audit, err)
		own, signs = j.Chain(), j.Signs()
	}
	problems = append(problems, a.verifyChains(ctx, stores, own, keys)...)
	if !signs && len(away) < len(places) {
		problems = append(problems, a.nothingIn(stores, len(away) == 0))
	}
	return stores, errors.Join(problems...)
}

// verifyChains checks every chain but own by what each store alone has of it, and that no two stores contradict each other.
func (a *app) verifyChains(ctx context.Context, stores []chainStore, own string, keys []seal.PublicKey) []error {
	type found struct {
		store string
		journal.Audit
	}
	byChain := map[string][]found{}
	var problems []error
	for _, s := range stores {
		for _, chain := range s.chains {
			if chain.Chain == own {
				continue
			}
			audit, err := journal.VerifyStore(ctx, s.Store, chain.Chain, keys, nil)
			a.showAudit("store "+s.name, audit, err)
			if err != nil {
				problems = append(problems, unseen(s.name+", chain "+chain.Chain, err))
				continue
			}
			for _, other := range byChain[chain.Chain] {
				if err := audit.Agrees(other.Audit); err != nil {
					problems = append(problems, fmt.Errorf("stores %s and %s, chain %s: %w", other.store, s.name, chain.Chain, err))
				}
			}
			byChain[chain.Chain] = append(byChain[chain.Chain], found{s.name, audit})
		}
	}
	return problems
}

// nothingIn names the stores that have no journal at all, on a machine that puts none there itself. That none has one is an error where all
// of them were looked at.
func (a *app) nothingIn(stores []chainStore, all bool) error {
	var without []string
	for _, s := range stores {
		if len(s.chains) == 0 {
			without = append(without, s.name)
		}
	}
	if all && len(without) == len(stores) {
		return holdfast.WithHint(fmt.Errorf("%w: no journal is in %s", holdfast.ErrIncomplete, strings.Join(without, ", ")),
			"name the right store with --store; one that hosts write to has had its journal removed")
	}
	for _, name := range without {
		a.printer.warn("store " + name + " has no journal")
	}
	return nil
}

// unseen says where an error was met. What does not say that something was changed says that it was not looked at.
func unseen(where string, err error) error {
	if errors.Is(err, holdfast.ErrDifference) {
		return fmt.Errorf("store %s: %w", where, err)
	}
	return fmt.Errorf("%w: store %s was not looked at: %w", holdfast.ErrIncomplete, where, err)
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
		a.printEvent("audit", map[string]any{"where": where, "chain": audit.Chain, "records": audit.Read, "newest": audit.Records, "base": audit.Base, "first": audit.First, "last": audit.Last, "signed": audit.Head, "stores": audit.Stores, "unseen": audit.Unseen, "signers": audit.Signers, "reviewed": audit.Reviewed, "good": err == nil})
		return
	}
	if err != nil {
		return
	}
	line := fmt.Sprintf("%s: chain %s: %d records whole", where, audit.Chain, audit.Read)
	if audit.Read > 0 {
		line += fmt.Sprintf(", %s to %s, signed to number %d", audit.First.Format(time.DateOnly), audit.Last.Format(time.DateOnly), audit.Head)
	}
	if audit.Base > 0 {
		line += fmt.Sprintf(", those up to number %d were let go", audit.Base)
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
	case audit.Read == 0:
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
		Long: "Verify the journal and record that it was looked at, by whom and with what outcome. It should be done every quarter. Where a store\n" +
			"cannot be looked at, nothing is recorded.",
		Example: "  holdfast audit review --note \"three restores, all by the on-call; nothing unusual\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if note == "" {
				return holdfast.WithHint(fmt.Errorf("%w: what was seen is not said", holdfast.ErrUsage), `add --note "…"`)
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			_, err = a.auditVerify(cmd.Context(), cfg, &f)
			if err != nil && !errors.Is(err, holdfast.ErrDifference) {
				return fmt.Errorf("no review was recorded: %w", err)
			}
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
	stores, err := a.auditVerify(ctx, cfg, f)
	if err != nil {
		return fmt.Errorf("nothing expires before every store was looked at and is whole: %w", err)
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
	for _, s := range stores {
		for _, chain := range s.chains {
			if chain.Chain == j.Chain() {
				carried = max(carried, chain.Last)
			}
			gone, err := journal.ExpireStore(ctx, s.Store, chain.Chain, cfg.Audit.Keep, signer, keys, a.Now())
			if err != nil {
				return fmt.Errorf("store %s, chain %s: %w", s.name, chain.Chain, err)
			}
			a.showExpired(cfg, s.name, chain.Chain, gone)
		}
	}
	gone, err := j.Trim(ctx, cfg.Audit.Keep, carried)
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
