package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/retention"
	"holdfast/internal/sandbox"
	"holdfast/internal/scratch"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

func (a *app) doctorCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use: "doctor [JOB]", Short: "Find what would make backups or drills fail", Args: cobra.MaximumNArgs(1),
		Long: "Look at every job: store, keys, sources, schedule and what a drill needs. All findings come at once, each with what to do. It also\n" +
			"says which jobs this host itself could read. Where a unit of `holdfast install systemd` makes the backups, root looks at files with the\n" +
			"eyes of its user. Nothing is changed. The exit code is 1 when something would fail.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				flags.Job = args[0]
			}
			cfg, err := a.load(flags, false)
			if err != nil {
				return err
			}
			jobs := cfg.Jobs
			if flags.Job != "" || len(jobs) == 0 {
				job, err := cfg.Job(holdfast.JobName(flags.Job))
				if err != nil {
					return err
				}
				jobs = []config.Job{job}
			}
			return a.doctor(cmd.Context(), cfg, jobs, flags.To != "")
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.Sources, "source", nil, "look at this source: `postgres://…`, a SQLite file, or a folder; may be given several times")
	f.StringVar(&flags.To, "to", "", "the store: a `FOLDER`, or a name from the configuration")
	f.StringArrayVarP(&flags.Recipients, "recipient", "r", nil, "seal to this age `RECIPIENT`, or key of the configuration")
	f.StringVarP(&flags.Identity, "identity", "i", "", "`FILE` of an identity on this host, to see which jobs it could read")
	return cmd
}

func (a *app) doctor(ctx context.Context, cfg *config.Config, jobs []config.Job, create bool) error {
	failing := 0
	show := func(where string, findings ...source.Finding) {
		for _, finding := range findings {
			if finding.Severity == source.Fails {
				failing++
			}
			a.showFinding(where, finding)
		}
	}
	if cfg.Disabled {
		show("environment", source.Finding{Severity: source.Warns, Message: "ENABLE_BACKUPS switches backups off", Fix: "set it to true, or unset it"})
	}
	here := installedIn(unitFolder)
	var overdue map[holdfast.JobName][]source.Finding
	if cfg.File != "" {
		show("host", hostFindings(ctx, cfg, jobs, here)...)
		var err error
		if overdue, err = a.overdueDrills(ctx, cfg, jobs); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			show("host", failure(err))
		}
	}
	for _, job := range jobs {
		where := "job " + string(job.Name)
		if cfg.File != "" {
			show(where, append(scheduleFindings(job), overdue[job.Name]...)...)
		}
		show(where, a.storeFindings(ctx, job, create)...)
		show(where, a.keyFindings(ctx, cfg, job)...)
		show(where, drillFindings(job)...)
		show(where, hookFindings(ctx, job)...)
		sources, err := a.namedSources(ctx, cfg, job.Sources)
		if err != nil {
			show(where, failure(err))
			continue
		}
		for i, src := range sources {
			findings, err := src.Source.Diagnose(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				findings = append(findings, failure(err))
			}
			findings = append(findings, a.readerFindings(ctx, cfg, job.Sources[i], here, findings)...)
			for i := range findings {
				if src.Optional && findings[i].Severity == source.Fails {
					findings[i].Severity = source.Warns
				}
			}
			if len(findings) == 0 {
				findings = []source.Finding{{Severity: source.Fine, Message: "can be backed up"}}
			}
			show("source "+string(src.Name), findings...)
		}
	}
	if failing > 0 {
		return fmt.Errorf("%d findings would make a backup or a drill fail", failing)
	}
	return nil
}

func failure(err error) source.Finding {
	return source.Finding{Severity: source.Fails, Message: holdfast.Sentence(err), Fix: holdfast.Hint(err)}
}

func (a *app) showFinding(where string, finding source.Finding) {
	if a.flags.json {
		a.printEvent("finding", map[string]any{"where": where, "severity": finding.Severity, "message": finding.Message, "fix": finding.Fix})
		return
	}
	marks := map[source.Severity]string{source.Fine: "  ok   ", source.Warns: "  warn ", source.Fails: "  FAIL "}
	fmt.Fprintf(a.Out, "%s%s: %s\n", marks[finding.Severity], where, finding.Message)
	if finding.Fix != "" {
		fmt.Fprintf(a.Out, "         %s\n", finding.Fix)
	}
}

// storeFindings looks whether the stores of a job are there, and how they are set up; a backup with --to makes the first one.
func (a *app) storeFindings(ctx context.Context, job config.Job, create bool) []source.Finding {
	if _, err := os.Lstat(job.Store.Path); create && job.Store.IsLocal() && errors.Is(err, os.ErrNotExist) {
		return []source.Finding{{Severity: source.Fine, Message: "store " + job.Store.Path + " is made by the first backup"}}
	}
	var findings []source.Finding
	for _, place := range append([]config.Store{job.Store}, job.Mirrors...) {
		findings = append(findings, a.placeFindings(ctx, job, place)...)
	}
	if len(job.Mirrors) == 0 && job.Store.IsLocal() {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "its backups are in one place, a folder of this host", Fix: "add a store elsewhere and name it in mirrors: docs/mirrors.md"})
	}
	if !job.Keep.Given {
		findings = append(findings, source.Finding{Severity: source.Fine, Message: "no rule says what is kept, so nothing is ever deleted"})
	}
	return findings
}

func (a *app) placeFindings(ctx context.Context, job config.Job, place config.Store) []source.Finding {
	s, err := a.openStore(ctx, place, false)
	if err != nil {
		return []source.Finding{failure(err)}
	}
	findings := []source.Finding{{Severity: source.Fine, Message: "store " + place.Address() + " is there"}}
	inspector, is := s.Driver().(store.Inspector)
	if !is {
		return findings
	}
	seen, err := inspector.Inspect(ctx, store.Inspection{Keep: longest(job.Keep.For(place.Name)), WriteOnly: !job.Keep.Given})
	if err != nil {
		findings = append(findings, failure(fmt.Errorf("store %s: %w", place.Name, err)))
	}
	for _, f := range seen {
		findings = append(findings, source.Finding{Severity: source.Severity(f.Severity), Message: "store " + place.Name + ": " + f.Message, Fix: f.Fix})
	}
	return findings
}

// longest is the longest time for which a policy keeps something; 0: for ever.
func longest(policy retention.Policy) time.Duration {
	span := policy.Default.Longest()
	for _, rule := range policy.Kinds {
		if span == 0 || rule.Longest() == 0 {
			return 0
		}
		span = max(span, rule.Longest())
	}
	return span
}

// keyFindings says to whom a job is sealed, and whether this host could read it.
func (a *app) keyFindings(ctx context.Context, cfg *config.Config, job config.Job) []source.Finding {
	if job.Seal == config.SealNone {
		return []source.Finding{{Severity: source.Warns, Message: "is not sealed: this host, and whoever reads the store, can read it", Fix: "set recipients and remove seal: none"}}
	}
	opt, err := sealing(ctx, job)
	if err == nil {
		err = errors.Join(seal.CheckRecipients(opt.Recipients), seal.CheckNow(opt.Recipients, a.Now()))
	}
	if err != nil {
		return []source.Finding{failure(err)}
	}
	var findings []source.Finding
	for _, key := range job.Recipients {
		if !key.Passphrase.IsZero() {
			findings = append(findings, source.Finding{Severity: source.Warns, Message: "this host itself can read its backups: it has the passphrase of key " + key.Name, Fix: "seal to a public key instead (`holdfast key new` on another machine)"})
		}
		if key.Format == seal.OpenSSL {
			findings = append(findings, source.Finding{Severity: source.Warns, Message: "its files are unauthenticated: openssl itself does not notice a changed one", Fix: "without holdfast, compare the sha256 that RESTORE.txt gives before you use one; or use format openpgp"})
		}
		end := key.End()
		left := end.Sub(a.Now())
		if !key.Expires.IsZero() && key.Expires.Sub(a.Now()) < -24*time.Hour {
			findings = append(findings, source.Finding{Severity: source.Fails, Message: "key " + key.Name + " expired on " + key.Expires.Format(time.DateOnly) + ": backups are refused", Fix: "seal to a new key, or give the key a later date"})
		} else if !end.IsZero() && left < 30*24*time.Hour {
			findings = append(findings, source.Finding{Severity: source.Warns, Message: "key " + key.Name + " expires on " + end.Format(time.DateOnly), Fix: "add a new key to the job's recipients"})
		}
	}
	if readable, err := identityOpens(cfg, opt.Recipients); err != nil {
		findings = append(findings, failure(err))
	} else if readable {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "this host itself can read its backups: the identity is at " + cfg.Identity, Fix: "move it off this host, to two safe places"})
	}
	if len(findings) == 0 {
		message := "sealed to public keys; no identity was given to look at"
		if cfg.Identity != "" {
			message = "the identity at " + cfg.Identity + " does not open its backups"
		}
		findings = []source.Finding{{Severity: source.Fine, Message: message}}
	}
	return findings
}

// hostFindings are about what this host is for.
func hostFindings(ctx context.Context, cfg *config.Config, jobs []config.Job, here installed) []source.Finding {
	var findings []source.Finding
	identity := ""
	switch {
	case here.unit != "" && here.identity != "":
		identity = here.identity
	case here.identity == "" && slices.ContainsFunc(jobs, func(job config.Job) bool {
		opt, err := sealing(ctx, job)
		opens, openErr := identityOpens(cfg, opt.Recipients)
		s := job.Schedule.Times
		makes := !s[holdfast.TaskBackup].IsZero() || !s[holdfast.TaskHourly].IsZero() // and leaves them to no other machine
		return makes && err == nil && openErr == nil && opens
	}):
		identity = cfg.Identity
	}
	if identity != "" {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "it backs up and holds an identity too: whoever takes this host over can read every backup; the identity is at " + identity,
			Fix: "drills belong on another machine (`holdfast install systemd --drill` there), or at least in a unit of their own: docs/service.md"})
	}
	if cfg.Service.Paused {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "service.paused: nothing of any schedule is run", Fix: "take paused out of service"})
	}
	if len(cfg.Channels) == 0 {
		findings = append(findings, source.Finding{Severity: source.Fine, Message: "no channel is configured, so that nobody is told when something is wrong", Fix: "put one into channels: docs/alarms.md"})
	}
	return findings
}

// scheduleFindings say what of a job nobody runs.
func scheduleFindings(job config.Job) []source.Finding {
	var findings []source.Finding
	s := job.Schedule
	switch {
	case !s.Given:
		findings = append(findings, source.Finding{Severity: source.Fine, Message: "it has no schedule: nothing runs it but you, or a cron of your own", Fix: `give it one, schedule: {backup: "0 2 * * *"}, for holdfast serve or holdfast install: docs/service.md`})
	case s.Paused:
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "it is paused: nothing of it is run", Fix: "take paused out of its schedule"})
	}
	if s.Given && s.Times[holdfast.TaskDrill].IsZero() && s.Times[holdfast.TaskDrillCopy].IsZero() && s.Times[holdfast.TaskDrillOld].IsZero() {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "no drill is on its schedule: nothing proves that its backups restore", Fix: "take `never` out of drill, drill_copy and drill_old: docs/service.md"})
	}
	return findings
}

// overdueDrills are those that `holdfast status` misses too, by job.
func (a *app) overdueDrills(ctx context.Context, cfg *config.Config, jobs []config.Job) (map[holdfast.JobName][]source.Finding, error) {
	keys, err := trusted(cfg, &storeFlags{})
	if err != nil {
		return nil, err
	}
	only := *cfg
	only.Jobs = jobs
	state, err := a.stateOf(ctx, &only, keys, &lookout{}, nil)
	if err != nil {
		return nil, err
	}
	overdue := map[holdfast.JobName][]source.Finding{}
	for _, f := range health.Judge(state, limitsOf(cfg)) {
		if f.Alarm == health.DrillOverdue {
			overdue[f.Job] = append(overdue[f.Job], source.Finding{Severity: source.Warns, Message: f.Text, Fix: f.Hint})
		}
	}
	return overdue, nil
}

// unreadableFix begins what a source says of files that the present user cannot read.
const unreadableFix = "run as a user who can read it"

// readerFindings say whether the user who runs the backups can read a source: the one of the unit that does it here, if root asks, and
// otherwise whoever asks.
func (a *app) readerFindings(ctx context.Context, cfg *config.Config, src config.Source, here installed, seen []source.Finding) []source.Finding {
	const fix = "`holdfast install systemd` writes a service that may read files of any owner, and has no other right of root's (CAP_DAC_READ_SEARCH)"
	if os.Geteuid() != 0 {
		if slices.ContainsFunc(seen, func(f source.Finding) bool { return strings.HasPrefix(f.Fix, unreadableFix) }) {
			return []source.Finding{{Severity: source.Warns, Message: "user " + a.who() + " cannot read all of it", Fix: fix}}
		}
		return nil
	}
	if here.unit == "" || here.readAll {
		return nil
	}
	who, err := accountNamed(here.user)
	if err != nil {
		return []source.Finding{failure(err)}
	}
	closed, err := a.closedTo(ctx, cfg, src, who)
	if err != nil {
		return []source.Finding{failure(err)}
	}
	if len(closed) == 0 {
		return nil
	}
	return []source.Finding{{Severity: closed[0].Severity, Message: fmt.Sprintf("user %s, as whom %s runs, cannot read all of it: %s", here.user, here.unit, closed[0].Message), Fix: fix + ": run it again, with --replace"}}
}

func identityOpens(cfg *config.Config, recipients []seal.Recipient) (bool, error) {
	if cfg.Identity == "" {
		return false, nil
	}
	file, err := os.Open(cfg.Identity)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the identity: %w", err)
	}
	defer file.Close()
	identities, err := seal.ParseIdentities(file)
	if err != nil {
		return false, err
	}
	for _, identity := range identities {
		own := seal.RecipientOf(identity)
		for _, recipient := range recipients {
			if own != nil && own.KeyID() == recipient.KeyID() {
				return true, nil
			}
		}
	}
	return false, nil
}

// drillFindings says whether drills can be made on this machine. That is not an error: drills may run elsewhere.
func drillFindings(job config.Job) []source.Finding {
	var findings []source.Finding
	if err := sandbox.Available(); err != nil {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "drills cannot run here: " + err.Error(), Fix: holdfast.Hint(err)})
	}
	folder, err := scratch.Open(scratch.Options{Dir: job.Drill.Scratch, AllowDisk: job.Drill.AllowDiskScratch})
	if err != nil {
		return append(findings, source.Finding{Severity: source.Warns, Message: "drills cannot run here: " + err.Error(), Fix: holdfast.Hint(err)})
	}
	if err := folder.Close(); err != nil {
		return append(findings, failure(err))
	}
	if folder.Medium == "plain disk" {
		findings = append(findings, source.Finding{Severity: source.Warns, Message: "drills write plaintext to a plain disk, by explicit choice", Fix: "use a tmpfs or an encrypted volume as scratch"})
	}
	return findings
}
