package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/report"
)

func (a *app) reportCommand() *cobra.Command {
	var f storeFlags
	var month, out string
	cmd := &cobra.Command{
		Use: "report", Short: "Report on a month: what ran, what was proven, and what was not", Args: cobra.NoArgs,
		Long: "Report on a month from the records of this installation and of those that share its stores, such as the machine that drills: what ran,\n" +
			"what was proven, who opened backups, and first what was not as it should have been. It is Markdown, or JSON with --json, on standard output, or in a file.\n\n" +
			"The exit code is 3 when a store's records could not be read: the report then says so.",
		Example: "  holdfast report --month 2026-11\n  holdfast report --out november.md --month 2026-11",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			from, err := a.monthOf(month)
			if err != nil {
				return err
			}
			m, err := a.month(cmd.Context(), cfg, &f, from)
			if err != nil {
				return err
			}
			text := report.MonthMarkdown(m)
			if a.flags.json {
				if text, err = json.Marshal(m); err != nil {
					return err
				}
				text = append(text, '\n')
			}
			err = a.writeReport(out, text)
			if err == nil && len(m.Unseen) > 0 {
				err = fmt.Errorf("%w: the records of %d store(s) were not seen", holdfast.ErrIncomplete, len(m.Unseen))
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&month, "month", "", "the `MONTH`, such as 2026-11 (default: the last one that is over)")
	flags.StringVar(&out, "out", "", "write it to `FILE`, which must not be there yet")
	f.addSigners(cmd)
	cmd.AddCommand(a.reportGDPRCommand())
	return cmd
}

// newFile refuses a file that is there already.
func newFile(path string) error {
	if _, err := os.Stat(path); path != "" && err == nil {
		return holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, path), "name another file")
	}
	return nil
}

// writeReport writes a report to a new file; "": to standard output.
func (a *app) writeReport(out string, text []byte) error {
	if out == "" {
		_, err := a.Out.Write(text)
		return err
	}
	if err := newFile(out); err != nil {
		return err
	}
	if err := durable.CreateFile(out, text, 0o600); err != nil {
		return err
	}
	a.result("report: %s", out)
	return nil
}

// monthOf is the first moment of a month, on this machine's clock.
func (a *app) monthOf(text string) (time.Time, error) {
	now := a.Now().Local()
	if text == "" {
		return time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, now.Location()), nil
	}
	from, err := time.ParseInLocation("2006-01", text, now.Location())
	if err != nil {
		return time.Time{}, holdfast.WithHint(fmt.Errorf("%w: %q is not a month", holdfast.ErrUsage, text), "write --month 2026-11")
	}
	if from.After(now) {
		return time.Time{}, holdfast.WithHint(fmt.Errorf("%w: %s has not begun", holdfast.ErrUsage, text), "name a month that has")
	}
	return from, nil
}

func (a *app) month(ctx context.Context, cfg *config.Config, f *storeFlags, from time.Time) (report.Month, error) {
	m := report.Month{From: from, Until: from.AddDate(0, 1, 0), Host: cfg.Host, Made: a.Now(), Version: a.Version, Unseen: []string{}}
	tally := &monthTally{month: &m, last: map[holdfast.JobName]time.Time{}, limits: limitsOf(cfg), cfg: cfg}
	for _, job := range cfg.Jobs {
		m.Jobs = append(m.Jobs, report.NewMonthJob(job.Name, job.Objectives.RPO, job.Objectives.RTO))
	}
	records, err := a.allRecords(ctx, cfg, f, &m)
	if err != nil {
		return m, err
	}
	for _, r := range records {
		tally.add(r)
	}
	tally.finish(a.Now())
	return m, nil
}

// allRecords reads the journal here, and the chains of other hosts from the first store that has each.
func (a *app) allRecords(ctx context.Context, cfg *config.Config, f *storeFlags, m *report.Month) ([]journal.Record, error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return nil, err
	}
	var all []journal.Record
	own := ""
	j, err := a.ownJournal(cfg)
	if err != nil {
		return nil, err
	}
	if j != nil {
		own = j.Chain()
		if err := eachOf(j, func(r journal.Record) { all = append(all, r) }); err != nil {
			return nil, err
		}
	}
	places, err := cfg.AllStores("")
	if err != nil {
		return nil, err
	}
	seen := []string{own}
	for _, place := range places {
		s, err := a.chainsIn(ctx, place)
		if err != nil {
			m.Unseen = append(m.Unseen, "store "+place.Name+": "+holdfast.Sentence(err))
			continue
		}
		for _, chain := range s.chains {
			if slices.Contains(seen, chain.Chain) {
				continue
			}
			var others []journal.Record
			if _, err := journal.VerifyStore(ctx, s.Store, chain.Chain, keys, func(r journal.Record, _ []byte) error {
				others = append(others, r)
				return nil
			}); err != nil {
				m.Unseen = append(m.Unseen, fmt.Sprintf("store %s, records of %s: %s", place.Name, chain.Chain, holdfast.Sentence(err)))
				continue
			}
			seen, all = append(seen, chain.Chain), append(all, others...)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	slices.SortStableFunc(all, func(x, y journal.Record) int { return x.Time.Compare(y.Time) })
	return all, nil
}

// monthTally counts records.
type monthTally struct {
	month  *report.Month
	cfg    *config.Config
	limits health.Limits
	last   map[holdfast.JobName]time.Time // the newest complete backup so far
}

func (t *monthTally) job(name holdfast.JobName) *report.MonthJob {
	at := slices.IndexFunc(t.month.Jobs, func(j report.MonthJob) bool { return j.Name == name })
	if at < 0 {
		t.month.Jobs = append(t.month.Jobs, report.NewMonthJob(name, 0, 0))
		at = len(t.month.Jobs) - 1
	}
	return &t.month.Jobs[at]
}

func (t *monthTally) add(r journal.Record) {
	if !r.Time.Before(t.month.Until) || r.Job == "" {
		return
	}
	if r.Event == journal.BackupCreated {
		t.good(r)
	}
	if r.Time.Before(t.month.From) {
		return
	}
	job := t.job(r.Job)
	bad := r.Result != "good"
	switch r.Event {
	case journal.BackupCreated:
		job.Good++
		job.Stored += int64(r.Figures["bytes"])
	case journal.BackupIncomplete:
		job.Incomplete++
		job.Stored += int64(r.Figures["bytes"])
	case journal.BackupFailed:
		job.Failed++
	case journal.Interrupted:
		if task := holdfast.Task(r.Detail); task == holdfast.TaskBackup || task == holdfast.TaskHourly {
			job.Failed++
			job.Interrupted++
		}
	case journal.Mirrored:
		if bad {
			job.CopyFailed++
		} else {
			job.Copies++
		}
	case journal.Verified:
		switch {
		case r.Result == resultOf(holdfast.ErrDifference):
			job.Damaged++
		case bad:
			job.CheckFailed++
		default:
			job.Checked++
		}
	case journal.Pruned:
		job.Pruned++
	case journal.PruneBlocked:
		job.Blocked++
	case journal.Drilled:
		job.Drills = append(job.Drills, report.MonthDrill{
			Time: r.Time.In(t.month.From.Location()), Host: r.Who.Host, Backup: r.Backup, Verdict: verdictOf(r.Result), Compared: int(r.Figures["compared"]),
			Differ: int(r.Figures["differences"]), RTO: report.Seconds(r.Figures["rto_seconds"] * float64(time.Second)),
		})
	case journal.Restored, journal.Decrypted, journal.EmergencyAccess, journal.Linked, journal.Shown:
		job.Restores = append(job.Restores, report.MonthRestore{Time: r.Time.In(t.month.From.Location()), Event: string(r.Event), Who: r.Who.User + "@" + r.Who.Host, Backup: r.Backup, Result: r.Result, Reason: r.Reason})
	}
}

// verdictOf is the verdict of a drill that is recorded with a result. One that came to none could not test.
func verdictOf(result string) holdfast.Verdict {
	switch result {
	case string(holdfast.Proven):
		return holdfast.Proven
	case resultOf(holdfast.ErrDifference):
		return holdfast.Failed
	}
	return holdfast.CannotTest
}

// good takes in a complete backup, and the gap before it.
func (t *monthTally) good(r journal.Record) {
	if last, some := t.last[r.Job]; some && !r.Time.Before(t.month.From) {
		t.gap(r.Job, last, r.Time)
	}
	t.last[r.Job] = r.Time
}

// gap takes down that a job had no complete backup between two moments, if that was longer than it may be.
func (t *monthTally) gap(name holdfast.JobName, from, until time.Time) {
	job, err := t.cfg.Job(name)
	if err != nil {
		return
	}
	interval := job.Keep.Policy.Interval
	if most := job.Schedule.Kind(from); most != "" {
		interval = job.Schedule.Gap(most, from)
	}
	long := until.Sub(from)
	if mj := t.job(name); interval > 0 && long > interval+t.limits.GraceFor(interval) || mj.PromisedRPO.Exceeded(long) {
		zone := t.month.From.Location()
		mj.Gaps = append(mj.Gaps, report.Gap{From: from.In(zone), Until: until.In(zone)})
	}
}

// finish looks at the time after the last backups, as far as it has passed.
func (t *monthTally) finish(now time.Time) {
	end := t.month.Until
	if now.Before(end) {
		end = now
	}
	for i := range t.month.Jobs {
		name := t.month.Jobs[i].Name
		if last, some := t.last[name]; some {
			t.gap(name, last, end)
		}
	}
}
