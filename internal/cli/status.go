package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/report"
)

func (a *app) statusCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "status [JOB]", Short: "Say in one sentence how things stand, and then per job", Args: cobra.MaximumNArgs(1),
		Long: "Look at every store of every job, at the journal and at the schedule, and say what is wrong, the worst first: then for each job, and for\n" +
			"each of its sources where it has several, when it was last backed up, when that was copied to another store, when it was last proven by a\n" +
			"drill and how long that took; and when the next backup is due. It only reads, needs no identity, and believes no drill whose signature does not hold.\n\n" +
			"The exit code is 0 when nothing is wrong, 3 when something needs attention within days, and 1 when it does today.",
		Example: "  holdfast status\n  holdfast status --json | jq -r '.findings[].text'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Job = args[0]
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if f.Job != "" {
				job, err := cfg.Job(holdfast.JobName(f.Job))
				if err != nil {
					return err
				}
				only := *cfg
				only.Jobs = []config.Job{job}
				cfg = &only
			}
			if len(cfg.Jobs) == 0 {
				return holdfast.WithHint(fmt.Errorf("%w: no job is configured", holdfast.ErrUsage), "write a configuration with `holdfast init`; what a store holds is told by `holdfast list --store …` and `holdfast watch --store …`")
			}
			return a.status(cmd.Context(), cfg, &f)
		},
	}
	f.addSigners(cmd)
	return cmd
}

func (a *app) status(ctx context.Context, cfg *config.Config, f *storeFlags) error {
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	state, err := a.stateOf(ctx, cfg, keys, &lookout{}, a.loadService(cfg))
	if err != nil {
		return err
	}
	findings := health.Judge(state, limitsOf(cfg))
	if err := a.showState(state, findings); err != nil {
		return err
	}
	return stateError(findings)
}

// errAttention and errToday carry the exit code of a state. They are told by what was printed already.
var (
	errAttention = fmt.Errorf("%w: something needs attention", holdfast.ErrIncomplete)
	errToday     = errors.New("something is wrong today")
)

func stateError(findings []health.Finding) error {
	switch {
	case len(findings) == 0:
		return nil
	case findings[0].Alarm.Severity() == health.Critical:
		return shown{errToday}
	}
	return shown{errAttention}
}

// shown is an error that the output of a command has told in full.
type shown struct{ error }

func (s shown) Unwrap() error { return s.error }

func (a *app) showState(state health.State, findings []health.Finding) error {
	if a.flags.json {
		a.printJSON(stateJSON(state, findings))
		return nil
	}
	fmt.Fprintln(a.Out, health.Sentence(state, findings))
	if len(findings) > 0 {
		fmt.Fprintln(a.Out)
	}
	widest := 0
	for _, alarm := range health.Alarms() {
		widest = max(widest, len(alarm))
	}
	for _, f := range findings {
		line := fmt.Sprintf("  %-8s  %-*s  ", f.Alarm.Severity(), widest, f.Alarm)
		if about := f.About(); about != "" {
			line += about + ": "
		}
		line += quoted(f.Text)
		if !f.Since.IsZero() {
			line += " (since " + f.Since.UTC().Format("2006-01-02 15:04") + ")"
		}
		fmt.Fprintln(a.Out, line)
		if f.Hint != "" {
			fmt.Fprintln(a.Out, strings.Repeat(" ", len("  critical    ")+widest)+f.Hint)
		}
	}
	fmt.Fprintln(a.Out)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tLAST GOOD\tOFF-SITE\tPROVEN\tRTO\tSIZE\tNEXT BACKUP (UTC)\tNEXT DRILL\tNOW")
	for _, job := range state.Jobs {
		fmt.Fprintln(w, strings.Join(jobRow(job, state.At), "\t"))
		if sources := job.Sources(state.At); len(sources) > 1 {
			for _, src := range sources {
				fmt.Fprintln(w, strings.Join(sourceRow(src, job, state.At), "\t"))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(a.Out, strings.TrimRight(line, " \n"))
	}
	a.showKeyCheck(state.Jobs)
	a.showService(state)
	return nil
}

func agoAt(now time.Time) func(time.Time) string {
	return func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return health.Span(now.Sub(t)) + " ago"
	}
}

// offSiteOf says when what a mirror has was made.
func offSiteOf(job health.Job, newest, now time.Time) string {
	switch {
	case len(job.Places) < 2:
		return "no mirror"
	case newest.IsZero() && job.Down():
		return "unknown"
	}
	return agoAt(now)(newest)
}

// sourceRow is the row of one source, below that of its job.
func sourceRow(src health.Source, job health.Job, now time.Time) []string {
	ago, rto, size := agoAt(now), "-", "-"
	if src.RTO > 0 {
		rto = health.Span(src.RTO)
	}
	if !src.Good.IsZero() {
		size = report.Size(src.Stored)
	}
	return []string{"  " + string(src.Name), ago(src.Good), offSiteOf(job, src.OffSite, now), ago(src.Proven), rto, size, "", "", ""}
}

func jobRow(job health.Job, now time.Time) []string {
	ago, good, size := agoAt(now), "never", "-"
	if newest, some := job.Newest(); some {
		size = report.Size(newest.Stored)
	}
	if last := job.LastGood(now); !last.IsZero() {
		good = ago(last)
		if job.RPO > 0 {
			good += ", of " + health.Span(job.RPO)
		}
	}
	proven, rto := "never", "-"
	if proof, is := job.Proven(); is {
		proven = ago(proof.Time)
		if proof.RTO > 0 {
			rto = health.Span(proof.RTO)
			if job.RTO > 0 {
				rto += " of " + health.Span(job.RTO)
			}
		}
	}
	next := "by hand"
	switch {
	case job.Paused:
		next = "paused"
	case !job.Next().IsZero():
		next = job.Next().UTC().Format("2006-01-02 15:04")
	}
	drill := "-"
	if due := job.NextDrill(); !due.IsZero() {
		drill = due.UTC().Format("2006-01-02")
	}
	doing := "-"
	for _, t := range job.Tasks {
		if !t.Since.IsZero() {
			doing = string(t.Task) + " since " + health.Span(now.Sub(t.Since))
		}
	}
	return []string{string(job.Name), good, offSiteOf(job, job.OffSite(), now), proven, rto, size, next, drill, doing}
}

// showKeyCheck says when it is due next to find out whether keys open backups.
func (a *app) showKeyCheck(jobs []health.Job) {
	var job holdfast.JobName
	var next time.Time
	for _, j := range jobs {
		if t, is := j.Task(holdfast.TaskKeyCheck); is && !t.Next.IsZero() && (next.IsZero() || t.Next.Before(next)) {
			job, next = j.Name, t.Next
		}
	}
	if !next.IsZero() {
		fmt.Fprintf(a.Out, "\nnext key check: %s, of job %s\n", next.UTC().Format(time.DateOnly), job)
	}
}

func (a *app) showService(state health.State) {
	if !state.Service.Running {
		return
	}
	since := ""
	if !state.Service.Started.IsZero() {
		since = " for " + health.Span(state.At.Sub(state.Service.Started))
	}
	fmt.Fprintf(a.Out, "\nservice: running%s, %d busy, %d waiting\n", since, state.Service.Busy, state.Service.Waiting)
}

// stateJSON is the state for machines: docs/status.md describes it.
func stateJSON(state health.State, findings []health.Finding) map[string]any {
	at := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.UTC()
	}
	told := []map[string]any{}
	for _, f := range findings {
		told = append(told, map[string]any{"alarm": f.Alarm, "severity": f.Alarm.Severity().String(), "job": f.Job, "store": f.Store, "volume": f.Volume, "what": f.What, "since": at(f.Since), "text": f.Text, "hint": f.Hint})
	}
	jobs := []map[string]any{}
	for _, job := range state.Jobs {
		jobs = append(jobs, jobJSON(job, state.At, at))
	}
	worst := "good"
	if len(findings) > 0 {
		worst = findings[0].Alarm.Severity().String()
	}
	return map[string]any{
		"time": state.At.UTC(), "host": state.Host, "state": worst, "sentence": health.Sentence(state, findings), "findings": told, "jobs": jobs,
		"service": map[string]any{"running": state.Service.Running, "busy": state.Service.Busy, "waiting": state.Service.Waiting},
	}
}

func jobJSON(job health.Job, now time.Time, at func(time.Time) any) map[string]any {
	fields := map[string]any{
		"job": job.Name, "scheduled": job.Scheduled, "paused": job.Paused, "interval_seconds": job.Interval.Seconds(), "next": at(job.Next()), "off_site": at(job.OffSite()),
		"rpo_seconds": job.RPO.Seconds(), "rto_seconds": job.RTO.Seconds(),
	}
	if last := job.LastGood(now); !last.IsZero() {
		good := map[string]any{"time": at(last)}
		if newest, some := job.Newest(); some && newest.Time.Equal(last) {
			good["id"], good["kind"], good["stored"], good["plain"], good["seconds"] = newest.ID, newest.Kind, newest.Stored, newest.Plain(), newest.Took.Seconds()
		}
		fields["last_good"] = good
	}
	if proof, is := job.Proven(); is {
		fields["proven"] = map[string]any{"time": at(proof.Time), "backup": proof.Backup, "store": proof.Store, "compared": proof.Compared, "rto_seconds": proof.RTO.Seconds()}
	}
	if proof, is := job.Drilled(); is {
		fields["drilled"] = map[string]any{"time": at(proof.Time), "backup": proof.Backup, "verdict": proof.Verdict, "believed": proof.Trusted}
	}
	tasks, places, sources := []map[string]any{}, []map[string]any{}, []map[string]any{}
	for _, src := range job.Sources(now) {
		sources = append(sources, map[string]any{"source": src.Name, "last_good": at(src.Good), "stored": src.Stored, "off_site": at(src.OffSite), "proven": at(src.Proven), "rto_seconds": src.RTO.Seconds()})
	}
	for _, t := range job.Tasks {
		tasks = append(tasks, map[string]any{"task": t.Task, "attempt": at(t.Attempt), "success": at(t.Success), "result": t.Result, "seconds": t.Took.Seconds(), "next": at(t.Next), "interval_seconds": t.Interval.Seconds(), "running_since": at(t.Since)})
	}
	for _, p := range job.Places {
		places = append(places, map[string]any{"store": p.Store, "down": p.Down, "copies": p.Copies, "newest": at(p.Newest), "damaged": p.Damaged, "verified": at(p.Verified), "pruned": at(p.Pruned), "blocked": p.Blocked})
	}
	fields["tasks"], fields["stores"], fields["sources"] = tasks, places, sources
	return fields
}
