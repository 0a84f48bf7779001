package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/joblock"
	"holdfast/internal/report"
	"holdfast/internal/seal"
)

type resealFlags struct {
	storeFlags
	identities []string
	all        bool
}

func (a *app) keyResealCommand() *cobra.Command {
	var f resealFlags
	cmd := &cobra.Command{
		Use: "reseal [ID...]", Short: "Copy old backups for today's recipients", Args: cobra.ArbitraryArgs,
		Long: "Open backups with an old identity and store copies of them that are sealed to today's recipients: those of the job in\n" +
			"the configuration, or those of --recipient. Every item is read once, compared with the digest that was recorded, and\n" +
			"never written in the open. A copy has the job, time and facts of its original and says what it was made from; the\n" +
			"original stays, and `holdfast list` shows it as superseded.\n\n" +
			"Run it where the identity is kept, not on the backed-up host. What leaked with an old identity stays leaked.",
		Example: "  holdfast key reseal --all --store /mnt/backups --identity old.txt --recipient age1…\n  holdfast key reseal 7k2m… --identity old.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) > 0) == f.all {
				return holdfast.WithHint(fmt.Errorf("%w: it is not said which backups to copy", holdfast.ErrUsage), "give their IDs, or --all")
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.keyReseal(cmd.Context(), cfg, &f, args)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.identities, "identity", "i", nil, "`FILE` with an identity that opens the old backups; may be given several times")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase of the old backups or of a locked identity (mode 0600)")
	f.addSigners(cmd)
	flags.StringArrayVarP(&f.Recipients, "recipient", "r", nil, "seal to this `RECIPIENT`, or key of the configuration, instead of the job's; may be given several times")
	flags.StringVar(&f.RecipientsFile, "recipients-file", "", "seal to the recipients in `FILE`")
	flags.BoolVar(&f.all, "all", false, "every backup that is sealed to other recipients and has no copy yet")
	return cmd
}

// resealRun is what one run of key reseal works with.
type resealRun struct {
	cfg        *config.Config
	where      config.Store
	identities []seal.Identity
	trusted    []seal.PublicKey
	signer     *seal.Signer
	locks      map[holdfast.JobName]*joblock.Lock
}

func (a *app) keyReseal(ctx context.Context, cfg *config.Config, f *resealFlags, args []string) (err error) {
	run := resealRun{cfg: cfg, locks: map[holdfast.JobName]*joblock.Lock{}}
	if run.where, err = cfg.StoreNamed(""); err != nil {
		return err
	}
	if len(f.identities) > 0 {
		cfg.Identity = f.identities[0]
	}
	if cfg.Identity == "" && f.passphrase == "" {
		return holdfast.WithHint(fmt.Errorf("%w: no identity was given to open the old backups", holdfast.ErrUsage), "give --identity FILE or --passphrase-file FILE")
	}
	if run.identities, err = a.identities(ctx, cfg, &f.storeFlags); err != nil {
		return err
	}
	for _, path := range f.identities[min(1, len(f.identities)):] {
		more, err := a.identityFile(ctx, path, f.passphrase)
		if err != nil {
			return err
		}
		run.identities = append(run.identities, more...)
	}
	if run.trusted, err = trusted(cfg, &f.storeFlags); err != nil {
		return err
	}
	if run.signer, err = a.signer(cfg); err != nil {
		return err
	}
	if err := run.checkSigner(); err != nil {
		return err
	}
	repo, err := a.repository(ctx, run.where, access{trusted: run.trusted, identities: run.identities})
	if err != nil {
		return err
	}
	job, err := f.job()
	if err != nil {
		return err
	}
	entries, err := repo.List(ctx, job)
	if err != nil {
		return err
	}
	chosen, err := chooseEntries(entries, args)
	if err != nil {
		return err
	}
	defer func() {
		for _, lock := range run.locks {
			err = errors.Join(err, lock.Release())
		}
	}()
	return a.resealAll(ctx, &run, repo, chosen, f.all)
}

// checkSigner refuses to make copies that nobody would accept.
func (r *resealRun) checkSigner() error {
	own := r.signer.PublicKey()
	if len(r.trusted) == 0 || slices.ContainsFunc(r.trusted, func(key seal.PublicKey) bool { return key.Equal(own) }) {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: this machine signs as %s, which is not among the allowed signers: nobody who uses that file would accept the copies", holdfast.ErrUsage, own.Fingerprint()),
		"add this line to allowed_signers: "+strings.TrimSpace(seal.AllowedSignersLine(r.cfg.Host, own)))
}

// chooseEntries finds the backups that were named; without a name it is all that no copy stands for.
func chooseEntries(entries []archive.Entry, args []string) ([]archive.Entry, error) {
	if len(args) == 0 {
		return slices.DeleteFunc(slices.Clone(entries), archive.Entry.Superseded), nil
	}
	var chosen []archive.Entry
	for _, id := range args {
		if id == "" {
			return nil, fmt.Errorf("%w: an ID is empty", holdfast.ErrUsage)
		}
		entry, err := archive.Find(entries, id)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, entry)
	}
	return chosen, nil
}

func (a *app) resealAll(ctx context.Context, run *resealRun, repo *archive.Archive, entries []archive.Entry, all bool) error {
	made, passed := 0, 0
	var problems []error
	for _, entry := range entries {
		done, err := a.resealOne(ctx, run, repo, entry, all)
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		switch {
		case err != nil:
			a.printer.warn(fmt.Sprintf("backup %s was not copied: %s", entry.ID, holdfast.Sentence(err)))
			problems = append(problems, err)
		case done:
			made++
		default:
			passed++
		}
	}
	a.result("%s re-sealed, %d left as they are, %d failed", backups(made), passed, len(problems))
	if made > 0 {
		a.printer.say("the originals are still there, and still open with the old identities; prove a copy with `holdfast drill ID` and the new one")
	}
	if len(problems) > 0 {
		return &unsealed{failed: problems, of: len(entries)}
	}
	return nil
}

// unsealed is why some copies were not made. Each reason was told when it came.
type unsealed struct {
	failed []error
	of     int
}

func (u *unsealed) Error() string {
	return fmt.Sprintf("%d of %s could not be re-sealed", len(u.failed), backups(u.of))
}

func (u *unsealed) Unwrap() []error { return u.failed }

// resealOne copies one backup. It reports false when there is nothing to do.
func (a *app) resealOne(ctx context.Context, run *resealRun, repo *archive.Archive, entry archive.Entry, all bool) (bool, error) {
	if all && !entry.Sealed {
		a.printer.say(fmt.Sprintf("backup %s is not sealed: give its ID to have a sealed copy", entry.ID))
		return false, nil
	}
	opt, err := run.sealing(ctx, entry.Job)
	if err == nil {
		err = seal.CheckRecipients(opt.Recipients)
	}
	if err == nil {
		err = seal.CheckNow(opt.Recipients, a.Now())
	}
	if err != nil {
		return false, err
	}
	b, err := repo.Open(ctx, entry)
	if err != nil {
		return false, err
	}
	if !b.Trusted {
		a.printer.warn("signer not checked: " + b.Signer)
	}
	to := keyIDsOf(opt.Recipients)
	if sameTexts(b.Manifest.Keys, to) {
		a.printer.say(fmt.Sprintf("backup %s is sealed to %s already", entry.ID, strings.Join(to, ", ")))
		return false, nil
	}
	writer, err := a.repository(ctx, run.where, access{seal: opt, signer: run.signer, trusted: run.trusted, identities: run.identities})
	if err != nil {
		return false, err
	}
	lock, err := a.resealLock(ctx, run, writer, entry.Job)
	if err != nil {
		return false, err
	}
	// Opened once more through the archive that writes.
	if b, err = writer.Open(ctx, entry); err != nil {
		return false, err
	}
	began := a.Now()
	copied, _, err := writer.Reseal(ctx, b, archive.ResealPlan{
		Time: began, Host: run.cfg.Host, Who: a.who(), Begun: func(entry archive.Entry) error { return lock.Begun(entry) },
		Told: func(item string, n, of int64) {
			a.printer.observe(holdfast.Event{Kind: holdfast.EventProgress, Job: entry.Job, Backup: entry.ID, Item: item, Bytes: n, Total: of})
		},
	})
	if err != nil {
		// What is left after a failure that could not be cleaned up is known to the next run.
		return false, err
	}
	if err := lock.Ended(); err != nil {
		return false, err
	}
	if a.flags.json {
		a.printEvent("reseal", map[string]any{"id": copied.ID, "from": entry.ID, "job": entry.Job, "stored": copied.Size, "keys": to})
	}
	a.result("backup %s re-sealed as %s to %s: %s in %s; every digest equal, read back and signed",
		entry.ID, copied.ID, strings.Join(to, ", "), report.Size(copied.Size), report.Span(a.Now().Sub(began)))
	return true, nil
}

// resealLock holds one job's copies on this machine, beside its backups, and removes what an interrupted run left.
func (a *app) resealLock(ctx context.Context, run *resealRun, repo *archive.Archive, job holdfast.JobName) (*joblock.Lock, error) {
	if lock := run.locks[job]; lock != nil {
		return lock, nil
	}
	address := run.where.Path
	if real, err := filepath.EvalSymlinks(address); err == nil {
		address = real
	}
	lock, err := joblock.Acquire(run.cfg.State, address+" reseal", job)
	if err != nil {
		return nil, err
	}
	run.locks[job] = lock
	return lock, a.cleanUp(ctx, repo, lock)
}

// sealing says how copies of a job's backups are sealed: to the recipients of flags or environment, else to those of the
// job in the configuration. To nobody's guess: what the old identities open, they open already.
func (r *resealRun) sealing(ctx context.Context, name holdfast.JobName) (seal.Options, error) {
	for _, job := range r.cfg.Jobs {
		if job.Name == name && job.Seal != config.SealNone {
			if err := r.cfg.MaySeal(name); err != nil {
				return seal.Options{}, err
			}
			return sealing(ctx, job)
		}
	}
	recipients, err := recipientsOf(ctx, r.cfg.Given)
	if err != nil {
		return seal.Options{}, err
	}
	if len(recipients) == 0 {
		return seal.Options{}, holdfast.WithHint(fmt.Errorf("%w: it is not said whom to seal the copies of job %s to", holdfast.ErrUsage, name),
			"give --recipient or --recipients-file, or the configuration that has the job with --config")
	}
	return seal.Options{Recipients: recipients, Level: 1}, nil
}

func keyIDsOf(recipients []seal.Recipient) []string {
	var ids []string
	for _, recipient := range recipients {
		ids = append(ids, recipient.KeyID())
	}
	return ids
}

// sameTexts reports whether two lists hold the same, in any order.
func sameTexts(a, b []string) bool {
	set := func(list []string) map[string]bool {
		all := map[string]bool{}
		for _, text := range list {
			all[text] = true
		}
		return all
	}
	return maps.Equal(set(a), set(b))
}
