package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast"
)

const timeLayout = "2006-01-02 15:04:05 UTC"

// Markdown renders the report as text that reads well as it stands.
func Markdown(d *Drill) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Drill of %s: %s\n\n%s\n\n", cell(title(d)), headline(d), claim(d))
	for _, line := range Summary(d) {
		fmt.Fprintf(&b, "- **%s:** %s\n", line.Name, cell(line.Value))
	}
	b.WriteString("\n## Checklist\n\n| check | result | detail |\n|---|---|---|\n")
	for _, check := range d.Checks {
		fmt.Fprintf(&b, "| %s | %s %s | %s |\n", check.Name, tick(check.Result), check.Result, cell(check.Detail))
	}
	b.WriteString("\n## Issues\n\n")
	if len(d.Issues) == 0 {
		b.WriteString("None.\n")
	}
	for _, issue := range d.Issues {
		fmt.Fprintf(&b, "- %s\n", cell(issue))
	}
	b.WriteString("\n## Time to recover\n\n| phase | time |\n|---|---:|\n")
	for _, phase := range d.Phases {
		fmt.Fprintf(&b, "| %s | %s |\n", cell(phase.Name), Span(phase.Elapsed))
	}
	fmt.Fprintf(&b, "| **RTO, all of it** | **%s** |\n", Span(d.RTO()))
	for _, src := range d.Sources {
		markdownSource(&b, src)
	}
	return []byte(b.String())
}

func markdownSource(b *strings.Builder, src Source) {
	fmt.Fprintf(b, "\n## Source %s (%s): %s\n\n", cell(string(src.Name)), cell(string(src.Kind)), src.result())
	if src.Error != "" {
		fmt.Fprintf(b, "%s\n\n", cell(src.Error))
	}
	fmt.Fprintf(b, "%s\n", src.sum())
	if len(src.Rows) > 0 {
		before, after := src.columns()
		fmt.Fprintf(b, "\n| | name | %s | %s | difference |\n|---|---|---:|---:|---|\n", before, after)
		for _, row := range src.Rows {
			difference := row.Difference()
			if !row.Same {
				difference = "**" + difference + "**"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %d | %s |\n", cell(row.Class), cell(row.Name), row.before(), row.Restored, difference)
		}
	}
	if src.Unshown > 0 {
		fmt.Fprintf(b, "\n%s\n", src.unshown())
	}
	for _, list := range src.lists() {
		fmt.Fprintf(b, "\n%s:\n\n", list.Name)
		for _, line := range list.Lines {
			fmt.Fprintf(b, "- %s\n", cell(line))
		}
	}
	if src.Live != nil {
		markdownLive(b, src.Live)
	}
}

// Line is one named value of the summary.
type Line struct{ Name, Value string }

// Summary is the head of the report: who, where, when, which backup, RTO, RPO and when the next one is due.
func Summary(d *Drill) []Line {
	if d.File != nil {
		return fileSummary(d)
	}
	signer := d.Backup.Signer + " (checked)"
	if !d.Backup.SignerTrusted {
		signer = "signer not checked: " + d.Backup.Signer
	}
	lines := []Line{
		{"tested by", d.Who + " on " + d.Host + ", holdfast " + d.Version},
		{"started", d.Started.Format(timeLayout)},
		{"finished", d.Finished.Format(timeLayout)},
		{"backup", fmt.Sprintf("%s of job %s, host %s, %s", d.Backup.ID, d.Backup.Job, d.Backup.Host, d.Backup.Time.Format(timeLayout))},
		{"size", fmt.Sprintf("%s, stored as %s", Size(d.Backup.Plain), Size(d.Backup.Stored))},
		{"manifest SHA-256", d.Backup.Digest},
		{"signed by", signer},
		{"recovery time (RTO)", Span(d.RTO()) + Against(d.RTO(), d.PromisedRTO)},
		{"data loss had it been needed (RPO)", Span(d.RPO()) + Against(d.RPO(), d.PromisedRPO)},
		{"next test due", d.Next.Format(time.DateOnly)},
	}
	if d.Backup.Reason != "" {
		lines = append(lines, Line{"reason of the backup", d.Backup.Reason})
	}
	return lines
}

// Against compares what was measured with what was promised; "" when nothing was.
func Against(measured, promised time.Duration) string {
	switch {
	case promised == 0:
		return ""
	case measured <= promised:
		return ", of " + rounded(promised) + " promised"
	}
	return ", MORE than the " + rounded(promised) + " promised"
}

// rounded writes what was promised as a person would: 4h, 1h30m.
func rounded(promised time.Duration) string {
	return strings.Replace(strings.Replace(promised.String(), "m0s", "m", 1), "h0m", "h", 1)
}

// Meaning says in a sentence what a verdict claims.
func Meaning(v holdfast.Verdict) string {
	switch v {
	case holdfast.Proven:
		return "Every item was restored, and everything that was recorded when the backup was made came back."
	case holdfast.Failed:
		return "What came back is not what was recorded. The issues name it."
	}
	return "The drill could not be made. This says nothing about the backup; the issues say what is missing."
}

// Difference tells how the two sides of a row differ.
func (r Row) Difference() string {
	switch {
	case r.Untold:
		return "-"
	case r.Same:
		return "none"
	case r.Stored != r.Restored:
		return fmt.Sprintf("%+d", r.Restored-r.Stored)
	}
	return "other content"
}

// unshown tells that a table is not all of it.
func (s Source) unshown() string {
	return fmt.Sprintf("And %d more that were compared and are the same.", s.Unshown)
}

type list struct {
	Name  string
	Lines []string
}

// lists are the parts of a source that are only there when they have something to say.
func (s Source) lists() []list {
	var assertions []string
	for _, assertion := range s.Assertions {
		assertions = append(assertions, strings.TrimSpace(fmt.Sprintf("%s: %s (%s) %s", assertion.Name, assertion.Result, assertion.Query, assertion.Detail)))
	}
	var properties []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		properties = append(properties, name+": "+s.Properties[name])
	}
	var filled []list
	for _, l := range []list{
		{"Differences", s.Differences}, {"Texts that differ (PostgreSQL rewrites some definitions; this fails nothing)", s.Texts},
		{"Assertions", assertions}, {"Listed, not proven", s.Listed}, {"Excluded by configuration", s.Exclusions},
		{"Notes", s.Notes}, {"As it was", properties},
	} {
		if len(l.Lines) > 0 {
			filled = append(filled, l)
		}
	}
	return filled
}

func tick(r Result) string {
	switch r {
	case Passed:
		return "✔"
	case Failed:
		return "✘"
	}
	return "–"
}

// cell keeps text on one line, inside its table cell, and text: names come from the data, and may hold anything. A link or
// an image would let them reach out of the report.
func cell(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", "|", "&#124;", "`", "'", `\`, `\\`, "*", `\*`, "[", `\[`).Replace(visible(text))
}

// visible shows what could hide or turn round the text that follows it: line ends, control characters, marks of direction.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '␤'
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, text)
}
