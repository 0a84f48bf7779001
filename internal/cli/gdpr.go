package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/report"
)

type gdprFlags struct {
	storeFlags
	since, until, format, out string
}

// The forms of the report.
const (
	formMarkdown = "markdown"
	formHTML     = "html"
	formJSON     = "json"
)

func (a *app) reportGDPRCommand() *cobra.Command {
	var f gdprFlags
	cmd := &cobra.Command{
		Use: "gdpr", Short: "Report on what protects personal data here, and on what is missing", Args: cobra.NoArgs,
		Long: "Report on what is sealed with what and for whom, which keys were replaced, what was proven by restoring it, how long backups are kept, who\n" +
			"opened what, incidents, custodians, and what a stolen disk and a compromised host would give away: first what is missing. Each line names\n" +
			"the setting, object or record that says so, and the article of the GDPR that it serves. It holds no secret, no score, and no legal advice.\n\n" +
			"Settings, stores and headers of volumes are those of now; the records are those of the span, and older ones where the last is asked for.\n" +
			"Headers of volumes are read by root alone: without, the report says that they were not seen.\n\n" +
			"The exit code is 3 when something could not be read, and 4 when the audit trail is not what was written. The report is written in both cases,\n" +
			"and says so.",
		Example: "  holdfast report gdpr --out gdpr.html\n  holdfast report gdpr --since 2026-01-01 --until 2026-12-31 --out 2026.md\n  holdfast report gdpr --json | jq -r '.missing[].missing'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, err := f.form(a.flags.json)
			if err != nil {
				return err
			}
			if err := newFile(f.out); err != nil {
				return err
			}
			from, until, err := f.span(a.Now())
			if err != nil {
				return err
			}
			return a.reportGDPR(cmd.Context(), &f, form, from, until)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "from this `DAY` on, in UTC (default: a year before the end)")
	flags.StringVar(&f.until, "until", "", "to this `DAY`, included (default: today)")
	flags.StringVar(&f.format, "format", "", "`FORM` of the report: markdown, html or json (default: by the ending of --out, else markdown)")
	flags.StringVar(&f.out, "out", "", "write it to `FILE`, which must not be there yet")
	f.addSigners(cmd)
	return cmd
}

// form is how the report is written.
func (f *gdprFlags) form(asJSON bool) (string, error) {
	switch {
	case f.format != "" && !slices.Contains([]string{formMarkdown, formHTML, formJSON}, f.format):
		return "", holdfast.WithHint(fmt.Errorf("%w: %q is no form of a report", holdfast.ErrUsage, f.format), "use markdown, html or json")
	case asJSON && f.format != "" && f.format != formJSON:
		return "", holdfast.WithHint(fmt.Errorf("%w: --json and --format %s contradict each other", holdfast.ErrUsage, f.format), "give one of them")
	case f.format != "":
		return f.format, nil
	case asJSON:
		return formJSON, nil
	}
	switch strings.ToLower(filepath.Ext(f.out)) {
	case ".html", ".htm":
		return formHTML, nil
	case ".json":
		return formJSON, nil
	}
	return formMarkdown, nil
}

// span is what is told of: whole days, in UTC like all days of records.
func (f *gdprFlags) span(now time.Time) (from, until time.Time, err error) {
	days, err := (&auditFlags{since: f.since, until: f.until}).filter()
	if err != nil {
		return from, until, err
	}
	now = now.UTC()
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	from, until = days.Since, days.Until
	if from.After(now) {
		return from, until, holdfast.WithHint(fmt.Errorf("%w: %s has not begun", holdfast.ErrUsage, f.since), "name a day that has")
	}
	if until.IsZero() {
		until = today.AddDate(0, 0, 1)
	}
	if from.IsZero() {
		from = until.AddDate(-1, 0, 0)
	}
	return from, until, nil
}

func (a *app) reportGDPR(ctx context.Context, f *gdprFlags, form string, from, until time.Time) error {
	cfg, err := a.load(f.Flags, false)
	if err != nil {
		return err
	}
	g, broken, err := a.gdpr(ctx, cfg, &f.storeFlags, from, until)
	if err != nil {
		return err
	}
	text, err := gdprText(g, form)
	if err != nil {
		return err
	}
	if err := a.writeReport(f.out, text); err != nil {
		return err
	}
	switch n := len(g.NotSeen()); {
	case n == 1:
		broken = errors.Join(broken, fmt.Errorf("%w: one thing could not be read, and the report says which", holdfast.ErrIncomplete))
	case n > 1:
		broken = errors.Join(broken, fmt.Errorf("%w: %d things could not be read, and the report says which", holdfast.ErrIncomplete, n))
	}
	return broken
}

func gdprText(g report.GDPR, form string) ([]byte, error) {
	switch form {
	case formHTML:
		return report.GDPRHTML(g)
	case formJSON:
		text, err := json.Marshal(gdprJSON(g))
		return append(text, '\n'), err
	}
	return report.GDPRMarkdown(g), nil
}

// gdprJSON is the report for machines: the lines that people read, and those of them in which something is missing.
func gdprJSON(g report.GDPR) map[string]any {
	line := func(l report.GDPRLine) map[string]any {
		fields := map[string]any{"what": l.What, "value": l.Value, "record": l.Record, "article": l.Article}
		if l.Missing != "" {
			fields["missing"], fields["fix"] = l.Missing, l.Fix
		}
		if l.Unseen != "" {
			fields["unseen"] = l.Unseen
		}
		return fields
	}
	lines := func(all []report.GDPRLine) []map[string]any {
		told := []map[string]any{}
		for _, l := range all {
			told = append(told, line(l))
		}
		return told
	}
	unseen := []string{}
	for _, u := range g.NotSeen() {
		unseen = append(unseen, u.What+": "+u.Why)
	}
	sections := []map[string]any{}
	for _, s := range g.Sections() {
		sections = append(sections, map[string]any{"title": s.Title, "note": s.Note, "lines": lines(s.Lines)})
	}
	return map[string]any{
		"host": g.Host, "version": g.Version, "config": g.Config, "made": g.Made.UTC(), "from": g.From, "until": g.Until, "unseen": unseen,
		"missing": lines(g.Missing()), "sections": sections,
	}
}
