package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/report"
)

// plainEvery is how often a run without a terminal tells how far it is.
const plainEvery = 30 * time.Second

// printer shows events: as progress bars on a terminal, as plain lines for cron, or as JSON lines. All of it but progress
// also goes to the log file.
type printer struct {
	now   func() time.Time
	json  bool
	quiet bool
	out   io.Writer // JSON lines
	err   io.Writer // everything for people that is not the result itself
	log   *os.File

	mu   sync.Mutex // guards what follows
	bars *mpb.Progress
	bar  *mpb.Bar
	item string
	told time.Time
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
	if !p.json && !p.quiet && term.IsTerminal(int(a.Err.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(a.Err), mpb.WithWidth(32))
		p.err = p.bars
	}
	a.printer = p
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
	p.endBar(false)
	if p.bars != nil {
		p.bars.Wait()
	}
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
	if p.json {
		if e.Kind != holdfast.EventProgress || p.due() {
			p.jsonLine(e)
		}
	}
	switch e.Kind {
	case holdfast.EventProgress:
		p.progress(e)
	case holdfast.EventItem:
		p.endBar(true)
		p.line(fmt.Sprintf("  %-28s %9s -> %9s  %5s  %7s", e.Item, report.Size(e.Bytes), report.Size(e.Stored), ratio(e.Bytes, e.Stored),
			report.Span(time.Duration(e.Seconds*float64(time.Second)))))
	case holdfast.EventPhase:
		p.endBar(true)
		p.line(strings.TrimSpace(string(e.Source) + ": " + e.Message))
	case holdfast.EventWarning:
		p.line("warning: " + prefix(e.Source) + e.Message)
	case holdfast.EventDone:
		p.endBar(true)
		p.line(prefix(e.Source) + e.Message)
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

// line prints for people, unless the output is for machines, and logs.
func (p *printer) line(text string) {
	text = strings.TrimPrefix(text, ": ")
	if !p.json {
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

func (p *printer) due() bool {
	if now := p.now(); now.Sub(p.told) >= plainEvery {
		p.told = now
		return true
	}
	return false
}

func (p *printer) progress(e holdfast.Event) {
	if p.json || p.quiet {
		return
	}
	if p.bars == nil {
		if p.due() {
			p.line(fmt.Sprintf("  %-28s %9s so far", e.Item, report.Size(e.Bytes)))
		}
		return
	}
	if p.bar == nil || p.item != e.Item {
		p.endBar(true)
		p.item = e.Item
		p.bar = p.bars.AddBar(e.Total,
			mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("  "+e.Item+" ")),
			mpb.AppendDecorators(
				decor.Current(decor.SizeB1000(0), "% .1f "),
				decor.AverageSpeed(decor.SizeB1000(0), "% .1f "),
				decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), ""),
			))
	}
	if e.Bytes > e.Total && e.Total > 0 {
		// The expected size was an estimate; a bar that is full and still runs would lie.
		p.bar.SetTotal(e.Bytes+e.Bytes/10, false)
	}
	p.bar.SetCurrent(e.Bytes)
}

func (p *printer) endBar(complete bool) {
	if p.bar == nil {
		return
	}
	if complete {
		p.bar.SetTotal(-1, true)
	} else {
		p.bar.Abort(true)
	}
	p.bar = nil
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
