package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/report"
)

// How often a run tells how far it is: without a terminal, and on one.
const (
	plainEvery = 30 * time.Second
	barEvery   = 100 * time.Millisecond
)

// printer shows events: as progress bars on a terminal, as plain lines for cron, or as JSON lines. All of it but progress
// also goes to the log file.
type printer struct {
	now      func() time.Time
	json     bool
	quiet    bool
	terminal bool
	out      io.Writer // JSON lines
	err      io.Writer // everything for people that is not the result itself
	log      *os.File

	mu    sync.Mutex // guards what follows
	bar   bool       // a progress bar is on the terminal's last line
	item  string     // that progress was last told of
	began time.Time  // of that item
	told  time.Time
}

// start makes the printer once the configuration says where the log file is.
func (a *app) start(cfg *config.Config) error {
	p := &printer{now: a.Now, json: a.flags.json, quiet: a.flags.quiet, out: a.Out, err: a.Err}
	if cfg.LogFile != "" {
		log, err := os.OpenFile(cfg.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return holdfast.WithHint(fmt.Errorf("open the log file: %w", err), "make its folder, or choose another with --log-file")
		}
		p.log = log
	}
	p.terminal = !p.json && !p.quiet && term.IsTerminal(int(a.Err.Fd()))
	a.printer, a.state, a.cfg = p, cfg.State, cfg
	return nil
}

// finish ends progress and closes the log. What stopped the run is logged too.
func (a *app) finish(cause error) error {
	p := a.printer
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endBar()
	if cause != nil {
		p.logLine("error: " + cause.Error())
	}
	if p.log == nil {
		return nil
	}
	if err := p.log.Close(); err != nil {
		return fmt.Errorf("close the log file: %w", err)
	}
	return nil
}

// observe is the holdfast.Observer of every verb.
func (p *printer) observe(e holdfast.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json && e.Kind != holdfast.EventProgress {
		p.jsonLine(e)
	}
	switch e.Kind {
	case holdfast.EventProgress:
		p.progress(e)
	case holdfast.EventItem:
		p.line(fmt.Sprintf("  %-28s %9s -> %9s  %5s  %7s", e.Item, report.Size(e.Bytes), report.Size(e.Stored), ratio(e.Bytes, e.Stored),
			report.Span(time.Duration(e.Seconds*float64(time.Second)))))
	case holdfast.EventPhase:
		p.line(strings.TrimSpace(string(e.Source) + ": " + e.Message))
	case holdfast.EventOutput:
		p.logLine(e.Message)
	case holdfast.EventWarning:
		p.line(warningPrefix + prefix(e.Source) + e.Message)
	}
}

func prefix(name holdfast.SourceName) string {
	if name == "" {
		return ""
	}
	return string(name) + ": "
}

func ratio(plain, stored int64) string {
	if stored == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fx", float64(plain)/float64(stored))
}

// warn shows something a person should know that no verb said.
func (p *printer) warn(message string) {
	p.observe(holdfast.Event{Kind: holdfast.EventWarning, Message: message})
}

// say shows a line for people that is neither result nor warning.
func (p *printer) say(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(message)
}

// warningPrefix begins the lines that --quiet does not keep back.
const warningPrefix = "warning: "

// line prints for people, unless the output is for machines, and logs.
func (p *printer) line(text string) {
	p.endBar()
	text = strings.TrimPrefix(text, ": ")
	if !p.json && (!p.quiet || strings.HasPrefix(text, warningPrefix)) {
		fmt.Fprintln(p.err, text)
	}
	p.logLine(text)
}

func (p *printer) logLine(text string) {
	if p.log != nil {
		fmt.Fprintln(p.log, p.now().UTC().Format(time.RFC3339)+" "+strings.ReplaceAll(text, "\n", " "))
	}
}

func (p *printer) jsonLine(e holdfast.Event) {
	line, err := json.Marshal(struct {
		Time time.Time `json:"time"`
		holdfast.Event
	}{p.now().UTC(), e})
	if err == nil {
		fmt.Fprintln(p.out, string(line))
	}
}

// due reports whether progress should be told now, and that at most once in every.
func (p *printer) due(every time.Duration) bool {
	if now := p.now(); now.Sub(p.told) >= every {
		p.told = now
		return true
	}
	return false
}

func (p *printer) progress(e holdfast.Event) {
	if p.item != e.Item {
		p.item, p.began, p.told = e.Item, p.now(), p.now()
	}
	switch {
	case p.json:
		if p.due(plainEvery) {
			p.jsonLine(e)
		}
	case p.quiet:
	case p.terminal:
		if p.due(barEvery) {
			fmt.Fprint(p.err, "\r"+bar(e, p.now().Sub(p.began))+"\x1b[K")
			p.bar = true
		}
	default:
		if p.due(plainEvery) {
			p.line("  " + progressText(e, p.now().Sub(p.began)))
		}
	}
}

// bar draws progress on one line of at most 79 columns: what, how far, bytes, rate, time left.
func bar(e holdfast.Event, elapsed time.Duration) string {
	const width = 16
	done := 0
	if e.Total > 0 {
		done = int(min(e.Bytes, e.Total) * width / e.Total)
	}
	return fmt.Sprintf("  [%-*s] %s", width, strings.Repeat("=", done), progressText(e, elapsed))
}

// progressText tells bytes, rate and, when the size is known or guessed, the time left.
func progressText(e holdfast.Event, elapsed time.Duration) string {
	text := fmt.Sprintf("%-24s %9s", e.Item, report.Size(e.Bytes))
	if elapsed <= 0 || e.Bytes == 0 {
		return text
	}
	rate := float64(e.Bytes) / elapsed.Seconds()
	text += fmt.Sprintf("  %s/s", report.Size(int64(rate)))
	if left := e.Total - e.Bytes; left > 0 {
		text += fmt.Sprintf("  %s left", report.Span(time.Duration(float64(left)/rate*float64(time.Second))))
	}
	return text
}

// endBar clears the progress bar, so that the line is free for text.
func (p *printer) endBar() {
	if p.bar {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.bar = false
	}
}

// result prints the line that says what a command came to, unless the output is for machines, and logs it.
func (a *app) result(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !a.flags.json {
		fmt.Fprintln(a.Out, text)
	}
	a.printer.mu.Lock()
	defer a.printer.mu.Unlock()
	a.printer.logLine(text)
}

// printEvent prints the result of a command as one JSON line, in the form of the events before it.
func (a *app) printEvent(kind string, fields map[string]any) {
	fields["event"], fields["time"] = kind, a.Now().UTC()
	a.printJSON(fields)
}

// printJSON prints one value as one line.
func (a *app) printJSON(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		fmt.Fprintln(a.Err, "holdfast: encode output:", err)
		return
	}
	fmt.Fprintln(a.Out, string(line))
}
