package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/alarm"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/notify"
)

// channelTime bounds how long one message to one channel may take.
const channelTime = time.Minute

// teller is a channel that is ready to be used, or why it is not.
type teller struct {
	config.Channel
	tells notify.Channel
	beats notify.Beat
	err   error
}

// tellers opens every channel. One whose secret cannot be had is told as such when it is used.
func tellers(ctx context.Context, cfg *config.Config) []teller {
	var all []teller
	for _, c := range cfg.Channels {
		t := teller{Channel: c}
		t.tells, t.beats, t.err = openChannel(ctx, cfg.Alarms, c)
		all = append(all, t)
	}
	return all
}

// slack is how much later than it is due an alarm may be told again.
const slack = 2 * time.Hour

// lasts is how long an alarm stands that is told and not told again: it is told again after a while, or when the quiet hours are over.
func lasts(alarms config.Alarms) time.Duration {
	var quiet time.Duration
	for _, w := range alarms.Quiet {
		quiet = max(quiet, w.Length)
	}
	return alarms.Resend + quiet + slack
}

func openChannel(ctx context.Context, alarms config.Alarms, c config.Channel) (notify.Channel, notify.Beat, error) {
	secrets, err := resolveAll(ctx, c.URL, c.Password, c.Token, c.Topic, c.Sign, c.Authorization)
	if err != nil {
		return nil, nil, err
	}
	address, password, token, topic, sign, authorization := secrets[0], secrets[1], secrets[2], secrets[3], secrets[4], secrets[5]
	reach := notify.Reach{AllowPlain: c.AllowPlain, AllowPrivate: c.AllowPrivate}
	switch c.Kind {
	case config.ChannelMail:
		tells, err := notify.NewMail(notify.MailOptions{Host: c.Host, Port: c.Port, Security: notify.Security(c.Security), User: c.User, Password: password, From: c.From, To: c.To})
		return tells, nil, err
	case config.ChannelWebhook:
		tells, err := notify.NewWebhook(notify.WebhookOptions{URL: address, Secret: sign, Authorization: authorization, Expect: c.Expect, Reach: reach})
		return tells, nil, err
	case config.ChannelSlack:
		tells, err := notify.NewSlack(notify.SlackOptions{URL: address, Reach: reach})
		return tells, nil, err
	case config.ChannelDiscord:
		tells, err := notify.NewDiscord(notify.DiscordOptions{URL: address, Reach: reach})
		return tells, nil, err
	case config.ChannelTelegram:
		tells, err := notify.NewTelegram(notify.TelegramOptions{Token: token, Chat: c.Chat, Server: c.Server, Reach: reach})
		return tells, nil, err
	case config.ChannelNtfy:
		tells, err := notify.NewNtfy(notify.NtfyOptions{Server: c.Server, Topic: topic, Token: token, Reach: reach})
		return tells, nil, err
	case config.ChannelAlertmanager:
		tells, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: c.Server, User: c.User, Password: password, Token: token, Lasts: lasts(alarms), Reach: reach})
		return tells, nil, err
	case config.ChannelHealthchecks:
		page, err := notify.NewHealthchecks(notify.HealthchecksOptions{URL: address, Reach: reach})
		return page, page, err
	case config.ChannelKuma:
		page, err := notify.NewKuma(notify.KumaOptions{URL: address, Reach: reach})
		return page, page, err
	}
	return nil, nil, fmt.Errorf("%w: channels of kind %q are not known", holdfast.ErrUsage, c.Kind)
}

// sent is what came of telling something to all channels that want it.
type sent struct {
	took   int
	failed map[string]error // by channel
}

// tellAll sends a message to the channels that want it, at once. A channel that fails holds up no other.
func tellAll(ctx context.Context, all []teller, m notify.Message, wants func(teller) bool) sent {
	result := sent{failed: map[string]error{}}
	errs := make([]error, len(all))
	var group errgroup.Group
	for i, t := range all {
		if t.Beats() || !wants(t) {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, channelTime)
			defer cancel()
			if errs[i] = t.err; errs[i] == nil {
				errs[i] = t.tells.Send(ctx, m)
			}
			return nil
		})
	}
	_ = group.Wait() // every function returns nil: errs has what went wrong
	for i, t := range all {
		switch {
		case t.Beats() || !wants(t):
		case errs[i] == nil || errors.Is(errs[i], notify.ErrPartly):
			result.took++
		}
		if errs[i] != nil {
			result.failed[t.Name] = errs[i]
		}
	}
	return result
}

// alarmMessage is what is told of something that is due.
func alarmMessage(cfg *config.Config, now time.Time, d alarm.Due) notify.Message {
	f, host := d.Finding, cfg.Host
	m := notify.Message{
		Kind: notify.Alarm, Severity: notify.Warning, Alarm: string(f.Alarm), Host: host, Job: string(f.Job), Store: f.Store, Volume: f.Volume, Key: f.Key(),
		Since: f.Since, Time: now, Hint: f.Hint, Runbook: cfg.Alarms.Runbooks + "/" + string(f.Alarm) + ".md",
	}
	if f.Alarm.Severity() == health.Critical {
		m.Severity = notify.Critical
	}
	if m.Since.IsZero() {
		m.Since = d.First
	}
	about := strings.TrimSuffix(strings.Join([]string{host, f.About()}, ": "), ": ")
	word := strings.ReplaceAll(string(f.Alarm), "_", " ")
	switch {
	case d.Ended:
		m.Kind, m.Title, m.Text, m.Hint = notify.Resolved, fmt.Sprintf("%s: no longer %s", about, word), "it is over after "+health.Span(d.Lasted)+"; it was: "+f.Text, ""
	case d.Again:
		m.Title, m.Text = fmt.Sprintf("%s: still %s", about, word), f.Text+"; told first "+health.Span(max(0, d.Lasted))+" ago"
	default:
		m.Title, m.Text = fmt.Sprintf("%s: %s", about, word), f.Text
	}
	if d.Often && !d.Ended {
		m.Text += "; it comes and goes, and its end is told only when it was gone for hours"
	}
	return m
}

// wantsAlarm reports whether a channel is told of an alarm. That a channel fails is no news for itself.
func wantsAlarm(f health.Finding) func(teller) bool {
	return func(t teller) bool {
		return slices.Contains(t.Severities, f.Alarm.Severity().String()) && t.Takes(f.Job) && !(f.Alarm == health.ChannelFailing && f.What == t.Name)
	}
}

// announced is a run that channels hear of.
type announced struct {
	app   *app
	cfg   *config.Config
	job   holdfast.JobName
	task  holdfast.Task
	all   []teller
	run   string
	began time.Time
}

// announce tells the pages that hear of the task that a run of it begins. Nothing of this ever fails the run: what goes wrong is a warning.
// With its end, channels that want to know of single runs are told too.
func (a *app) announce(ctx context.Context, cfg *config.Config, job holdfast.JobName, task holdfast.Task) *announced {
	n := &announced{app: a, cfg: cfg, job: job, task: task, run: newRunID(), began: a.Now(), all: tellers(ctx, cfg)}
	n.beat(ctx, func(ctx context.Context, page notify.Beat) error { return page.Start(ctx, n.run) })
	return n
}

// ended tells how the run ended.
func (n *announced) ended(ctx context.Context, err error) {
	if err != nil && errors.Is(context.Cause(ctx), holdfast.ErrInterrupted) {
		err = holdfast.ErrInterrupted
	}
	ctx = context.WithoutCancel(ctx)
	exit, took := exitCode(err), n.app.Now().Sub(n.began)
	text := fmt.Sprintf("%s of job %s on %s ended with %d after %s", n.task, n.job, n.cfg.Host, exit, health.Span(took))
	n.beat(ctx, func(ctx context.Context, page notify.Beat) error { return page.End(ctx, n.run, exit, took, text) })
	m := notify.Message{Kind: notify.Success, Severity: notify.Info, Host: n.cfg.Host, Job: string(n.job), Time: n.app.Now(), Title: fmt.Sprintf("%s: %s of job %s is done", n.cfg.Host, n.task, n.job), Text: text}
	want := "success"
	if err != nil {
		want = "failure"
		m.Kind, m.Severity, m.Title = notify.Failure, notify.Critical, fmt.Sprintf("%s: %s of job %s failed", n.cfg.Host, n.task, n.job)
		m.Hint = "`holdfast status` says how things stand, and the log what happened"
	}
	result := tellAll(ctx, n.all, m, func(t teller) bool { return slices.Contains(t.Runs, want) && t.Takes(n.job) })
	n.warn(result.failed)
}

func (n *announced) warn(failed map[string]error) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		n.app.printer.warn(fmt.Sprintf("channel %s did not hear of this run: %s", name, holdfast.Sentence(failed[name])))
	}
}

// beat does something with all pages that hear of the task, at once.
func (n *announced) beat(ctx context.Context, do func(context.Context, notify.Beat) error) {
	errs := make([]error, len(n.all))
	var group errgroup.Group
	for i, t := range n.all {
		if !t.Beats() || !t.Takes(n.job) || !slices.Contains(t.Tasks, n.task) {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, channelTime)
			defer cancel()
			if errs[i] = t.err; errs[i] == nil {
				errs[i] = do(ctx, t.beats)
			}
			return nil
		})
	}
	_ = group.Wait() // every function returns nil: errs has what went wrong
	failed := map[string]error{}
	for i, t := range n.all {
		if errs[i] != nil {
			failed[t.Name] = errs[i]
		}
	}
	n.warn(failed)
}

// newRunID makes a random UUID (RFC 9562, version 4).
func newRunID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
