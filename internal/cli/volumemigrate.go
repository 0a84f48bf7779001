package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/hook"
	"holdfast/internal/migration"
	"holdfast/internal/report"
)

// migrateFlags are those of moving a data directory.
type migrateFlags struct {
	storeFlags
	from, to              string
	dryRun, plan          bool
	operational, recovery string
	reason, confirm       string
}

func (f *migrateFlags) add(cmd *cobra.Command) {
	f.addIdentity(cmd)
}

func (a *app) volumeMigrateCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "migrate", Short: "Move a PostgreSQL data directory onto a volume, and back", Args: cobra.NoArgs,
		Long: "Say first what would be done and whether it can be (--plan does no more), then: copy while the server runs; shut applications out; take the\n" +
			"facts of every database; stop the server; copy what changed and compare both sides byte for byte; switch; start; ask for health; take\n" +
			"the facts again. Any difference, a server that is not well or queries that take 15 % longer bring the server back to the old directory,\n" +
			"which is kept untouched until `holdfast volume migrate finish`. Killed at any moment, `holdfast volume migrate resume` goes on or goes back.\n\n" +
			"--dry-run rehearses on a copy, with a server of its own, both keys and a real way back; applications notice nothing. A backup that is\n" +
			"proven and younger than 24 hours is needed.",
		Example: "  holdfast volume migrate --from /var/lib/postgresql/17/main --to pg-data --plan\n" +
			"  holdfast volume migrate --from /var/lib/postgresql/17/main --to pg-data --dry-run\n" +
			"  holdfast volume migrate --from docker-volume:shop_pgdata --to pg-data --confirm pg-data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.migrating(cmd.Context(), &f, f.to, func(ctx context.Context, m migration.Migration) error { return a.migrate(ctx, m, &f) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the data directory: a `FOLDER`, or docker-volume:NAME")
	flags.StringVar(&f.to, "to", "", "the `VOLUME` that it moves onto")
	flags.BoolVar(&f.plan, "plan", false, "only say what would be done, and whether it can be")
	flags.BoolVar(&f.dryRun, "dry-run", false, "rehearse on a copy")
	flags.StringVar(&f.operational, "operational-file", "", "`FILE` with the operational passphrase, which --dry-run tries")
	flags.StringVar(&f.recovery, "recovery-file", "", "`FILE` with the recovery passphrase, which --dry-run tries")
	flags.StringVar(&f.confirm, "confirm", "", "the volume's `NAME`, typed; asked for at a terminal")
	f.add(cmd)
	cmd.AddCommand(a.migrateStatusCommand(), a.migrateResumeCommand(), a.migrateRollbackCommand(), a.migrateFinishCommand(), a.migrateWatchCommand())
	return cmd
}

// migrating finds the volume and its migration, and runs do while no other command works on the volume.
func (a *app) migrating(ctx context.Context, f *migrateFlags, name string, do func(context.Context, migration.Migration) error) (err error) {
	cfg, err := a.load(f.Flags, true)
	if err != nil {
		return err
	}
	d, err := a.disk(cfg, name)
	if err != nil {
		return err
	}
	m := move{cfg: cfg, disk: d, flags: f}
	if m.from, err = a.movedFrom(ctx, cfg, d, f.from); err != nil {
		return err
	}
	lock, err := a.holdVolume(cfg, d)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, lock.Release()) }()
	bound, err := a.migration(ctx, m)
	if err != nil {
		return err
	}
	defer a.carryVolume(ctx, cfg, d)
	return do(ctx, bound)
}

// movedFrom is the directory that is moved: the one given, else that of the migration that there is.
func (a *app) movedFrom(ctx context.Context, cfg *config.Config, d disk, given string) (string, error) {
	if given != "" {
		return a.dataDirectory(ctx, cfg, given)
	}
	was, err := migration.Peek(statePath(cfg, d.config.Name))
	if err != nil {
		return "", err
	}
	if was.From == "" {
		return "", holdfast.WithHint(fmt.Errorf("%w: there is no migration to volume %s", holdfast.ErrUsage, d.config.Name), "begin one with `holdfast volume migrate --from FOLDER --to "+d.config.Name+"`")
	}
	return filepath.Clean(was.From), nil
}

func (a *app) migrate(ctx context.Context, m migration.Migration, f *migrateFlags) error {
	plan, err := m.Plan(ctx)
	if err != nil {
		return err
	}
	a.showLines("plan", plan.Lines(), map[string]any{"volume": plan.Volume, "from": plan.From, "to": plan.To, "size": plan.Size, "free": plan.Free, "estimate_seconds": plan.Estimate.Seconds(), "measured": plan.Measured, "go": plan.Go()})
	switch {
	case !plan.Go():
		return holdfast.WithHint(fmt.Errorf("%w: see the lines with NO-GO", migration.ErrNoGo), "each says what to do")
	case f.plan:
		return nil
	case f.dryRun:
		report, err := m.Rehearse(ctx)
		a.showReport(report, err)
		if err == nil {
			a.result("the dry run went well: the server, its directory and its applications were left alone")
		}
		return err
	}
	if err := a.confirmMove(ctx, plan.Volume, f.confirm, "applications are shut out while it is moved"); err != nil {
		return err
	}
	report, err := m.Run(ctx)
	a.showReport(report, err)
	if err == nil {
		a.result("next: holdfast volume migrate watch %s, and when you are sure, finish; until then the old directory is kept", report.Volume)
	}
	return err
}

// confirmMove has the volume's name typed.
func (a *app) confirmMove(ctx context.Context, name, given, why string) error {
	hint := holdfast.WithHint(fmt.Errorf("%w: %s, and the volume's name was not typed", holdfast.ErrUsage, why), "give --confirm "+name)
	if given == "" && a.interactive() {
		answer, err := a.ask(ctx, why+"; type the volume's name to go on: ")
		if err != nil {
			return err
		}
		given = strings.TrimSpace(answer)
	}
	if given != name {
		return hint
	}
	return nil
}

func (a *app) showLines(event string, lines []string, fields map[string]any) {
	if a.flags.json {
		fields["lines"] = lines
		a.printEvent(event, fields)
		return
	}
	for _, line := range lines {
		a.result("%s", quoted(line))
	}
}

func (a *app) showReport(r migration.Report, err error) {
	phases := []map[string]any{}
	for _, p := range r.Phases {
		phases = append(phases, map[string]any{"step": p.Step, "seconds": p.Took.Seconds()})
	}
	a.showLines("migration", r.Lines(), map[string]any{
		"volume": r.Volume, "from": r.From, "to": r.To, "step": r.Step, "under_way": r.UnderWay, "size": r.Size, "phases": phases, "downtime_seconds": r.Downtime.Seconds(),
		"shut_out_seconds": r.ShutOut.Seconds(), "way_back_seconds": r.WayBack.Seconds(), "backup": r.Backup, "reason": r.Reason, "good": err == nil,
	})
}

func (a *app) migrateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [VOLUME]", Short: "Show where a migration stands", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			f := migrateFlags{}
			from, err := a.movedFrom(cmd.Context(), cfg, d, "")
			if err != nil {
				return err
			}
			bound, err := a.migration(cmd.Context(), move{cfg: cfg, disk: d, from: from, flags: &f})
			if err != nil {
				return err
			}
			report, err := bound.Report()
			if err == nil {
				a.showReport(report, nil)
			}
			return err
		},
	}
}

// volumeNamed is the name that a command was given; "" is the only volume.
func volumeNamed(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) migrateResumeCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "resume [VOLUME]", Short: "Go on with a migration that was killed, or go back", Args: cobra.MaximumNArgs(1),
		Long: "Go on where a migration ended, if nobody wrote to the old directory meanwhile; else go back. Applications are let in again at the end.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.migrating(cmd.Context(), &f, volumeNamed(args), func(ctx context.Context, m migration.Migration) error {
				report, err := m.Resume(ctx)
				a.showReport(report, err)
				return err
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) migrateRollbackCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "rollback [VOLUME]", Short: "Bring the server back to its old directory", Args: cobra.MaximumNArgs(1),
		Long: "Before applications were let in, switch back at once. Afterwards the old directory lacks what was written: then all of the server is backed up,\n" +
			"that backup is proven, which needs --identity, what the old directory lacks is said, and the backup is restored into a new directory\n" +
			"beside the old one, which the server gets. That takes 30 to 60 minutes as a rule; how long it took is told. If it fails, the server stays on the volume.",
		Example: "  holdfast volume migrate rollback pg-data --reason \"reports take too long\" --confirm pg-data --identity /media/stick/identity.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.migrating(cmd.Context(), &f, volumeNamed(args), func(ctx context.Context, m migration.Migration) error {
				before, err := m.Report()
				if err != nil {
					return err
				}
				if err := a.confirmMove(ctx, before.Volume, f.confirm, "the server gets another directory"); err != nil {
					return err
				}
				report, err := m.Rollback(ctx, f.reason)
				a.showReport(report, err)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, which is recorded")
	cmd.Flags().StringVar(&f.confirm, "confirm", "", "the volume's `NAME`, typed; asked for at a terminal")
	f.add(cmd)
	return cmd
}

func (a *app) migrateFinishCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "finish [VOLUME]", Short: "Remove the old directory, after the new one was proven", Args: cobra.MaximumNArgs(1),
		Long: "Remove the old directory, which lies unsealed on the plain disk. Before that the server must be well, and a backup of it that is younger than 24\n" +
			"hours must be proven; where there is none it is made and drilled, which needs --identity. A removed file may still be read from the disk by whoever takes it.",
		Example: "  holdfast volume migrate finish pg-data --reason \"two weeks without a finding\" --confirm pg-data",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.migrating(cmd.Context(), &f, volumeNamed(args), func(ctx context.Context, m migration.Migration) error {
				before, err := m.Report()
				if err != nil {
					return err
				}
				if err := a.confirmMove(ctx, before.Volume, f.confirm, "the old directory is removed for ever"); err != nil {
					return err
				}
				report, err := m.Finish(ctx, f.reason)
				a.showReport(report, err)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, which is recorded")
	cmd.Flags().StringVar(&f.confirm, "confirm", "", "the volume's `NAME`, typed; asked for at a terminal")
	f.add(cmd)
	return cmd
}

func (a *app) migrateWatchCommand() *cobra.Command {
	var f migrateFlags
	var span time.Duration
	cmd := &cobra.Command{
		Use: "watch [VOLUME]", Short: "Watch a server that was moved: health, log, and how long its queries take", Args: cobra.MaximumNArgs(1),
		Long:    "Ask the server once a minute, for an hour or as long as --for says, whether it is well, what its log has, and how long the fixed queries take beside before. The exit code is 4 when something was found.",
		Example: "  holdfast volume migrate watch pg-data --for 24h",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.migrating(cmd.Context(), &f, volumeNamed(args), func(ctx context.Context, m migration.Migration) error {
				return a.migrateWatch(ctx, m, volumeNamed(args), span)
			})
		},
	}
	cmd.Flags().DurationVar(&span, "for", migration.DefaultWatch, "how long: 1h, 24h")
	f.add(cmd)
	return cmd
}

func (a *app) migrateWatch(ctx context.Context, m migration.Migration, name string, span time.Duration) error {
	w := migration.Watching{For: span}
	if d, err := a.disk(a.cfg, name); err == nil && d.config.Server.Unit != "" {
		w.Logs = func(ctx context.Context, since time.Time) ([]string, error) {
			lines, err := hook.Command{Args: []string{"journalctl", "--unit", d.config.Server.Unit, "--since", since.Format("2006-01-02 15:04:05"), "--output", "cat", "--no-pager", "--quiet"}}.Run(ctx, hook.NewMask(a.cfg.KnownSecrets(ctx)))
			return slices.DeleteFunc(lines, func(line string) bool { return !severe(line) }), err
		}
	} else {
		a.printer.warn("the server's log is not read: the volume's server has no unit of systemd in the configuration; look at it yourself")
	}
	began := a.Now()
	findings, err := m.Watch(ctx, w)
	for _, finding := range findings {
		if a.flags.json {
			a.printEvent("finding", map[string]any{"kind": finding.Kind, "time": finding.Time, "text": finding.Text})
		}
		a.result("%s  %s  %s", finding.Time.Format(time.RFC3339), finding.Kind, quoted(finding.Text))
	}
	if err == nil && len(findings) > 0 {
		err = fmt.Errorf("%w: %d things were found", holdfast.ErrDifference, len(findings))
	}
	watched := a.Now().Sub(began)
	if err == nil {
		a.result("nothing was found in %s", report.Span(watched))
	}
	if ctx.Err() != nil {
		err = errors.Join(err, holdfast.WithHint(fmt.Errorf("%w: it was watched for %s, of %s", holdfast.ErrInterrupted, report.Span(watched), report.Span(span)), "run it again"))
	}
	return err
}

// severe reports whether a line of PostgreSQL's log is one that a person should see. systemd gives all of them one priority.
func severe(line string) bool {
	return slices.ContainsFunc([]string{"ERROR:", "FATAL:", "PANIC:", "WARNING:"}, func(word string) bool { return strings.Contains(line, word) })
}
