// Package notify tells people and machines what happened: by mail, in chats, on phones, to monitoring.
//
// It hides how each service is spoken to, how it acknowledges, and how long a text it takes: one channel per file. Its laws:
//   - A message is told when the service said so in its own words. A page with status 200 is no acknowledgement.
//   - Connections are checked: TLS with the system's certificates, plain text only where it was asked for or stays on the host,
//     no redirect, no proxy, no address of the internal network behind a public name, and no metadata service at all.
//   - No error and no name of a channel holds a token, a password or what follows the host in an address, whatever the
//     other side answered.
//   - What a message holds can neither add a header, nor ping a room, nor become markup where the service has a way to say so.
//
// It is not its job to decide what is told or when, to remember what was, or to try again: its caller does.
package notify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says what a message is.
type Kind string

// The kinds of messages.
const (
	Alarm    Kind = "alarm"    // something is wrong
	Resolved Kind = "resolved" // an alarm ended
	Success  Kind = "success"  // a run went well
	Failure  Kind = "failure"  // a run did not
	Test     Kind = "test"     // somebody wants to see whether messages arrive
)

// Severity says how bad it is.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

// Message is what is told. It has names and figures; never data, never a secret. Its JSON is what a [Webhook] sends. What would
// break a line, or is not printable, is replaced by a space when it is sent.
type Message struct {
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity,omitempty"` // of a resolution: that of its alarm
	Alarm    string    `json:"alarm,omitempty"`    // stable word of the alarm, as "stale"; "" for a success, a failure and a test
	Host     string    `json:"host,omitempty"`
	Job      string    `json:"job,omitempty"`
	Store    string    `json:"store,omitempty"`
	Volume   string    `json:"volume,omitempty"`  // the encrypted volume that it is about
	Title    string    `json:"title"`             // one line
	Text     string    `json:"text,omitempty"`    // few lines, plain
	Hint     string    `json:"hint,omitempty"`    // what to do
	Runbook  string    `json:"runbook,omitempty"` // address or path of a page
	Since    time.Time `json:"since,omitzero"`    // since when it lasts
	Time     time.Time `json:"time"`              // when it was found; zero: when it is sent
	Key      string    `json:"key,omitempty"`     // stable identity of what it is about: the same for an alarm and its resolution
}

// Channel is one way to tell. It is safe for concurrent use.
type Channel interface {
	// Send tells m once, and returns nil when the service acknowledged it. Its error names the channel and what was answered, may
	// carry a hint, and wraps the cause of a ctx that ended, or [ErrPartly]. A message that failed may have arrived all the same, when
	// the answer was lost.
	Send(ctx context.Context, m Message) error
	// String is what it is and where it leads, without secrets: "slack hooks.slack.com".
	String() string
}

// ErrPartly marks a message that some got and others did not. Sent again it would reach the former twice.
var ErrPartly = errors.New("not all were told")

// Beat tells a service that watches runs that one began or ended; the service raises the alarm when it hears nothing. It is safe for
// concurrent use. Errors are those of a [Channel].
type Beat interface {
	// Start tells that a run began. run is a UUID that it shares with its end; "" is none.
	Start(ctx context.Context, run string) error
	// End tells that a run ended with an exit status, how long it took, and a text for people that may be empty.
	End(ctx context.Context, run string, exit int, took time.Duration, text string) error
	String() string
}

var (
	_ Channel = (*Mail)(nil)
	_ Channel = (*Webhook)(nil)
	_ Channel = (*Slack)(nil)
	_ Channel = (*Discord)(nil)
	_ Channel = (*Telegram)(nil)
	_ Channel = (*Ntfy)(nil)
	_ Channel = (*Alertmanager)(nil)
	_ Channel = (*Kuma)(nil)
	_ Channel = (*Healthchecks)(nil)
	_ Beat    = (*Kuma)(nil)
	_ Beat    = (*Healthchecks)(nil)
)

// up reports whether a message says that all is well: what a service with two states shows.
func (m Message) up() bool { return m.Kind != Alarm && m.Kind != Failure }

// ended says how a run ended when it brought no words of its own.
func ended(exit int, text string) string {
	if text = plain(text); text != "" {
		return text
	}
	return fmt.Sprintf("exit status %d", exit)
}
