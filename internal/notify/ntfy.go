package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"holdfast"
)

const (
	ntfyServer     = "https://ntfy.sh"
	ntfyLimit      = 4096
	ntfyTitleLimit = 250
)

// NtfyOptions is where an [Ntfy] leads.
type NtfyOptions struct {
	Server string          // "": https://ntfy.sh
	Topic  holdfast.Secret // who knows it can read and write it
	Token  holdfast.Secret // access token; none: the topic is open
	Reach  Reach
}

// Ntfy publishes to a topic of ntfy. See https://docs.ntfy.sh/publish/#publish-as-json.
type Ntfy struct {
	*client
	topic, token holdfast.Secret
}

var ntfyTopic = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

// NewNtfy checks options. It connects to nothing.
func NewNtfy(o NtfyOptions) (*Ntfy, error) {
	if !ntfyTopic.MatchString(o.Topic.Reveal()) {
		return nil, usage("ntfy", "the topic is not valid", "use letters, digits, dashes and underscores, at most 64, as nobody would guess")
	}
	if err := checkHeader("ntfy", o.Token); err != nil {
		return nil, err
	}
	c, err := newClient("ntfy", cmp.Or(o.Server, ntfyServer), o.Reach, o.Topic, o.Token)
	if err != nil {
		return nil, err
	}
	// What is posted to a topic's own address would be shown as it is: JSON.
	if strings.Trim(c.base.Path, "/") != "" {
		return nil, usage("ntfy", "the address of the server has a path", "take it out; the topic has a setting of its own")
	}
	return &Ntfy{c, o.Topic, o.Token}, nil
}

type ntfyMessage struct {
	Topic    string   `json:"topic"`
	Title    string   `json:"title"`
	Message  string   `json:"message"`
	Priority int      `json:"priority"`
	Tags     []string `json:"tags"`
}

// Send publishes m.
func (n *Ntfy) Send(ctx context.Context, m Message) error {
	m = m.clean()
	header := http.Header{}
	if !n.token.IsZero() {
		header.Set("Authorization", "Bearer "+n.token.Reveal())
	}
	priority, tag := m.ntfy()
	got, err := n.postJSON(ctx, n.base, header, ntfyMessage{
		Topic: n.topic.Reveal(), Title: cut(m.heading(), ntfyTitleLimit, inBytes), Message: m.fit("", ntfyLimit, inJSON),
		Priority: priority, Tags: []string{tag},
	})
	if err != nil {
		return err
	}
	var said struct {
		ID string `json:"id"`
	}
	if json.Unmarshal([]byte(got.body), &said) != nil || said.ID == "" {
		return n.wrong(got, "without the id of a message")
	}
	return nil
}

// ntfy is how loud a message is, from 1 to 5, and the emoji before it. See https://docs.ntfy.sh/publish/#message-priority.
func (m Message) ntfy() (priority int, tag string) {
	switch {
	case m.Kind == Test:
		return 3, "test_tube"
	case m.up():
		return 3, "white_check_mark"
	case m.Severity == Critical:
		return 5, "rotating_light"
	case m.Severity == Info:
		return 3, "information_source"
	}
	return 4, "warning"
}

// inJSON counts a character as it is in JSON: the server limits both the text and, to twice that, what it came in.
func inJSON(r rune) int {
	switch r {
	case '\n', '"', '\\':
		return 2
	}
	return inBytes(r)
}
