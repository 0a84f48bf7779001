package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/alarm"
	"holdfast/internal/health"
	"holdfast/internal/schedule"
)

// Alarms say when something is worth telling, and how often.
type Alarms struct {
	Grace    time.Duration // 0: by the interval
	Size     int           // percent
	Duration int           // times
	DiskDays int
	KeyDays  int
	Resend   time.Duration // of an alarm that lasts
	Calm     time.Duration // how long something must be gone to count as ended
	Quiet    []schedule.Window
	Zone     *time.Location // of Quiet
	Runbooks string         // address or path of the folder of the pages about alarms, without a slash at its end
}

// The kinds of channels.
const (
	ChannelMail         = "mail"
	ChannelWebhook      = "webhook"
	ChannelSlack        = "slack"
	ChannelDiscord      = "discord"
	ChannelTelegram     = "telegram"
	ChannelNtfy         = "ntfy"
	ChannelAlertmanager = "alertmanager"
	ChannelHealthchecks = "healthchecks"
	ChannelKuma         = "kuma"
)

// Channel is a way to tell people, or a page that wants to hear of every run. Which of its fields are set depends on its kind.
type Channel struct {
	Name string
	Kind string

	Severities []string           // of alarms; none of a page that hears of runs
	Runs       []string           // "success" and "failure": of which runs it is told
	Jobs       []holdfast.JobName // only of these; none: of all
	Tasks      []holdfast.Task    // of which runs a page hears

	URL                      SecretRef // webhook, slack, discord, healthchecks, kuma
	Server                   string    // ntfy, alertmanager, telegram
	Host, Security, From     string    // mail
	Port                     int
	User                     string // mail, alertmanager
	To                       []string
	Password                 SecretRef // mail, alertmanager
	Token                    SecretRef // telegram, ntfy, alertmanager
	Topic                    SecretRef // ntfy
	Chat                     string    // telegram
	Sign, Authorization      SecretRef // webhook
	Expect                   string
	AllowPlain, AllowPrivate bool
}

// Beats reports whether the channel is a page that hears of runs rather than a way to tell people.
func (c Channel) Beats() bool { return c.Kind == ChannelHealthchecks || c.Kind == ChannelKuma }

// Takes reports whether the channel is told of a job.
func (c Channel) Takes(job holdfast.JobName) bool {
	return len(c.Jobs) == 0 || job == "" || slices.Contains(c.Jobs, job)
}

func alarmsShape() *shape {
	standard := newAlarms()
	return &shape{name: "alarms", doc: "When something is worth telling, and how often. [alarms.md](alarms.md) has all conditions.", fields: []field{
		{name: "grace", form: formSpan, fallback: "a twelfth of the interval, 30m to 12h", example: "2h", doc: "How late something may be before it is told: for a daily job 2h, so that its newest backup is stale after 26 hours."},
		{name: "size", form: formNumber, fallback: strconv.Itoa(standard.Size), min: 1, max: 1000, doc: "By how many percent an item may differ from the median of its last 7 days."},
		{name: "duration", form: formNumber, fallback: strconv.Itoa(standard.Duration), min: 2, max: 100, doc: "How many times as long as the median of the last 7 days a run may take."},
		{name: "disk_days", form: formNumber, fallback: strconv.Itoa(standard.DiskDays), min: 1, max: 365, doc: "A store is told that is full within so many days."},
		{name: "key_days", form: formNumber, fallback: strconv.Itoa(standard.KeyDays), min: 1, max: 365, doc: "A key is told that expires within so many days."},
		{name: "resend", form: formSpan, fallback: "24h", doc: "How often an alarm that lasts is told again."},
		{name: "calm", form: formSpan, fallback: "15m", doc: "How long something must be gone to count as ended. What comes and goes is not told each time."},
		{name: "quiet", form: formTexts, fallback: "none", example: `["0 22 * * * for 8h"]`, doc: "Quiet hours: warnings wait for their end, and what is critical does not."},
		{name: "zone", form: formText, fallback: "service.zone", example: "Europe/Berlin", doc: "Time zone of the quiet hours."},
		{name: "runbooks", form: formText, fallback: standard.Runbooks, example: "https://wiki.example/holdfast/", doc: "Address, or absolute path, of the folder that the pages of docs/runbooks/alerts are in: messages name them."},
	}}
}

// channelKinds lists the kinds in the order of the documentation.
func channelKinds() []string {
	return []string{ChannelMail, ChannelWebhook, ChannelSlack, ChannelDiscord, ChannelTelegram, ChannelNtfy, ChannelAlertmanager, ChannelHealthchecks, ChannelKuma}
}

func channelShapes() map[string]*shape {
	secret := func(name, example, doc string) field {
		return field{name: name, form: formSecret, example: example, doc: doc}
	}
	needed := func(f field) field {
		f.needed = true
		return f
	}
	address := needed(secret("url", "{file: /etc/holdfast/hook-url}", "Its address, which is a secret: whoever has it can post there."))
	user := field{name: "user", form: formText, example: "holdfast", doc: "The user to log in as."}
	server := func(example string, fallback string, need bool) field {
		return field{name: "server", form: formText, example: example, fallback: fallback, needed: need, doc: "Address of the server."}
	}
	shapes := map[string]*shape{}
	add := func(kind, doc string, fields ...field) {
		all := []field{{name: "kind", form: formChoice, needed: true, choices: []string{kind}, example: kind, doc: "What the channel is."}}
		all = append(all, fields...)
		if kind == ChannelHealthchecks || kind == ChannelKuma {
			all = append(all, field{name: "tasks", form: formTexts, fallback: "[backup, hourly]", example: "[backup]", doc: "The tasks whose runs it hears of: backup, hourly, mirror, verify, drill, prune."})
		} else {
			all = append(all,
				field{name: "alarms", form: formTexts, fallback: "[critical, warning]", example: "[critical]", doc: "The severities of alarms that are told."},
				field{name: "runs", form: formTexts, fallback: "none", example: "[failure]", doc: "Whether single runs are told too: success, failure."})
		}
		all = append(all, field{name: "jobs", form: formTexts, fallback: "all", example: "[app]", doc: "Only what is about these jobs."})
		if kind != ChannelMail {
			all = append(all,
				field{name: "allow_plain", form: formFlag, fallback: "false", doc: "Allow http, without TLS, to another host."},
				field{name: "allow_private", form: formFlag, fallback: "false", doc: "Allow a name that leads to an address inside of the own network."})
		}
		shapes[kind] = &shape{name: kind + " channel", doc: doc, fields: all}
	}
	add(ChannelMail, "Mail, by SMTP with TLS.",
		field{name: "host", form: formText, needed: true, example: "smtp.example.org", doc: "The mail server."},
		field{name: "port", form: formNumber, fallback: "587, and 465 for tls", min: 1, max: 65535, example: "587", doc: "Its port."},
		field{name: "security", form: formChoice, fallback: "starttls", choices: []string{"starttls", "tls", "none"}, doc: "How TLS is used. A server that does not offer it is refused, and gets nothing; none is for one on this host alone."},
		user, secret("password", "{file: /etc/holdfast/smtp-password}", "The user's password."),
		field{name: "from", form: formText, needed: true, example: "holdfast@example.org", doc: "The sender."},
		field{name: "to", form: formTexts, needed: true, example: "[ops@example.org]", doc: "The recipients."})
	add(ChannelWebhook, "A POST of JSON, signed if there is a secret.", address,
		secret("secret", "{file: /etc/holdfast/hook-secret}", "What messages are signed with (HMAC-SHA256): docs/alarms.md tells how to check it."),
		secret("authorization", "{file: /etc/holdfast/hook-token}", "The whole header Authorization."),
		field{name: "expect", form: formText, fallback: "anything but a page", example: `'"ok":true'`, doc: "A text that the answer must contain."})
	add(ChannelSlack, "An incoming webhook of Slack, or of Mattermost.", address)
	add(ChannelDiscord, "A webhook of Discord.", address)
	add(ChannelTelegram, "A bot of Telegram.", needed(secret("token", "{file: /etc/holdfast/telegram-token}", "The bot's token.")),
		field{name: "chat", form: formText, needed: true, example: `"-1001234567890"`, doc: "The chat's ID."}, server("https://api.telegram.org", "https://api.telegram.org", false))
	add(ChannelNtfy, "A topic of ntfy.", needed(secret("topic", "{file: /etc/holdfast/ntfy-topic}", "The topic, which is as good as a password on the public server.")),
		secret("token", "{file: /etc/holdfast/ntfy-token}", "An access token."), server("https://ntfy.example.org", "https://ntfy.sh", false))
	add(ChannelAlertmanager, "An Alertmanager, which routes by itself.", server("http://127.0.0.1:9093", "", true), user,
		secret("password", "{file: /etc/holdfast/am-password}", "The user's password."), secret("token", "{file: /etc/holdfast/am-token}", "A bearer token, instead."))
	add(ChannelHealthchecks, "A check of Healthchecks: it hears when a run starts, and how it ends, and raises its own alarm when nothing comes.", address)
	add(ChannelKuma, "A push monitor of Uptime Kuma.", address)
	return shapes
}

func newAlarms() Alarms {
	return Alarms{
		Size: 100 * health.DefaultSize, Duration: health.DefaultDuration, DiskDays: health.DefaultDiskDays, KeyDays: health.DefaultKeyDays,
		Resend: alarm.DefaultResend, Calm: alarm.DefaultCalm, Runbooks: "docs/runbooks/alerts",
	}
}

func (r *reader) readAlarms(s *section, a *Alarms) {
	s.span("grace", &a.Grace)
	s.number("size", &a.Size)
	s.number("duration", &a.Duration)
	s.number("disk_days", &a.DiskDays)
	s.number("key_days", &a.KeyDays)
	s.span("resend", &a.Resend)
	s.span("calm", &a.Calm)
	a.Quiet = s.windows("quiet")
	s.zone("zone", true, &a.Zone)
	s.one("runbooks", "text", func(text string, _ field) error {
		a.Runbooks = strings.TrimRight(text, "/")
		return checkFolder(text)
	})
}

// checkFolder refuses what is neither the address nor the absolute path of a folder: a page's name is put behind it.
func checkFolder(text string) error {
	if filepath.IsAbs(text) {
		return checkText(text)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(text, "?#"):
		return errors.New("must be the address of a folder such as https://wiki.example/holdfast/, or an absolute path")
	case u.User != nil:
		return errors.New("holds a password, which every message would show; take it out")
	}
	return nil
}

func (r *reader) readChannel(e entry) (Channel, []located) {
	c := Channel{Name: e.name}
	shape, kind, ok := r.kindOf(e, channelShapes(), channelKinds())
	if !ok {
		return c, nil
	}
	c.Kind = kind
	s := r.section(e.node, e.path, shape)
	s.choice("kind", &c.Kind)
	has := func(name string) bool {
		_, known := shape.field(name)
		return known
	}
	for name, into := range map[string]*SecretRef{"url": &c.URL, "password": &c.Password, "token": &c.Token, "topic": &c.Topic, "secret": &c.Sign, "authorization": &c.Authorization} {
		if has(name) {
			s.secret(name, into)
		}
	}
	for name, into := range map[string]*string{"host": &c.Host, "user": &c.User, "from": &c.From, "chat": &c.Chat, "expect": &c.Expect} {
		if has(name) {
			s.text(name, into)
		}
	}
	if has("server") {
		s.one("server", "text", func(text string, _ field) error {
			c.Server = text
			return checkServer(text)
		})
	}
	if has("port") {
		s.number("port", &c.Port)
		s.choice("security", &c.Security)
		s.plainTexts("to", "addresses", &c.To)
	}
	if has("allow_plain") {
		s.flag("allow_plain", &c.AllowPlain)
		s.flag("allow_private", &c.AllowPrivate)
	}
	if c.Beats() {
		c.Tasks = []holdfast.Task{holdfast.TaskBackup, holdfast.TaskHourly}
		if words, given := r.words(s, "tasks", runWords()); given {
			c.Tasks = nil
			for _, word := range words {
				c.Tasks = append(c.Tasks, holdfast.Task(word))
			}
		}
	} else {
		c.Severities = []string{"critical", "warning"}
		if words, given := r.words(s, "alarms", []string{"critical", "warning"}); given {
			c.Severities = words
		}
		c.Runs, _ = r.words(s, "runs", []string{"success", "failure"})
	}
	return c, s.texts("jobs", "names of jobs")
}

// runWords are the tasks whose runs pages can hear of. Every drill is one, whichever backup it is of.
func runWords() []string {
	var all []string
	for _, task := range []holdfast.Task{holdfast.TaskBackup, holdfast.TaskHourly, holdfast.TaskMirror, holdfast.TaskVerify, holdfast.TaskDrill, holdfast.TaskPrune} {
		all = append(all, string(task))
	}
	return all
}

// words reads a list of words that must be among those known.
func (r *reader) words(s *section, name string, known []string) (words []string, given bool) {
	if s.values[name] == nil {
		return nil, false
	}
	for _, l := range s.texts(name, "words") {
		if !slices.Contains(known, l.text) {
			r.fault(l.at, "%s: %q is not allowed; %s", join(s.path, name), l.text, allowed(l.text, known))
			continue
		}
		words = append(words, l.text)
	}
	return words, true
}

func checkServer(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be an address such as https://ntfy.example.org")
	case u.User != nil:
		return errors.New("holds a password; take it out and give user and password")
	}
	return nil
}

// completeChannels looks up the jobs that channels are for.
func (r *reader) completeChannels(d *draft) {
	for i, jobs := range d.channelJobs {
		for _, l := range jobs {
			var known []string
			for _, j := range d.jobs {
				known = append(known, string(j.Name))
			}
			slices.Sort(known)
			if !slices.Contains(known, l.text) {
				r.fault(l.at, "channels.%s.jobs: unknown job %q; %s", d.channels[i].Name, l.text, allowed(l.text, known))
				continue
			}
			d.channels[i].Jobs = append(d.channels[i].Jobs, holdfast.JobName(l.text))
		}
	}
}

func (s *settings) alarms(a Alarms) {
	s.span("alarms.grace", a.Grace)
	for _, n := range []struct {
		name  string
		value int
	}{{"size", a.Size}, {"duration", a.Duration}, {"disk_days", a.DiskDays}, {"key_days", a.KeyDays}} {
		s.count("alarms."+n.name, n.value)
	}
	s.span("alarms.resend", a.Resend)
	s.span("alarms.calm", a.Calm)
	if len(a.Quiet) > 0 {
		s.add("alarms.quiet", windowsText(a.Quiet))
		s.add("alarms.zone", zoneName(a.Zone))
	}
	s.add("alarms.runbooks", a.Runbooks)
}

func (s *settings) channel(path string, c Channel) {
	s.add(path+"kind", c.Kind)
	for _, v := range []struct{ name, value string }{
		{"host", c.Host}, {"security", c.Security}, {"server", c.Server}, {"user", c.User}, {"from", c.From}, {"to", strings.Join(c.To, ", ")}, {"chat", c.Chat}, {"expect", c.Expect},
		{"url", c.URL.String()}, {"password", c.Password.String()}, {"token", c.Token.String()}, {"topic", c.Topic.String()}, {"secret", c.Sign.String()}, {"authorization", c.Authorization.String()},
	} {
		s.given(path+v.name, v.value)
	}
	s.count(path+"port", c.Port)
	if c.Beats() {
		var tasks []string
		for _, task := range c.Tasks {
			tasks = append(tasks, string(task))
		}
		s.add(path+"tasks", strings.Join(tasks, ", "))
	} else {
		s.add(path+"alarms", strings.Join(c.Severities, ", "))
		s.given(path+"runs", strings.Join(c.Runs, ", "))
	}
	var jobs []string
	for _, job := range c.Jobs {
		jobs = append(jobs, string(job))
	}
	s.given(path+"jobs", strings.Join(jobs, ", "))
	if c.AllowPlain {
		s.add(path+"allow_plain", "true")
	}
	if c.AllowPrivate {
		s.add(path+"allow_private", "true")
	}
}

// Channel returns the channel called name. It fails with [holdfast.ErrUsage] when there is none.
func (c *Config) Channel(name string) (Channel, error) {
	var known []string
	for _, channel := range c.Channels {
		if channel.Name == name {
			return channel, nil
		}
		known = append(known, channel.Name)
	}
	hint := "put one into channels: docs/alarms.md"
	if len(known) > 0 {
		hint = "known channels: " + strings.Join(known, ", ")
	}
	return Channel{}, holdfast.WithHint(fmt.Errorf("%w: channel %q is not configured", holdfast.ErrUsage, name), hint)
}
