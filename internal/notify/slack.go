package notify

import (
	"context"
	"strings"

	"holdfast"
)

// slackLimit is how long a text may be for Slack to show it in one piece.
const slackLimit = 3000

// SlackOptions is where a [Slack] leads.
type SlackOptions struct {
	URL   holdfast.Secret // of the incoming webhook
	Reach Reach
}

// Slack posts to an incoming webhook of Slack, or of what speaks like it.
// See https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
type Slack struct{ *client }

// NewSlack checks options. It connects to nothing.
func NewSlack(o SlackOptions) (*Slack, error) {
	c, err := newClient("slack", o.URL.Reveal(), o.Reach)
	if err != nil {
		return nil, err
	}
	return &Slack{c}, nil
}

type slackMessage struct {
	Text        string `json:"text"`
	Markdown    bool   `json:"mrkdwn"`
	UnfurlLinks bool   `json:"unfurl_links"`
	UnfurlMedia bool   `json:"unfurl_media"`
}

// Send posts m.
func (s *Slack) Send(ctx context.Context, m Message) error {
	m = m.clean()
	got, err := s.postJSON(ctx, s.base, nil, slackMessage{Text: slackEscape(m.fit(m.heading(), slackLimit, inSlack))})
	if err != nil {
		return err
	}
	if strings.TrimSpace(got.body) != "ok" {
		return s.wrong(got, `not "ok"`)
	}
	return nil
}

// slackEscape takes from a text the three characters that make mentions and links, whether or not it is read as markup.
// See https://docs.slack.dev/messaging/formatting-message-text.
func slackEscape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// inSlack counts a character as it is after slackEscape.
func inSlack(r rune) int {
	switch r {
	case '&':
		return len("&amp;")
	case '<', '>':
		return len("&lt;")
	}
	return inUnits(r)
}
