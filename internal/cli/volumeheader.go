package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/volume"
)

func (a *app) volumeHeaderCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "header", Short: "Keep sealed copies of a volume's header in the store", Long: "Without its header a volume is lost, whoever has the keys. Copies of it are backups of a job volume-NAME, in the store and the mirrors of\n" +
		"the job that the volume names, sealed to its recipients."}
	cmd.AddCommand(a.volumeHeaderBackupCommand(), a.volumeHeaderListCommand())
	return cmd
}

func (a *app) volumeHeaderBackupCommand() *cobra.Command {
	var reason, older string
	cmd := &cobra.Command{
		Use: "backup [NAME]", Short: "Seal a copy of the header into the store", Args: cobra.MaximumNArgs(1),
		Long: "Seal a copy of the header into the store and the mirrors of the volume's job. With --older-than, as root's cron runs it each day, only when the\n" +
			"newest copy is older than that: `holdfast volume key rotate` and what else changes the header makes one by itself.",
		Example: "  holdfast volume header backup pg-data\n  holdfast volume header backup pg-data --older-than 25d",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			if older != "" {
				span, err := config.ParseSpan(older)
				if err != nil {
					return holdfast.WithHint(fmt.Errorf("%w: --older-than %q is no duration: %w", holdfast.ErrUsage, older, err), "write --older-than 25d")
				}
				entries, err := a.headerBackups(cmd.Context(), cfg, d)
				if err != nil {
					return err
				}
				if newest := newestHeader(entries); a.Now().Sub(newest) < span {
					a.printer.say("the newest copy of the header of volume " + d.config.Name + " is " + health.Span(a.Now().Sub(newest)) + " old: nothing to do")
					return nil
				}
			}
			return a.backupHeader(cmd.Context(), cfg, d, d.volume.Device, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "by hand", "why, kept in the manifest")
	cmd.Flags().StringVar(&older, "older-than", "", "only if the newest copy is older than this `SPAN`: 25d")
	return cmd
}

func (a *app) volumeHeaderListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List the copies of the header that the store has", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			entries, err := a.headerBackups(cmd.Context(), cfg, d)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				a.printer.warn("the store has no copy of the header of volume " + d.config.Name + ": make one with `holdfast volume header backup " + d.config.Name + "`")
			}
			for _, e := range entries {
				if a.flags.json {
					a.printEvent("header", map[string]any{"volume": d.config.Name, "id": e.ID, "made": e.Time})
				}
				a.result("%s  %s  %s", e.ID, e.Time.Format(time.RFC3339), age(a.Now().Sub(e.Time)))
			}
			return nil
		},
	}
}

// headerJob is the job that copies of a volume's header are backups of.
func headerJob(name string) holdfast.JobName { return holdfast.JobName("volume-" + name) }

// headerBackups lists them, oldest first.
func (a *app) headerBackups(ctx context.Context, cfg *config.Config, d disk) ([]archive.Entry, error) {
	job, err := cfg.Job(d.config.Job)
	if err != nil {
		return nil, err
	}
	repo, err := a.repository(ctx, job.Store, access{})
	if err != nil {
		return nil, err
	}
	return repo.List(ctx, headerJob(d.config.Name))
}

// headerSize is a LUKS2 header as cryptsetup makes it, and some room.
const headerSize = 17 << 20

// backupHeader seals a copy of the header of device, which is the volume's or will be. It lies in memory meanwhile.
func (a *app) backupHeader(ctx context.Context, cfg *config.Config, d disk, device, reason string) (err error) {
	defer func() { a.noteVolume(cfg, d.config.Name, journal.VolumeHeader, err, reason, nil) }()
	job, err := cfg.Job(d.config.Job)
	if err != nil {
		return err
	}
	if err := a.maySealHeader(cfg, d); err != nil {
		return err
	}
	how := job.Drill
	how.AllowDiskScratch = false
	folder, err := a.scratchFolder(how, headerSize)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, folder.Close()) }()
	path := filepath.Join(folder.Path, d.config.Name+".luks-header")
	header, err := a.volumeHost().BackupHeader(ctx, device, path)
	if err != nil {
		return err
	}
	job.Name, job.Keep, job.Hooks = headerJob(d.config.Name), config.Keep{}, config.Hooks{}
	job.Sources = []config.Source{{Name: "header", Kind: holdfast.KindFiles, Secret: true, Files: config.Files{Paths: []config.FilePath{{Path: path}}}}}
	if err := a.backup(ctx, cfg, job, backupRun{kind: "manual", reason: fmt.Sprintf("header of volume %s (%s): %s", d.config.Name, header.UUID, reason)}); err != nil {
		return fmt.Errorf("back up the header of volume %s: %w", d.config.Name, err)
	}
	return nil
}

// maySealHeader refuses where a copy of the header would lie readable in the store: it opens with old passphrases for as long as it is there.
func (a *app) maySealHeader(cfg *config.Config, d disk) error {
	job, err := cfg.Job(d.config.Job)
	if err != nil {
		return err
	}
	if job.Seal == config.SealNone {
		return holdfast.WithHint(fmt.Errorf("%w: job %s seals nothing, and copies of the header of volume %s must be sealed", holdfast.ErrUsage, job.Name, d.config.Name), "name a job with recipients in volumes."+d.config.Name+".job")
	}
	return cfg.MaySeal(job.Name)
}

// newestHeader is when the newest copy of the header was made; zero: there is none.
func newestHeader(entries []archive.Entry) time.Time {
	var newest time.Time
	for _, e := range entries {
		if e.Complete && e.Time.After(newest) {
			newest = e.Time
		}
	}
	return newest
}

// headerText tells slots and roles on one line.
func headerText(h volume.Header) string {
	text := fmt.Sprintf("LUKS2 %s, %d bits", h.Cipher, h.KeyBits)
	for _, s := range h.Slots {
		role := string(s.Role)
		if role == "" {
			role = "no role"
		}
		text += fmt.Sprintf("; slot %d %s", s.Number, role)
		if !s.Created.IsZero() {
			text += " since " + s.Created.Format(time.DateOnly)
		}
	}
	return text
}
