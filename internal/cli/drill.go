package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/engine"
	"holdfast/internal/report"
)

func (a *app) drillCommand() *cobra.Command {
	var f storeFlags
	var dir string
	var assertions []string
	var live againstFlags
	var file fileFlags
	var choose chooseFlags
	cmd := &cobra.Command{
		Use: "drill [ID|FILE]", Short: "Prove a backup by restoring it, by default the newest", Args: cobra.MaximumNArgs(1),
		Long: "Restore a backup into a throwaway: a PostgreSQL server of the same major with no network and an unprivileged user, that\n" +
			"sees nothing but a scratch folder in memory. Then read everything back through the reader that recorded it, and compare\n" +
			"every table's rows and digest, every sequence, large object and file. The verdict is signed and stored beside the\n" +
			"backup: proven, failed (what differs is named), or cannot-test (what is missing is named).\n\n" +
			"With --against the report also shows how the live source has changed since, apart from the verdict, which it never touches.\n\n" +
			fileHelp + " Its verdict is restores, failed or cannot-test: never proven, for nothing was\n" +
			"recorded when it was made. Its source is called file in --assert.",
		Example: "  holdfast drill --store /srv/backups --identity key.txt\n" +
			"  holdfast drill --job app --pick random --older-than 14d\n" +
			"  holdfast drill --job app --pick mirror\n" +
			"  holdfast drill --assert \"app: select count(*) > 0 from users\"\n" +
			"  holdfast drill old/backup-2026-11-22-01-00-00.sql.enc --passphrase-file old.pass --against postgres:///app",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			own, err := parseAssertions(assertions)
			if err != nil {
				return err
			}
			if len(args) > 0 && isFile(args[0]) {
				return a.drillFile(cmd.Context(), cfg, &f, &file, fileDrill{path: args[0], assertions: own, dir: dir, live: &live})
			}
			if err := choose.check(args, f.Store); err != nil {
				return err
			}
			if a.about.Job, err = f.job(); err != nil {
				return err
			}
			a.about.Task = choose.task()
			if choose.pick == pickMirror {
				where, err := a.mirrorToProve(cmd.Context(), cfg, &f)
				if err != nil {
					return err
				}
				a.printer.say("proving in mirror " + where.Name)
				f.Store = where.Name
				if cfg, err = a.load(f.Flags, false); err != nil {
					return err
				}
			}
			reader, err := a.reader(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			if args, err = a.choose(cmd.Context(), reader, &f, choose, args); err != nil {
				return err
			}
			if old, entry, is, err := a.chosenImport(cmd.Context(), cfg, &f, reader, args); err != nil || is {
				if err != nil {
					return err
				}
				return a.drillImported(cmd.Context(), cfg, &f, &file, old, entry, fileDrill{assertions: own, dir: dir, live: &live})
			}
			return a.drill(cmd.Context(), cfg, &f, args, own, dir, &live)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	live.add(cmd)
	file.add(cmd, true)
	choose.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.Scratch, "scratch", "", "`FOLDER` to restore in: a tmpfs or an encrypted volume (default /dev/shm)")
	flags.BoolVar(&f.AllowDiskScratch, "allow-disk-scratch", false, "accept a scratch folder on a disk that is not encrypted; the report says so")
	flags.StringArrayVar(&assertions, "assert", nil, "`SOURCE: SQL` whose first value must be true; may be given several times")
	flags.StringVar(&dir, "report", "", "write the report into `FOLDER` (default: reports in the state folder)")
	return cmd
}

func parseAssertions(texts []string) ([]engine.Assertion, error) {
	var all []engine.Assertion
	for _, text := range texts {
		name, query, found := strings.Cut(text, ":")
		src, err := holdfast.ParseSourceName(strings.TrimSpace(name))
		if !found || err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("%w: assertion %q does not begin with a source's name", holdfast.ErrUsage, text), `write --assert "SOURCE: select …"`)
		}
		all = append(all, engine.Assertion{Source: src, Name: strings.TrimSpace(query), Query: strings.TrimSpace(query)})
	}
	return all, nil
}

// knownSources refuses assertions on sources that the backup never was to hold: a name that was mistyped.
func knownSources(assertions []engine.Assertion, m archive.Manifest) error {
	var known []string
	for _, src := range m.Sources {
		known = append(known, string(src.Name))
	}
	for _, src := range m.Missing {
		known = append(known, string(src.Name))
	}
	for _, assertion := range assertions {
		if !slices.Contains(known, string(assertion.Source)) {
			return holdfast.WithHint(fmt.Errorf("%w: the backup holds no source %q, which an assertion names", holdfast.ErrUsage, assertion.Source), "it holds: "+strings.Join(known, ", "))
		}
	}
	return nil
}

func (a *app) drill(ctx context.Context, cfg *config.Config, f *storeFlags, args []string, own []engine.Assertion, dir string, live *againstFlags) (err error) {
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	reader, err := a.reader(ctx, cfg, f)
	if err != nil {
		return err
	}
	chosen, err := a.pick(ctx, reader, f, args)
	if err != nil {
		return err
	}
	if err := knownSources(own, chosen.Manifest); err != nil {
		return err
	}
	living, err := a.living(ctx, cfg, live, chosen.Manifest)
	if err != nil {
		return err
	}
	identities, err := a.identities(ctx, cfg, f)
	if err != nil {
		return err
	}
	resealing, err := a.resealing(ctx, cfg, chosen, identities, chosen.Entry.Sealed)
	if err != nil {
		return err
	}
	repo, err := a.readerSealing(ctx, cfg, f, resealing, signer)
	if err != nil {
		return err
	}
	b, err := repo.Open(ctx, chosen.Entry)
	if err != nil {
		return err
	}
	told := a.announce(ctx, cfg, b.Entry.Job, holdfast.TaskDrill)
	defer func() { told.ended(ctx, err) }()
	how := cfg.DrillFor(b.Entry.Job)
	plan := engine.DrillPlan{
		Place: a.throwaways(cfg, how), Assertions: own, Who: a.who(), Host: cfg.Host, Version: a.Version, Every: how.Every, Clock: a.Now,
		Living: living,
	}
	for _, assertion := range how.Assertions {
		plan.Assertions = append(plan.Assertions, engine.Assertion{Source: assertion.Source, Name: assertion.Name, Query: assertion.SQL})
	}
	if how.AllowDiskScratch {
		plan.Opted = append(plan.Opted, "a scratch folder on a plain disk was allowed: "+how.Scratch)
	}
	d, drillErr := engine.Drill(ctx, repo, b, plan, a.printer.observe)
	if d.Verdict == "" {
		return drillErr
	}
	for _, job := range cfg.Jobs {
		if job.Name == b.Entry.Job {
			d.PromisedRTO, d.PromisedRPO = job.Objectives.RTO, job.Objectives.RPO
		}
	}
	if dir == "" {
		dir = filepath.Join(cfg.State, "reports")
	}
	path, err := writeReport(dir, &d)
	if err != nil {
		return err
	}
	failing, texts, compared := d.Differences()
	a.about.Result = string(d.Verdict)
	a.about.Figures = map[string]float64{"compared": float64(compared), "differences": float64(failing), "texts": float64(texts), "rto_seconds": d.RTO().Seconds(), "rpo_seconds": d.RPO().Seconds()}
	a.showDrill(b, &d, path)
	return drillErr
}

// who names the person or account that runs this.
func (a *app) who() string {
	for _, name := range []string{"SUDO_USER", "LOGNAME", "USER"} {
		if value := a.env(name); value != "" {
			return value
		}
	}
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// writeReport writes the report for people, readable for its owner only: it has names from the data. It returns the path
// of the page.
func writeReport(dir string, d *report.Drill) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", holdfast.WithHint(fmt.Errorf("make the folder of reports: %w", err), "choose another with --report")
	}
	page, err := report.HTML(d)
	if err != nil {
		return "", err
	}
	of := string(d.Backup.ID)
	if d.File != nil {
		of = filepath.Base(d.File.Path)
	}
	stem := filepath.Join(dir, fmt.Sprintf("drill-%s-%s", of, d.Started.Format("20060102T150405.000Z")))
	if err := durable.WriteFile(stem+".md", report.Markdown(d), 0o600); err != nil {
		return "", fmt.Errorf("write the report: %w", err)
	}
	if err := durable.WriteFile(stem+".html", page, 0o600); err != nil {
		return "", fmt.Errorf("write the report: %w", err)
	}
	return stem + ".html", nil
}

func (a *app) showDrill(b *archive.Backup, d *report.Drill, path string) {
	failing, texts, compared := d.Differences()
	if a.flags.json {
		var drift []map[string]any
		for _, src := range d.Sources {
			if src.Live != nil {
				drift = append(drift, driftJSON(src.Name, src.Live))
			}
		}
		a.printEvent("drill", map[string]any{"drift": drift, "id": b.Entry.ID, "verdict": d.Verdict, "compared": compared, "differences": failing, "text_differences": texts,
			"rto_seconds": d.RTO().Seconds(), "rpo_seconds": d.RPO().Seconds(), "next_due": d.Next, "report": path,
		})
	} else {
		a.printer.say("")
	}
	for _, check := range d.Checks {
		a.result("  %-11s %-18s %s", check.Name, check.Result, quoted(check.Detail))
	}
	a.result("backup %s is %s: %d facts compared, %d differences, %d texts differ; RTO %s, RPO %s, next test due %s",
		b.Entry.ID, strings.ToUpper(string(d.Verdict)), compared, failing, texts, report.Span(d.RTO())+report.Against(d.RTO(), d.PromisedRTO), report.Span(d.RPO())+report.Against(d.RPO(), d.PromisedRPO), d.Next.Format("2006-01-02"))
	for _, src := range d.Sources {
		a.showDrift(src.Name, src.Live)
	}
	a.result("report: %s", path)
}
