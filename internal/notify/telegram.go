package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"regexp"

	"holdfast"
)

const (
	telegramLimit  = 4096
	telegramServer = "https://api.telegram.org"
)

// TelegramOptions is where a [Telegram] leads.
type TelegramOptions struct {
	Token  holdfast.Secret // of the bot
	Chat   string          // number of a chat, or @name of a public channel
	Server string          // "": https://api.telegram.org
	Reach  Reach
}

// Telegram sends as a bot, as text without markup. See https://core.telegram.org/bots/api#sendmessage.
type Telegram struct {
	*client
	token holdfast.Secret
	chat  string
}

var (
	telegramToken = regexp.MustCompile(`^[0-9]+:[A-Za-z0-9_-]+$`)
	telegramChat  = regexp.MustCompile(`^(-?[0-9]+|@[A-Za-z0-9_]+)$`)
)

// NewTelegram checks options. It connects to nothing.
func NewTelegram(o TelegramOptions) (*Telegram, error) {
	if !telegramToken.MatchString(o.Token.Reveal()) {
		return nil, usage("telegram", "the token is not one of a bot", "it is a number, a colon, and letters, as BotFather shows it")
	}
	if !telegramChat.MatchString(o.Chat) {
		return nil, usage("telegram", "the chat is neither a number nor a name", "write the number of the chat, or @ and the name of a public channel")
	}
	c, err := newClient("telegram", cmp.Or(o.Server, telegramServer), o.Reach, o.Token)
	if err != nil {
		return nil, err
	}
	return &Telegram{c, o.Token, o.Chat}, nil
}

type telegramMessage struct {
	Chat    string          `json:"chat_id"`
	Text    string          `json:"text"`
	Preview telegramPreview `json:"link_preview_options"`
}

type telegramPreview struct {
	Disabled bool `json:"is_disabled"`
}

// Send sends m to the chat.
func (t *Telegram) Send(ctx context.Context, m Message) error {
	m = m.clean()
	got, err := t.postJSON(ctx, t.base.JoinPath("bot"+t.token.Reveal(), "sendMessage"), nil, telegramMessage{
		Chat: t.chat, Text: m.fit(m.heading(), telegramLimit, inUnits), Preview: telegramPreview{true},
	})
	if err != nil {
		return err
	}
	if !saysOK(got.body) {
		return t.wrong(got, `without "ok": true`)
	}
	return nil
}

// saysOK reports whether a body is JSON with a true "ok", as that of Telegram and of Uptime Kuma.
func saysOK(body string) bool {
	var said struct {
		OK bool `json:"ok"`
	}
	return json.Unmarshal([]byte(body), &said) == nil && said.OK
}
