package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"time"
)

//go:embed gdpr.html
var gdprPage string

// gdprClaim is what the report is and is not.
const gdprClaim = "What is configured, stored and recorded, and what is missing. Each line names what says so, and the article of the GDPR that it serves. " +
	"It is no legal advice, and does not say that anything is enough."

// gdprUnseen is what is said of all that could not be seen.
const gdprUnseen = "Nothing is said of what could have been seen there: it counts neither as there nor as missing."

// nothing is said where nothing is missing.
func (g GDPR) nothing() string {
	if g.anyUnseen() {
		return "Nothing that is looked for here, of what could be seen."
	}
	return "Nothing that is looked for here."
}

func (g GDPR) anyUnseen() bool { return len(g.NotSeen()) > 0 || len(g.Open()) > 0 }

// span names the days that are told of.
func (g GDPR) span() string {
	return fmt.Sprintf("From %s to %s, by the records of %s", g.From.Format(time.DateOnly), g.Until.Add(-time.Second).Format(time.DateOnly), visible(g.Host))
}

// served writes an article with what is said of it.
func (a Article) served() string { return "serves article " + string(a) }

// GDPRMarkdown renders the report as text that reads well as it stands.
func GDPRMarkdown(g GDPR) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Personal data: what protects it\n\n%s. %s\n\n## What is missing\n\n", cell(g.span()), gdprClaim)
	missing := g.Missing()
	for _, line := range missing {
		fmt.Fprintf(&b, "- **%s** (%s). To do: %s\n", cell(line.Missing), line.Article.served(), line.Fix)
	}
	if len(missing) == 0 {
		fmt.Fprintf(&b, "%s\n", g.nothing())
	}
	if g.anyUnseen() {
		fmt.Fprintf(&b, "\n## What could not be seen\n\n%s\n\n", gdprUnseen)
		for _, u := range g.NotSeen() {
			fmt.Fprintf(&b, "- **%s:** %s. To do: %s\n", cell(u.What), cell(u.Why), u.Fix)
		}
		if open := g.Open(); len(open) > 0 {
			fmt.Fprintf(&b, "- left open by that: %s\n", cell(strings.Join(open, "; ")))
		}
	}
	for _, section := range g.Sections() {
		fmt.Fprintf(&b, "\n## %s\n", section.Title)
		if section.Note != "" {
			fmt.Fprintf(&b, "\n%s\n", section.Note)
		}
		if len(section.Lines) == 0 {
			continue
		}
		b.WriteString("\n| what | how it is | what says so | serves article |\n|---|---|---|---|\n")
		for _, line := range section.Lines {
			value := cell(line.Value)
			if line.Missing != "" {
				value += ". **Missing: " + cell(line.Missing) + "**"
			}
			if line.Unseen != "" {
				value += ". **Not seen: " + cell(line.Unseen) + "**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(line.What), value, cell(line.Record), line.Article)
		}
	}
	fmt.Fprintf(&b, "\nMade on %s by holdfast %s.\n", g.Made.UTC().Format(timeLayout), cell(g.Version))
	return []byte(b.String())
}

// hintf writes what to do. A name in it is one that the configuration takes, whatever it was: it stands in a command that somebody copies.
func hintf(format string, names ...any) string {
	for i, name := range names {
		names[i] = strings.Map(func(r rune) rune {
			if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '?'
		}, fmt.Sprint(name))
	}
	return fmt.Sprintf(format, names...)
}

var dayRule = regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}( \d{2}:\d{2}(:\d{2})? UTC)?`)

// written is text as the page has it: a day in it stays on one line.
func written(text string) template.HTML {
	return template.HTML(dayRule.ReplaceAllString(template.HTMLEscapeString(visible(text)), "<time>$0</time>"))
}

// marked is written with what stands between backticks as code. It is for what the report says itself.
func marked(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(visible(part)) + "</code>")
			continue
		}
		b.WriteString(string(written(part)))
	}
	return template.HTML(b.String())
}

// GDPRHTML renders the report as one self-contained page. It loads nothing from anywhere.
func GDPRHTML(g GDPR) ([]byte, error) {
	t, err := template.New("gdpr").Funcs(template.FuncMap{
		"span": GDPR.span, "text": written, "visible": visible, "claim": func() string { return gdprClaim }, "served": Article.served, "marked": marked,
		"made":    func(t time.Time) string { return t.UTC().Format(timeLayout) },
		"nothing": GDPR.nothing, "unseen": GDPR.anyUnseen, "unseenClaim": func() string { return gdprUnseen }, "join": func(texts []string) string { return strings.Join(texts, "; ") },
	}).Parse(gdprPage)
	if err != nil {
		return nil, fmt.Errorf("parse the report's page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, g); err != nil {
		return nil, fmt.Errorf("render the report: %w", err)
	}
	return out.Bytes(), nil
}
