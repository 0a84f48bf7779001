package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"
)

//go:embed report.html
var page string

// HTML renders the report as one self-contained page.
func HTML(d *Drill) ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"headline": headline,
		"title":    func(d *Drill) string { return visible(title(d)) },
		"before":   Row.before,
		"sum":      Source.sum,
		"left":     func(s Source) string { before, _ := s.columns(); return before },
		"right":    func(s Source) string { _, after := s.columns(); return after },
		"span":     func(t time.Duration) string { return Span(t) },
		"tick":     tick,
		"class":    func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), " ", "-") },
		"claim":    claim,
		"summary":  Summary,
		"visible":  visible,
		"unshown":  Source.unshown,
		"result":   Source.result,
		"lists":    Source.lists,
		"heading":  (*Live).heading, "liveNote": func() string { return liveNote },
	}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse the report's page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, d); err != nil {
		return nil, fmt.Errorf("render the report: %w", err)
	}
	return out.Bytes(), nil
}
