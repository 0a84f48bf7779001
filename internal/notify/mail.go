package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"holdfast"
)

const (
	// mailLimit is how long sending one mail may take: servers let strangers wait.
	mailLimit = time.Minute
	// quitLimit is how long a server may take to say goodbye.
	quitLimit = 2 * time.Second
	// conversationLimit is how many bytes a server may say: each of its lines is kept in memory.
	conversationLimit = 1 << 20
	// scramRounds is how many rounds of hashing it may ask for: no context ends them.
	scramRounds = 1_000_000
	// subjectLimit and mailTextLimit keep a mail within what people read of it.
	subjectLimit  = 200
	mailTextLimit = 64 << 10
)

// Security says how a connection to a mail server is protected.
type Security string

// How connections are protected. None is for a server on this host alone.
const (
	StartTLS Security = "starttls" // TLS after the server offered it (RFC 3207); a server that does not is refused
	TLS      Security = "tls"      // TLS from the first byte (RFC 8314)
	None     Security = "none"
)

// MailOptions is how a [Mail] is sent.
type MailOptions struct {
	Host     string
	Port     int      // 0: 587 for StartTLS, 465 for TLS, 25 for None
	Security Security // "": StartTLS
	User     string   // "": the server asks for none
	Password holdfast.Secret
	From     string   // an address, with or without a name: "Backups <backups@example.com>"
	To       []string // at least one
}

// Mail sends plain text mails over SMTP (RFC 5321), with checked certificates.
type Mail struct {
	host     string
	port     int
	security Security
	user     string
	password holdfast.Secret
	from     *netmail.Address
	to       []*netmail.Address
	mask     masker

	international bool // an address is not in ASCII (RFC 6531)

	roots *x509.CertPool // of tests; nil: the system's
}

// NewMail checks options. It connects to nothing.
func NewMail(o MailOptions) (*Mail, error) {
	const kind = "mail"
	o.Security = cmp.Or(o.Security, StartTLS)
	ports := map[Security]int{StartTLS: 587, TLS: 465, None: 25}
	switch {
	case o.Host == "" || strings.ContainsFunc(o.Host, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }):
		return nil, usage(kind, fmt.Sprintf("host %q is not valid", o.Host), "write the name of the mail server")
	case strings.Contains(o.Host, ":") && net.ParseIP(o.Host) == nil:
		return nil, usage(kind, fmt.Sprintf("host %q is neither a name nor an address", o.Host), "write it alone, without brackets; the port has a setting of its own")
	case ports[o.Security] == 0:
		return nil, usage(kind, fmt.Sprintf("security %q is not known", o.Security), "use starttls, tls or none")
	case o.Security == None && !loopback(o.Host):
		return nil, usage(kind, "security none is for a server on this host", "use starttls or tls, or localhost as the host")
	case o.Port < 0 || o.Port > 65535:
		return nil, usage(kind, "the port is not valid", "use a port from 1 to 65535")
	case (o.User == "") != o.Password.IsZero():
		return nil, usage(kind, "of user and password one is missing", "give both, or none")
	case len(o.To) == 0:
		return nil, usage(kind, "it goes to nobody", "write at least one address")
	}
	m := &Mail{host: o.Host, port: cmp.Or(o.Port, ports[o.Security]), security: o.Security, user: o.User, password: o.Password}
	for i, text := range slices.Concat([]string{o.From}, o.To) {
		address, err := netmail.ParseAddress(text)
		if err != nil || controls(text) {
			return nil, usage(kind, fmt.Sprintf("%q is not a mail address", oneLine(text)), "write name@example.com, or A Name <name@example.com>")
		}
		m.international = m.international || strings.ContainsFunc(address.Address, func(r rune) bool { return r > unicode.MaxASCII })
		if i == 0 {
			m.from = address
		} else {
			m.to = append(m.to, address)
		}
	}
	// PLAIN sends both as one.
	m.mask = newMasker([]string{o.Password.Reveal(), base64.StdEncoding.EncodeToString([]byte("\x00" + o.User + "\x00" + o.Password.Reveal()))})
	return m, nil
}

func (m *Mail) String() string { return "mail " + m.host }

// Send sends one mail to all. When the server refuses some of the addresses, the others get it, and the error says which did not
// and wraps [ErrPartly].
func (m *Mail) Send(ctx context.Context, message Message) error {
	timed, cancel := context.WithTimeout(ctx, mailLimit)
	defer cancel()
	if err := m.deliver(timed, m.compose(message.clean())); err != nil {
		switch {
		case errors.Is(err, ErrPartly): // whatever ended after that
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", m, context.Cause(ctx))
		case timed.Err() != nil:
			return fmt.Errorf("%s: not sent within %s", m, mailLimit)
		}
		return err
	}
	return nil
}

func (m *Mail) failed(doing string, err error) error {
	return holdfast.WithHint(fmt.Errorf("%s: %s: %s", m, doing, m.mask.text(replied(err), causeShown)), holdfast.Hint(err))
}

// replied is an error as the server said it: quoted, secrets in it would be spelled in another way.
func replied(err error) string {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return fmt.Sprintf("%d %s", reply.Code, reply.Msg)
	}
	return err.Error()
}

// compose makes the mail. See RFC 3834 for what keeps others from answering it.
func (m *Mail) compose(message Message) *mail.Msg {
	made := mail.NewMsg(mail.WithNoDefaultUserAgent())
	made.FromMailAddress(m.from)
	made.ToMailAddress(m.to...)
	made.Subject(cut("[holdfast] "+message.alone(), subjectLimit, inUnits))
	made.SetDateWithValue(message.Time)
	domain := m.from.Address[strings.LastIndexByte(m.from.Address, '@')+1:]
	made.SetMessageIDWithValue(strings.ToLower(rand.Text()) + "@" + domain)
	made.SetGenHeader("Auto-Submitted", "auto-generated")
	made.SetBodyString(mail.TypeTextPlain, message.fit(message.heading(), mailTextLimit, inBytes)+"\n")
	return made
}

// deliver speaks with the server.
func (m *Mail) deliver(ctx context.Context, made *mail.Msg) error {
	// A mail server of one's own network has a name as a rule.
	dialer := &net.Dialer{Control: guard{m.host, m.security != None}.control}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(m.host, strconv.Itoa(m.port)))
	if err != nil {
		return m.failed("connect", err)
	}
	defer raw.Close()
	// The session knows no context: its connection is closed under it.
	defer context.AfterFunc(ctx, func() { raw.Close() })()

	settings := &tls.Config{ServerName: m.host, RootCAs: m.roots}
	var conn net.Conn = &bounded{raw, conversationLimit}
	if m.security == TLS {
		conn = tls.Client(conn, settings)
	}
	session, err := smtp.NewClient(conn, m.host)
	if err != nil {
		return m.failed("begin", err)
	}
	if err := m.enter(session, settings); err != nil {
		return err
	}
	refused, err := m.hand(session, made)
	if err != nil {
		return err
	}
	// The mail is taken; how the conversation ends changes nothing.
	_ = raw.SetDeadline(time.Now().Add(quitLimit))
	_ = session.Quit()
	if len(refused) > 0 {
		err = fmt.Errorf("%s: %w: the server refused %d of %d addresses: %s", m, ErrPartly, len(refused), len(m.to), strings.Join(refused, "; "))
		return holdfast.WithHint(err, "look whether these addresses still exist")
	}
	return nil
}

// enter greets the server, protects the connection and signs in.
func (m *Mail) enter(session *smtp.Client, settings *tls.Config) error {
	if err := session.Hello(ownName()); err != nil {
		return m.failed("greet", err)
	}
	if m.security == StartTLS {
		if offered, _ := session.Extension("STARTTLS"); !offered {
			return holdfast.WithHint(fmt.Errorf("%s: the server offers no encryption (STARTTLS) on port %d; nothing was sent to it", m, m.port),
				"use the port for mail programs, as a rule 587, or security tls with port 465")
		}
		if err := session.StartTLS(settings); err != nil {
			return m.failed("encrypt", err)
		}
	}
	if m.user == "" {
		return nil
	}
	_, offered := session.Extension("AUTH")
	auth := m.auth(strings.Fields(offered))
	if auth == nil {
		return holdfast.WithHint(fmt.Errorf("%s: the server offers no way to sign in that is known: %q", m, m.mask.text(offered, answerShown)),
			"take out user and password if it asks for none, or use another port")
	}
	if err := session.Auth(auth); err != nil {
		return holdfast.WithHint(m.failed("sign in", err), "look at user and password; some services want a password made for this program")
	}
	return nil
}

// auth picks the best of what is offered: the first two do not show the password to the server.
func (m *Mail) auth(offered []string) smtp.Auth {
	password, onHost := m.password.Reveal(), m.security == None
	switch {
	case slices.Contains(offered, "SCRAM-SHA-256"):
		return patient{smtp.ScramSHA256Auth(m.user, password)}
	case slices.Contains(offered, "SCRAM-SHA-1"):
		return patient{smtp.ScramSHA1Auth(m.user, password)}
	case slices.Contains(offered, "PLAIN"):
		return smtp.PlainAuth("", m.user, password, m.host, onHost)
	case slices.Contains(offered, "LOGIN"):
		return smtp.LoginAuth(m.user, password, m.host, onHost)
	}
	return nil
}

// hand gives the mail to the server for all addresses that it takes, and returns why it does not take the others.
func (m *Mail) hand(session *smtp.Client, made *mail.Msg) (refused []string, err error) {
	// A mail that asks for SMTPUTF8 without need (RFC 6531, section 3.2) is lost where the next server does not have it.
	if offered, _ := session.Extension("SMTPUTF8"); m.international && !offered {
		return nil, holdfast.WithHint(fmt.Errorf("%s: an address is not in ASCII, and the server does not take such (SMTPUTF8)", m),
			"write its domain as xn--…, or use another address")
	}
	session.SkipSMTPUTF8(!m.international)
	if err := session.Mail(path(m.from)); err != nil {
		return nil, m.failed("send from "+m.from.Address, err)
	}
	for _, to := range m.to {
		if err := session.Rcpt(path(to)); err != nil {
			refused = append(refused, fmt.Sprintf("%s (%s)", to.Address, m.mask.text(replied(err), answerShown)))
		}
	}
	if len(refused) == len(m.to) {
		return nil, m.failed("send", errors.New("every address was refused: "+strings.Join(refused, "; ")))
	}
	body, err := session.Data()
	if err != nil {
		return nil, m.failed("send", err)
	}
	if _, err := made.WriteTo(body); err != nil {
		return nil, m.failed("send", err)
	}
	if err := body.Close(); err != nil {
		return nil, m.failed("send", err)
	}
	return refused, nil
}

// path is an address as commands have it, in angle brackets and without a name: RFC 5321, section 4.1.2.
func path(address *netmail.Address) string {
	return (&netmail.Address{Address: address.Address}).String()
}

// bounded is a connection over which the other side can say so much and no more.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the server says too much")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// patient signs in with SCRAM (RFC 5802), but not at a server that would keep this host busy for as long as it likes.
type patient struct{ smtp.Auth }

func (p patient) Next(said []byte, more bool) ([]byte, error) {
	for part := range strings.SplitSeq(string(said), ",") {
		if text, is := strings.CutPrefix(part, "i="); more && is {
			if rounds, err := strconv.Atoi(text); err != nil || rounds < 1 || rounds > scramRounds {
				return nil, fmt.Errorf("it asks for %q rounds of hashing, from 1 to %d are done", text, scramRounds)
			}
		}
	}
	return p.Auth.Next(said, more)
}

// ownName is what this host calls itself to a mail server.
func ownName() string {
	name, err := os.Hostname()
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}
	if err != nil || name == "" || strings.ContainsFunc(name, odd) {
		return "localhost"
	}
	return name
}
