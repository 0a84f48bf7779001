package notify

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
	"unicode"

	"holdfast"
)

// DefaultLasts is how long an Alertmanager holds an alarm that is not told again.
const DefaultLasts = 26 * time.Hour

// AlertmanagerOptions is where an [Alertmanager] leads.
type AlertmanagerOptions struct {
	URL      string          // of the server, without /api
	User     string          // basic authentication; "": none
	Password holdfast.Secret // of that user
	Token    holdfast.Secret // bearer token, in place of a user; none: none
	// Lasts is how long an alarm stands when it is not told again; 0: DefaultLasts. The server's own resolve_timeout, minutes
	// as a rule, would end it before the next look at the backups, and tell everyone that all is well.
	Lasts time.Duration
	Reach Reach
}

// Alertmanager posts alerts to a Prometheus Alertmanager, API v2. See https://prometheus.io/docs/alerting/latest/alerts_api.
//
// An alarm and its resolution are one alert when all of these labels are the same: alertname, severity, host, job, store,
// volume, key. The name is Holdfast and the word of the alarm in camel case, HoldfastStale; of a success, a failure and a test that of the kind.
// Those three have no end of their own: the server's resolve_timeout ends them.
type Alertmanager struct {
	*client
	authorization holdfast.Secret
	lasts         time.Duration
}

// NewAlertmanager checks options. It connects to nothing.
func NewAlertmanager(o AlertmanagerOptions) (*Alertmanager, error) {
	const kind = "alertmanager"
	var authorization string
	switch {
	case o.User != "" && !o.Token.IsZero():
		return nil, usage(kind, "both a user and a token are given", "use one of them")
	case (o.User == "") != o.Password.IsZero():
		return nil, usage(kind, "of user and password one is missing", "give both, or none")
	case strings.Contains(o.User, ":"):
		return nil, usage(kind, "the user has a colon in it", "basic authentication has no user of that kind")
	case o.Lasts < 0:
		return nil, usage(kind, "an alarm cannot last less than no time", "use a duration above zero")
	case !o.Token.IsZero():
		authorization = "Bearer " + o.Token.Reveal()
	case o.User != "":
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(o.User+":"+o.Password.Reveal()))
	}
	if err := checkHeader(kind, o.Token); err != nil {
		return nil, err
	}
	c, err := newClient(kind, o.URL, o.Reach, o.Token, o.Password, holdfast.NewSecret(strings.TrimPrefix(authorization, "Basic ")))
	if err != nil {
		return nil, err
	}
	if o.Lasts == 0 {
		o.Lasts = DefaultLasts
	}
	return &Alertmanager{c, holdfast.NewSecret(authorization), o.Lasts}, nil
}

type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt,omitzero"`
}

// Send posts m as one alert.
func (a *Alertmanager) Send(ctx context.Context, m Message) error {
	header := http.Header{}
	if !a.authorization.IsZero() {
		header.Set("Authorization", a.authorization.Reveal())
	}
	got, err := a.postJSON(ctx, a.base.JoinPath("api/v2/alerts"), header, []alert{m.clean().alert(a.lasts)})
	if err != nil {
		return err
	}
	if got.page {
		return holdfast.WithHint(a.wrong(got, "with a page, not as Alertmanager does"), "look whether a sign-in page stands before it")
	}
	return nil
}

func (m Message) alert(lasts time.Duration) alert {
	filled := func(pairs map[string]string) map[string]string {
		for name, value := range pairs {
			if value == "" {
				delete(pairs, name)
			}
		}
		return pairs
	}
	name := m.Alarm
	if name == "" {
		name = string(m.Kind)
	}
	made := alert{
		Labels: filled(map[string]string{
			"alertname": "Holdfast" + camel(name), "severity": string(m.Severity), "host": m.Host, "job": m.Job, "store": m.Store, "volume": m.Volume, "key": m.Key,
		}),
		Annotations: filled(map[string]string{"summary": m.Title, "description": m.Text, "hint": m.Hint, "runbook_url": m.Runbook}),
		StartsAt:    m.Since,
	}
	// A start after the end is refused, and clocks are set back.
	if made.StartsAt.IsZero() || made.StartsAt.After(m.Time) {
		made.StartsAt = m.Time
	}
	switch m.Kind {
	case Alarm:
		made.EndsAt = m.Time.Add(lasts)
	case Resolved:
		made.EndsAt = m.Time
	}
	return made
}

// camel turns "drill-failed" into "DrillFailed".
func camel(word string) string {
	var out strings.Builder
	for part := range strings.FieldsFuncSeq(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		runes := []rune(part)
		out.WriteRune(unicode.ToUpper(runes[0]))
		out.WriteString(string(runes[1:]))
	}
	return out.String()
}
