package notify

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// clean is the message as every channel sends it: no name can leave its line, times are in UTC, and none is missing.
func (m Message) clean() Message {
	for _, field := range []*string{&m.Alarm, &m.Host, &m.Job, &m.Store, &m.Volume, &m.Title, &m.Runbook, &m.Key} {
		*field = oneLine(*field)
	}
	m.Text, m.Hint = plain(m.Text), plain(m.Hint)
	if m.Time.IsZero() {
		m.Time = time.Now()
	}
	m.Time = m.Time.UTC().Truncate(time.Second)
	if !m.Since.IsZero() {
		m.Since = m.Since.UTC().Truncate(time.Second)
	}
	return m
}

// heading is the line that a person reads first.
func (m Message) heading() string {
	word := string(m.Kind)
	if m.Kind == Alarm && m.Severity != "" {
		word = string(m.Severity)
	}
	return strings.ToUpper(word) + ": " + m.Title
}

// about names what the message is about.
func (m Message) about() string {
	var parts []string
	for _, part := range []struct{ what, name string }{{"host", m.Host}, {"job", m.Job}, {"store", m.Store}, {"volume", m.Volume}} {
		if part.name != "" {
			parts = append(parts, part.what+" "+part.name)
		}
	}
	return strings.Join(parts, ", ")
}

// alone is the one line that stands for the whole message.
func (m Message) alone() string {
	if about := m.about(); about != "" {
		return m.heading() + " (" + about + ")"
	}
	return m.heading()
}

// facts are the lines below the text.
func (m Message) facts() string {
	var lines []string
	add := func(what, value string) {
		if value != "" {
			lines = append(lines, what+": "+value)
		}
	}
	add("What to do", m.Hint)
	add("Read on", m.Runbook)
	if !m.Since.IsZero() {
		add("Since", m.Since.Format("2006-01-02 15:04 UTC"))
	}
	add("About", m.about())
	return strings.Join(lines, "\n")
}

// fit is the message below head within a limit that size counts in. When it is too long the text gives way first: what to do
// stands below it.
func (m Message) fit(head string, limit int, size func(rune) int) string {
	around := 0
	for _, r := range head + "\n\n" + m.facts() {
		around += size(r)
	}
	var parts []string
	for _, part := range []string{head, cut(m.Text, limit-around, size), m.facts()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return cut(strings.Join(parts, "\n"), limit, size)
}

// cut shortens text to a limit that size counts in, at the boundary of a rune.
func cut(text string, limit int, size func(rune) int) string {
	const mark = '…'
	total, keep := 0, 0
	for i, r := range text {
		if total+size(mark) <= limit {
			keep = i
		}
		if total += size(r); total > limit {
			if size(mark) > limit {
				return ""
			}
			return text[:keep] + string(mark)
		}
	}
	return text
}

// What services count in. Those that speak of characters mean UTF-16 units, or code points, of which there are no more.
func inBytes(r rune) int { return utf8.RuneLen(r) }
func inUnits(r rune) int { return utf16.RuneLen(r) }

// oneLine makes a text one line of printable characters.
func oneLine(text string) string { return strings.Join(strings.Fields(printable(text)), " ") }

// plain makes lines of printable characters.
func plain(text string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		lines = append(lines, strings.TrimRight(printable(line), " "))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// printable replaces by spaces what breaks a line, moves a cursor, or turns the direction of what follows.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\ufffd"))
}
