package notify

import (
	"context"
	"net/http"

	"holdfast"
)

const (
	discordLimit     = 2000
	discordNoPreview = 1 << 2 // SUPPRESS_EMBEDS
)

// DiscordOptions is where a [Discord] leads.
type DiscordOptions struct {
	URL   holdfast.Secret // of the webhook
	Reach Reach
}

// Discord posts to a webhook of Discord. See https://docs.discord.com/developers/resources/webhook.
type Discord struct{ *client }

// NewDiscord checks options. It connects to nothing.
func NewDiscord(o DiscordOptions) (*Discord, error) {
	c, err := newClient("discord", o.URL.Reveal(), o.Reach)
	if err != nil {
		return nil, err
	}
	// With wait the answer to a message that was taken would be another one.
	query := c.base.Query()
	query.Del("wait")
	c.base.RawQuery = query.Encode()
	return &Discord{c}, nil
}

type discordMessage struct {
	Content  string          `json:"content"`
	Mentions discordMentions `json:"allowed_mentions"`
	Flags    int             `json:"flags"`
}

type discordMentions struct {
	Parse []string `json:"parse"`
}

// Send posts m.
func (d *Discord) Send(ctx context.Context, m Message) error {
	m = m.clean()
	got, err := d.postJSON(ctx, d.base, nil, discordMessage{
		Content: m.fit(m.heading(), discordLimit, inUnits), Mentions: discordMentions{[]string{}}, Flags: discordNoPreview,
	})
	if err != nil {
		return err
	}
	if got.status != http.StatusNoContent {
		return d.wrong(got, "not 204")
	}
	return nil
}
