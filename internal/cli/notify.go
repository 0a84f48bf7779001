package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/alarm"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/durable"
	"holdfast/internal/health"
	"holdfast/internal/notify"
	"holdfast/internal/schedule"
)

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notify", Short: "Tell people: try the channels, or look once and raise alarms"}
	cmd.AddCommand(a.notifyTestCommand(), a.notifyAlarmsCommand())
	return cmd
}

func (a *app) notifyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test [CHANNEL]", Short: "Send a test message through every channel, or one", Args: cobra.MaximumNArgs(1),
		Long: "Send a test message through every channel of the configuration, or the one that is named, and say of each whether the service took it.\n" +
			"A page that hears of runs hears of one that started and ended well. The exit code is 1 when a channel did not take it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(config.Flags{}, false)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				channel, err := cfg.Channel(args[0])
				if err != nil {
					return err
				}
				only := *cfg
				only.Channels = []config.Channel{channel}
				cfg = &only
			}
			if len(cfg.Channels) == 0 {
				return holdfast.WithHint(fmt.Errorf("%w: no channel is configured", holdfast.ErrUsage), "put one into channels: docs/alarms.md")
			}
			return a.notifyTest(cmd.Context(), cfg)
		},
	}
}

func testMessage(cfg *config.Config, now time.Time) notify.Message {
	return notify.Message{Kind: notify.Test, Severity: notify.Info, Host: cfg.Host, Time: now, Title: cfg.Host + ": this is a test", Text: "If you can read this, alarms of holdfast on " + cfg.Host + " reach you."}
}

func (a *app) notifyTest(ctx context.Context, cfg *config.Config) error {
	m := testMessage(cfg, a.Now())
	var problems []error
	for _, t := range tellers(ctx, cfg) {
		err := t.err
		if err == nil {
			one, cancel := context.WithTimeout(ctx, channelTime)
			err = t.tells.Send(one, m)
			cancel()
		}
		if a.flags.json {
			a.printEvent("notify", map[string]any{"channel": t.Name, "kind": t.Kind, "good": err == nil})
		}
		if err != nil {
			text := fmt.Sprintf("channel %s: %s", t.Name, holdfast.Sentence(err))
			if hint := holdfast.Hint(err); hint != "" {
				text += ": " + hint // each has its own
			}
			problems = append(problems, errors.New(text))
			continue
		}
		a.result("channel %s (%s): the test was taken", t.Name, t.Kind)
	}
	return errors.Join(problems...)
}

func (a *app) notifyAlarmsCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "alarms", Short: "Look once, and tell the channels what is new, what lasts, and what ended", Args: cobra.NoArgs,
		Long: "Look at everything as `holdfast status` does, and tell the channels: what is wrong and was not told yet, what lasts and is due to be told\n" +
			"again, and what ended. What was told is remembered in the state folder. This is for a timer or cron, where no `holdfast serve` runs,\n" +
			"which does the same every few minutes. The exit code is that of status, or 1 when nobody took an alarm.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if len(cfg.Channels) == 0 {
				return holdfast.WithHint(fmt.Errorf("%w: no channel is configured", holdfast.ErrUsage), "put one into channels: docs/alarms.md")
			}
			if holds, err := daemon.Holds(serveDir(cfg)); err == nil && holds {
				return holdfast.WithHint(fmt.Errorf("%w: holdfast serve works here, and tells by itself", holdfast.ErrUsage), "leave it to the service, or stop it")
			}
			keys, err := trusted(cfg, &f)
			if err != nil {
				return err
			}
			state, err := a.stateOf(cmd.Context(), cfg, keys, &lookout{}, nil)
			if err != nil {
				return err
			}
			book := a.openAlarms(cfg)
			findings := book.judge(cfg, &state)
			tellErr := a.tellAlarms(cmd.Context(), cfg, book, findings)
			if err := a.showState(state, findings); err != nil {
				return err
			}
			if tellErr != nil {
				return tellErr // nobody was told: that is worse than what there was to tell
			}
			return stateError(findings)
		},
	}
	f.addSigners(cmd)
	return cmd
}

// limitsOf are the thresholds of the configuration.
func limitsOf(cfg *config.Config) health.Limits {
	c := cfg.Alarms
	return health.Limits{Grace: c.Grace, Size: float64(c.Size) / 100, Duration: float64(c.Duration), DiskDays: c.DiskDays, KeyDays: c.KeyDays}
}

// alarmFile is what is remembered of alarms between two looks.
type alarmFile struct {
	path     string
	Book     alarm.Book         `json:"book"`
	Channels map[string]failing `json:"channels"`
}

// failing is a channel that does not take messages.
type failing struct {
	health.Channel
	Next time.Time // when it is tried again
}

// openAlarms reads what was told. What cannot be read is begun anew: then something is told twice, and nothing is kept back.
func (a *app) openAlarms(cfg *config.Config) *alarmFile {
	f := &alarmFile{path: filepath.Join(cfg.State, "alarms.json")}
	data, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		a.printer.warn("what was told is not known, and told again: " + err.Error() + ": mend or remove that file")
	case json.Unmarshal(data, f) != nil:
		f = &alarmFile{path: f.path}
	}
	if f.Channels == nil {
		f.Channels = map[string]failing{}
	}
	return f
}

func (f *alarmFile) save() error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(f.path, data, 0o600); err != nil {
		return holdfast.WithHint(fmt.Errorf("remember what was told: %w", err), "make room in the state folder: until then whoever starts anew tells again what lasts")
	}
	return nil
}

// channels lists those that alarms are told through, with why one does not take them. One that hears of runs alone is no such: nothing is
// remembered of it.
func (f *alarmFile) channels(cfg *config.Config) []health.Channel {
	var all []health.Channel
	for _, c := range cfg.Channels {
		if !c.Beats() {
			known := f.Channels[c.Name].Channel
			known.Name = c.Name
			all = append(all, known)
		}
	}
	return all
}

// judge adds what is remembered of channels to a state, and judges it.
func (f *alarmFile) judge(cfg *config.Config, state *health.State) []health.Finding {
	// Nobody would ever hear whether one takes messages again that was taken out.
	maps.DeleteFunc(f.Channels, func(name string, _ failing) bool {
		return !slices.ContainsFunc(cfg.Channels, func(c config.Channel) bool { return c.Name == name })
	})
	state.Service.Channels = f.channels(cfg)
	return health.Judge(*state, limitsOf(cfg))
}

// heard takes down which channels failed, and which took something.
func (f *alarmFile) heard(all []teller, result sent, wants func(teller) bool, now time.Time) {
	for _, t := range all {
		if t.Beats() || !wants(t) {
			continue
		}
		err, failed := result.failed[t.Name]
		if !failed {
			delete(f.Channels, t.Name)
			continue
		}
		c := f.Channels[t.Name]
		c.Next = now.Add(retryEvery)
		if errors.Is(err, notify.ErrPartly) {
			c.Next = now.Add(retryPartly) // whoever does hear of it need not hear of each try
		}
		if c.Since.IsZero() {
			c.Since = now
		}
		c.Name, c.Failed = t.Name, holdfast.Sentence(err)
		f.Channels[t.Name] = c
	}
}

const (
	// retryEvery is how often a channel is tried that fails, and retryPartly how often one that some people do hear of.
	retryEvery  = time.Hour
	retryPartly = 24 * time.Hour
)

// retry sends a test to each channel that failed a while ago: else only another alarm would show that it takes messages again.
func (f *alarmFile) retry(ctx context.Context, cfg *config.Config, all []teller, now time.Time) {
	// A time far ahead was noted by a clock that was wrong.
	wants := func(t teller) bool {
		c := f.Channels[t.Name]
		return c.Failed != "" && (!now.Before(c.Next) || c.Next.Sub(now) > retryPartly)
	}
	m := testMessage(cfg, now)
	m.Text += " Through this channel they did not for a while; what lasts is told again."
	if result := tellAll(ctx, all, m, wants); ctx.Err() == nil {
		f.heard(all, result, wants, now)
	}
}

// quiet reports whether now is in the quiet hours.
func quiet(cfg *config.Config, now time.Time) bool {
	return slices.ContainsFunc(cfg.Alarms.Quiet, func(w schedule.Window) bool {
		_, open := w.Open(now, cfg.Alarms.Zone)
		return open
	})
}

// errUnheard says that alarms reached nobody.
var errUnheard = errors.New("an alarm reached nobody")

// mostRefused is after how many messages in a row a channel is left alone until the next look: when there is much to tell, one that keeps
// everybody waiting would keep the others from hearing of it.
const mostRefused = 3

// tellAlarms tells what is due of the findings, and remembers it.
func (a *app) tellAlarms(ctx context.Context, cfg *config.Config, book *alarmFile, findings []health.Finding) error {
	if len(cfg.Channels) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, surveyTime, fmt.Errorf("it took longer than %s", health.Span(surveyTime)))
	defer cancel()
	all := tellers(ctx, cfg)
	now := a.Now()
	policy := alarm.Policy{Resend: cfg.Alarms.Resend, Calm: cfg.Alarms.Calm, Quiet: quiet(cfg, now)}
	var problems []error
	refused := map[string]int{} // how many messages in a row, by channel
	unheard := map[string]int{} // how many alarms that reached nobody, by channel
	why := map[string]error{}   // of the first of them
	for _, due := range book.Book.Look(now, findings, policy) {
		wants := wantsAlarm(due.Finding)
		result := tellAll(ctx, all, alarmMessage(cfg, now, due), wants)
		if result.took > 0 {
			book.Book.Took(due, now)
		}
		if ctx.Err() != nil {
			// What was cut off says nothing of the channels.
			problems = append(problems, fmt.Errorf("not all was told: %w", context.Cause(ctx)))
			break
		}
		book.heard(all, result, wants, now)
		for i, t := range all {
			err, failed := result.failed[t.Name]
			switch {
			case failed && !errors.Is(err, notify.ErrPartly): // which somebody did hear of
				if refused[t.Name]++; refused[t.Name] == mostRefused {
					all[i].err = err
				}
			case wants(t):
				refused[t.Name] = 0
			}
		}
		switch {
		case result.took > 0:
		case len(result.failed) == 0: // nobody wants to know of it
			book.Book.Took(due, now)
		default:
			for name, err := range result.failed {
				if unheard[name]++; unheard[name] == 1 {
					why[name] = err
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unheard)) {
		text := fmt.Sprintf("channel %s: %s", name, holdfast.Sentence(why[name]))
		if more := unheard[name] - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		problems = append(problems, holdfast.WithHint(fmt.Errorf("%w: %s", errUnheard, text), holdfast.Hint(why[name])))
	}
	if !policy.Quiet {
		book.retry(ctx, cfg, all, now)
	}
	return errors.Join(errors.Join(problems...), book.save())
}
