package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/seal"
)

func (a *app) keyCheckCommand() *cobra.Command {
	var f storeFlags
	var noRecord bool
	cmd := &cobra.Command{
		Use: "check", Short: "Prove that an identity opens the newest backup of each job, and record it", Args: cobra.NoArgs,
		Long: "Open the facts of the newest backup of each job with the identity given, to their authenticated end. Nothing secret is\n" +
			"printed, nothing is restored. What opened is recorded in the store, signed by this machine: `holdfast key list` shows\n" +
			"when each key was last checked. The exit code is 1 when a backup does not open, and 4 when it is damaged.",
		Example: "  holdfast key check --store /srv/backups --identity identity.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if cfg.Identity == "" && f.passphrase == "" {
				return holdfast.WithHint(fmt.Errorf("%w: no identity was given to check", holdfast.ErrUsage), "give --identity FILE or --passphrase-file FILE")
			}
			return a.keyCheck(cmd.Context(), cfg, &f, !noRecord)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	cmd.Flags().BoolVar(&noRecord, "no-record", false, "leave no record in the store, for one that is read-only")
	return cmd
}

// keyCheck looks at no more than one listing of names and the newest backup of each job.
func (a *app) keyCheck(ctx context.Context, cfg *config.Config, f *storeFlags, record bool) error {
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	identities, err := a.identities(ctx, cfg, f)
	if err != nil {
		return err
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	with := access{identities: identities, trusted: keys}
	if record {
		if with.signer, err = a.signer(cfg); err != nil {
			return err
		}
	}
	repo, err := a.repository(ctx, where, with)
	if err != nil {
		return err
	}
	job, err := f.job()
	if err != nil {
		return err
	}
	a.about.Job = job
	entries, err := repo.List(ctx, job)
	if err != nil {
		return err
	}
	newest := newestOfEach(entries)
	if len(newest) == 0 {
		return holdfast.WithHint(errors.New("the store holds no backup to check the identity against"), "make one with `holdfast backup`")
	}
	var problems []error
	for _, entry := range newest {
		if err := a.checkEntry(ctx, cfg, repo, entry, identities, record); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			problems = append(problems, holdfast.WithHint(fmt.Errorf("job %s: %w", entry.Job, err), holdfast.Hint(err)))
		}
	}
	return errors.Join(problems...)
}

// newestOfEach is the newest backup of each job, in the order of the jobs' names. What was kept before an overwrite is
// nobody's newest, and of a backup and its re-sealed copy the copy is.
func newestOfEach(entries []archive.Entry) []archive.Entry {
	of := map[holdfast.JobName]archive.Entry{}
	for _, entry := range regular(entries) {
		of[entry.Job] = entry
	}
	var newest []archive.Entry
	for _, entry := range of {
		newest = append(newest, entry)
	}
	slices.SortFunc(newest, func(x, y archive.Entry) int { return strings.Compare(string(x.Job), string(y.Job)) })
	return newest
}

func (a *app) checkEntry(ctx context.Context, cfg *config.Config, repo *archive.Archive, entry archive.Entry, identities []seal.Identity, record bool) error {
	b, err := repo.Open(ctx, entry)
	if err != nil {
		return err
	}
	if !b.Trusted {
		a.printer.warn("job " + string(entry.Job) + ": signer not checked: " + b.Signer)
	}
	if !entry.Sealed {
		a.printer.warn("job " + string(entry.Job) + ": backup " + string(entry.ID) + " is not sealed: there is nothing to check")
		return nil
	}
	opened, err := openedBy(ctx, b, identities)
	if err != nil {
		return err
	}
	a.about.Detail = strings.TrimPrefix(a.about.Detail+", "+string(entry.Job)+" by "+strings.Join(opened, " and "), ", ")
	for _, key := range opened {
		if record {
			if _, err := repo.PutCheck(ctx, b, archive.Check{Key: key, Time: a.Now(), Host: cfg.Host, Who: a.who()}); err != nil {
				return holdfast.WithHint(fmt.Errorf("backup %s opens with %s, but that could not be recorded: %w", entry.ID, key, err),
					"`holdfast key check --no-record` records nothing")
			}
		}
		if a.flags.json {
			a.printEvent("key", map[string]any{"job": entry.Job, "id": entry.ID, "opens": true, "key_id": key, "recorded": record})
		}
		a.result("job %s: %s opens backup %s of %s", entry.Job, key, entry.ID, entry.Time.Format(time.RFC3339))
	}
	return nil
}

// openedBy returns the IDs of those identities that alone open b. A passphrase goes with every one of them: it may unlock
// it. None is an error.
func openedBy(ctx context.Context, b *archive.Backup, identities []seal.Identity) ([]string, error) {
	var keys, phrases []seal.Identity
	for _, identity := range identities {
		if _, phrase := identity.(*seal.Passphrase); phrase {
			phrases = append(phrases, identity)
		} else {
			keys = append(keys, identity)
		}
	}
	var opened []string
	var locked error
	for _, key := range keys {
		id := seal.RecipientOf(key).KeyID()
		if !slices.Contains(b.Manifest.Keys, id) {
			continue
		}
		err := b.Opens(ctx, append([]seal.Identity{key}, phrases...)...)
		switch {
		case err == nil:
			opened = append(opened, id)
		case errors.Is(err, seal.ErrNoIdentity):
			locked = err
		default:
			return nil, err
		}
	}
	if len(phrases) > 0 {
		for _, id := range b.Manifest.Keys {
			if !strings.HasSuffix(id, "passphrase") {
				continue
			}
			err := b.Opens(ctx, phrases...)
			if err == nil {
				opened = append(opened, id)
				break
			}
			if !errors.Is(err, seal.ErrNoIdentity) {
				return nil, err
			}
		}
	}
	if len(opened) > 0 {
		return opened, nil
	}
	// Not bad usage: that an identity opens nothing is what the check is there to find out.
	if locked != nil {
		return nil, holdfast.WithHint(fmt.Errorf("backup %s does not open: %s", b.Entry.ID, holdfast.Sentence(locked)), holdfast.Hint(locked))
	}
	return nil, holdfast.WithHint(fmt.Errorf("backup %s does not open with what was given: it is sealed to %s", b.Entry.ID, strings.Join(b.Manifest.Keys, ", ")),
		"give the identity of one of these keys, or with --job only a job that is yours")
}
