package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/report"
)

func (a *app) verifyCommand() *cobra.Command {
	var f storeFlags
	var level string
	var rotate bool
	var live againstFlags
	var file fileFlags
	cmd := &cobra.Command{
		Use: "verify [ID]", Short: "Check the stored bytes of a backup, by default the newest", Args: cobra.MaximumNArgs(1),
		Long: "Check the stored bytes of a backup, by default the newest one.\n\n" +
			"  L0  every object exists and has its size\n" +
			"  L1  and its SHA-256 is the one in the signed manifest (the default; needs no key)\n" +
			"  L2  and every item opens to the recorded plaintext (the default with --identity)\n\n" +
			"With --against it then shows how the live source has changed since, which needs the identity and fails nothing.\n\n" +
			"Of an imported file: L0 it is there, L1 it is what it was when it was imported, L2 every layer of it opens whole.\n\n" +
			"Whether it restores is not a matter of bytes: that is what `holdfast drill` proves.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			depth := holdfast.L1
			if f.Identity != "" || f.passphrase != "" {
				depth = holdfast.L2
			}
			if level != "" {
				if depth, err = holdfast.ParseLevel(level); err != nil {
					return err
				}
			}
			if a.about.Job, err = f.job(); err != nil {
				return err
			}
			if rotate {
				if len(args) > 0 || f.Store != "" {
					return holdfast.WithHint(fmt.Errorf("%w: --rotate chooses the backup and the store by itself", holdfast.ErrUsage), "leave out the ID and --store, or --rotate")
				}
				where, id, err := a.longestUnread(cmd.Context(), cfg, &f)
				if err != nil {
					return err
				}
				a.printer.say(fmt.Sprintf("looking at %s in store %s", id, where.Name))
				f.Store, args = where.Name, []string{string(id)}
				if cfg, err = a.load(f.Flags, false); err != nil {
					return err
				}
			}
			repo, err := a.reader(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			if old, _, is, err := a.chosenImport(cmd.Context(), cfg, &f, repo, args); err != nil || is {
				if err != nil {
					return err
				}
				return a.verifyImported(cmd.Context(), cfg, &f, &file, old, depth)
			}
			b, err := a.pick(cmd.Context(), repo, &f, args)
			if err != nil {
				return err
			}
			a.about.Detail = depth.String()
			told := a.announce(cmd.Context(), cfg, b.Entry.Job, holdfast.TaskVerify)
			defer func() { told.ended(cmd.Context(), err) }()
			living, err := a.living(cmd.Context(), cfg, &live, b.Manifest)
			if err != nil {
				return err
			}
			var objects int
			var bytes int64
			verifyErr := b.Verify(cmd.Context(), depth, func(item archive.ItemEntry) {
				objects++
				bytes += item.StoredSize
				a.printer.say(fmt.Sprintf("  %-28s %9s  good", item.Object, report.Size(item.StoredSize)))
			})
			odd, oddErr := b.Oddities(cmd.Context())
			for _, text := range odd {
				a.printer.warn(text)
			}
			verifyErr = errors.Join(verifyErr, oddErr)
			if verifyErr == nil || errors.Is(verifyErr, holdfast.ErrDifference) {
				a.recordVerification(cmd.Context(), cfg, b, depth, verifyErr == nil)
			}
			if err := verifyErr; errors.Is(err, holdfast.ErrDifference) {
				return holdfast.WithHint(err, "the backup before it may be whole: `holdfast list`, then `holdfast verify ID`; mend the store before the next backup")
			} else if err != nil {
				return err
			}
			if a.flags.json {
				a.printEvent("verify", map[string]any{"id": b.Entry.ID, "level": depth.String(), "objects": objects, "bytes": bytes, "good": true})
			}
			a.result("backup %s: %s good, %d objects, %s", b.Entry.ID, depth, objects, report.Size(bytes))
			return a.drift(cmd.Context(), b, living)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	live.add(cmd)
	file.add(cmd, false)
	cmd.Flags().StringVar(&level, "level", "", "how deep: L0, L1 or L2")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "check the copy that was looked at longest ago, in whichever store of the job it is")
	return cmd
}

// recordVerification leaves word of a check in the store that was checked, where this host has a signing key and may write there.
// A copy that was found damaged counts for nothing when it is decided what may be deleted.
func (a *app) recordVerification(ctx context.Context, cfg *config.Config, b *archive.Backup, level holdfast.Level, good bool) {
	err := a.putVerification(ctx, cfg, b, level, good)
	if err != nil {
		a.printer.warn("the store has no record of this verification: " + holdfast.Sentence(err))
	}
}

func (a *app) putVerification(ctx context.Context, cfg *config.Config, b *archive.Backup, level holdfast.Level, good bool) error {
	if _, err := os.Stat(cfg.Signer); errors.Is(err, fs.ErrNotExist) {
		return nil // whoever only reads makes no key for it
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	where, err := cfg.StoreNamed("")
	if err != nil {
		return err
	}
	repo, err := a.repository(ctx, where, access{signer: signer})
	if err != nil {
		return err
	}
	_, err = repo.PutVerification(ctx, b, level, good, archive.Verification{Time: a.Now(), Host: cfg.Host, Who: a.who()})
	return err
}
