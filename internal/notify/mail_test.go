package notify_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/notify"
)

// quiet fails when an error shows the password, in whatever spelling.
func quiet(t *testing.T, channel notify.Channel, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("sent")
	}
	for _, part := range append(want, channel.String()+": ") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want %q in it", err, part)
		}
	}
	encode := base64.StdEncoding.EncodeToString
	for _, word := range []string{"canary", encode([]byte(mailPassword))[:8], encode([]byte("\x00holdfast\x00" + mailPassword))[:16]} {
		if strings.Contains(err.Error()+holdfast.Hint(err), word) {
			t.Errorf("%q shows the password", err)
		}
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) || len(err.Error()) > 500 {
		t.Errorf("not fit to be shown: %q", err)
	}
}

func TestMail(t *testing.T) {
	for _, test := range []struct {
		name       string
		security   notify.Security
		mechanisms []string
		nobody     bool // without a user
	}{
		{name: "the default", security: "", mechanisms: []string{"PLAIN"}},
		{name: "STARTTLS", security: notify.StartTLS, mechanisms: []string{"LOGIN", "PLAIN"}},
		{name: "LOGIN alone", security: notify.StartTLS, mechanisms: []string{"LOGIN"}},
		{name: "SCRAM-SHA-256", security: notify.StartTLS, mechanisms: []string{"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"}},
		{name: "SCRAM-SHA-1", security: notify.TLS, mechanisms: []string{"LOGIN", "PLAIN", "SCRAM-SHA-1"}},
		{name: "without a user", security: notify.StartTLS, nobody: true},
		{name: "TLS", security: notify.TLS, mechanisms: []string{"PLAIN"}},
		{name: "LOGIN over TLS", security: notify.TLS, mechanisms: []string{"LOGIN"}},
		{name: "in plain text on this host", security: notify.None, nobody: true},
		{name: "in plain text with a password", security: notify.None, mechanisms: []string{"PLAIN"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			box := newPostbox(t, test.security, true, test.mechanisms...)
			options := box.options(test.security)
			if test.nobody {
				options.User, options.Password = "", holdfast.Secret{}
			}
			channel := box.open(t, options)
			for _, m := range []notify.Message{alarm, hostile} {
				if err := channel.Send(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			letters := box.letters()
			if len(letters) != 2 {
				t.Fatalf("%d mails", len(letters))
			}
			checkLetter(t, letters[0], "[holdfast] CRITICAL: the newest backup does not restore (host db1, job orders, store offsite)",
				"CRITICAL: the newest backup does not restore\n2 of 14 tables differ.\nThe last good drill was 3 days ago.\n"+
					"What to do: look at the report: holdfast report orders\nRead on: https://runbooks.example.com/drill_failed?job=orders&a=b\n"+
					"Since: 2026-10-04 03:00 UTC\nAbout: host db1, job orders, store offsite\n")
			checkLetter(t, letters[1], "[holdfast] WARNING: <!channel> & \"quotes\" Subject: other [31m "+
				"(host db1 Bcc: all@example.com body, job <@everyone>, store a b c d, volume v X-Volume: 1)",
				"WARNING: <!channel> & \"quotes\" Subject: other [31m\none\ntwo\n.\n<b>&amp;</b> \ufffd\nWhat to do: a\nb\n"+
					"About: host db1 Bcc: all@example.com body, job <@everyone>, store a b c d, volume v X-Volume: 1\n")
			ids := []string{letters[0].header(t).Get("Message-ID"), letters[1].header(t).Get("Message-ID")}
			if ids[0] == ids[1] || !strings.HasSuffix(ids[0], "@example.com>") || len(ids[0]) < 30 {
				t.Errorf("message IDs %q", ids)
			}
			said := box.said()
			for _, command := range []string{"MAIL FROM:<backups@example.com> ", "RCPT TO:<one@example.com>\r\n", "RCPT TO:<two@example.org>\r\n"} {
				if !strings.Contains(said, "\n"+command) {
					t.Errorf("%q was not sent: %q", command, said)
				}
			}
			if strings.HasPrefix(test.name, "SCRAM") && (!strings.Contains(said, "AUTH "+test.name+"\r\n") ||
				strings.Contains(said, "\nAUTH PLAIN") || strings.Contains(said, "\nAUTH LOGIN")) {
				t.Errorf("signed in otherwise: %q", said)
			}
			encrypted := strings.Contains(said, "STARTTLS\r\n220")
			if starts := test.security == notify.StartTLS || test.security == ""; starts != encrypted {
				t.Errorf("STARTTLS: %v", encrypted)
			}
		})
	}
}

func (l letter) header(t *testing.T) netmail.Header {
	t.Helper()
	read, err := netmail.ReadMessage(strings.NewReader(l.raw))
	if err != nil {
		t.Fatal(err)
	}
	return read.Header
}

// checkLetter reads a mail as its receiver does.
func checkLetter(t *testing.T, l letter, subject, text string) {
	t.Helper()
	if l.from != "backups@example.com" || !slices.Equal(l.to, []string{"one@example.com", "two@example.org"}) {
		t.Errorf("from %s to %s", l.from, l.to)
	}
	header := l.header(t)
	var names []string
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
	if !slices.Equal(names, want) {
		t.Errorf("headers %s, want %s", names, want)
	}
	decoder := new(mime.WordDecoder)
	if got, err := decoder.DecodeHeader(header.Get("Subject")); err != nil || got != subject {
		t.Errorf("subject %q, want %q: %v", got, subject, err)
	}
	sender := netmail.Address{Name: "Bäckups", Address: "backups@example.com"}
	if from, err := header.AddressList("From"); err != nil || len(from) != 1 || *from[0] != sender {
		t.Errorf("from %v: %v", from, err)
	}
	if to, err := header.AddressList("To"); err != nil || len(to) != 2 || *to[1] != (netmail.Address{Name: "Two, the Second", Address: "two@example.org"}) {
		t.Errorf("to %v: %v", to, err)
	}
	if date, err := header.Date(); err != nil || date.Unix() != now.Unix() {
		t.Errorf("date %v: %v", date, err)
	}
	if got := header.Get("Auto-Submitted"); got != "auto-generated" {
		t.Errorf("Auto-Submitted: %s", got)
	}
	kind, options, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "text/plain" || !strings.EqualFold(options["charset"], "utf-8") {
		t.Errorf("Content-Type %s %v: %v", kind, options, err)
	}
	_, body, _ := strings.Cut(l.raw, "\r\n\r\n")
	decoded, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if got := strings.TrimRight(strings.ReplaceAll(string(decoded), "\r\n", "\n"), "\n") + "\n"; err != nil || got != text {
		t.Errorf("text %q, want %q: %v", got, text, err)
	}
	for line := range strings.SplitSeq(l.raw, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a line of %d bytes: %.80q", len(line), line)
		}
	}
}

// A server without encryption gets neither a password nor a mail.
func TestMailWithoutEncryption(t *testing.T) {
	box := newPostbox(t, notify.StartTLS, false, "PLAIN")
	channel := box.open(t, box.options(notify.StartTLS))
	err := channel.Send(t.Context(), alarm)
	quiet(t, channel, err, "the server offers no encryption (STARTTLS) on port "+strconv.Itoa(box.port)+"; nothing was sent to it")
	if !strings.Contains(holdfast.Hint(err), "587") {
		t.Errorf("the hint is %q", holdfast.Hint(err))
	}
	said := box.said()
	if !strings.Contains(said, "EHLO ") {
		t.Errorf("nothing was kept: %q", said)
	}
	for _, word := range []string{"AUTH ", "MAIL FROM", "DATA", "orders", "example.org"} {
		if strings.Contains(strings.ReplaceAll(said, "250-AUTH", ""), word) {
			t.Errorf("%q was sent: %q", word, said)
		}
	}
}

func TestMailRefused(t *testing.T) {
	change := func(change func(*notify.MailOptions)) func(notify.MailOptions) notify.MailOptions {
		return func(o notify.MailOptions) notify.MailOptions { change(&o); return o }
	}
	to := func(addresses ...string) func(notify.MailOptions) notify.MailOptions {
		return change(func(o *notify.MailOptions) { o.To = addresses })
	}
	stranger := change(func(o *notify.MailOptions) { o.User = "nobody" })
	for _, test := range []struct {
		name       string
		options    func(notify.MailOptions) notify.MailOptions
		mechanisms string
		want       string
		partly     []string // who got it all the same
	}{
		{name: "a wrong user, and a server that repeats the password", options: stranger,
			want: "sign in: 535 5.7.8 no such account: nobody, ********, ********, ********"},
		{name: "LOGIN with a wrong user", options: stranger, mechanisms: "LOGIN", want: "sign in: 535 "},
		{name: "no way to sign in", options: to("one@example.com"), mechanisms: "XOAUTH2", want: `no way to sign in that is known: "XOAUTH2"`},
		{name: "a sender", options: change(func(o *notify.MailOptions) { o.From = "refused@example.com" }),
			want: "send from refused@example.com: 550 5.7.1 not from you"},
		{name: "all addresses", options: to("gone@example.com", "gone2@example.com"),
			want: "every address was refused: gone@example.com (550 5.1.1 no such person); gone2@"},
		{name: "one address", options: to("gone@example.com", "one@example.com"), partly: []string{"one@example.com"},
			want: "not all were told: the server refused 1 of 2 addresses: gone@example.com (550 5.1.1 no such person)"},
		{name: "the mail", options: to("full@example.com"), want: "send: 452 4.2.2 no room; ********"},
		{name: "a certificate for another name", options: change(func(o *notify.MailOptions) { o.Host = "localhost" }), want: "certificate is valid for"},
	} {
		for _, security := range []notify.Security{notify.StartTLS, notify.TLS} {
			t.Run(test.name+" "+string(security), func(t *testing.T) {
				t.Parallel()
				box := newPostbox(t, security, true, cmp.Or(test.mechanisms, "PLAIN"))
				channel := box.open(t, test.options(box.options(security)))
				err := channel.Send(t.Context(), alarm)
				quiet(t, channel, err, test.want)
				letters := box.letters()
				if len(test.partly) == 0 {
					if len(letters) != 0 || errors.Is(err, notify.ErrPartly) {
						t.Errorf("%d mails", len(letters))
					}
					return
				}
				if len(letters) != 1 || !slices.Equal(letters[0].to, test.partly) || !errors.Is(err, notify.ErrPartly) {
					t.Errorf("got %v, %v", letters, err)
				}
			})
		}
	}
}

func TestMailUntrusted(t *testing.T) {
	for _, security := range []notify.Security{notify.StartTLS, notify.TLS} {
		box := newPostbox(t, security, true, "PLAIN")
		channel, err := notify.NewMail(box.options(security))
		if err != nil {
			t.Fatal(err)
		}
		quiet(t, channel, channel.Send(t.Context(), alarm), "failed to verify certificate")
		if said := box.said(); strings.Contains(said, "MAIL") || strings.Contains(said, "AUTH PLAIN ") || len(box.letters()) != 0 {
			t.Errorf("%s: %q", security, said)
		}
	}
}

func TestMailInterrupted(t *testing.T) {
	for _, security := range []notify.Security{notify.StartTLS, notify.TLS, notify.None} {
		ctx, cancel := context.WithCancelCause(t.Context())
		port := accepts(t, func(conn net.Conn) {
			cancel(holdfast.ErrInterrupted)
			_, _ = io.Copy(io.Discard, conn) // without a word, until the client hangs up
		})
		channel, err := notify.NewMail(notify.MailOptions{Host: "127.0.0.1", Port: port, Security: security, From: "a@example.com", To: []string{"b@example.com"}})
		if err != nil {
			t.Fatal(err)
		}
		err = channel.Send(ctx, alarm)
		quiet(t, channel, err)
		if !errors.Is(err, holdfast.ErrInterrupted) {
			t.Errorf("%s: %v", security, err)
		}
	}
}

func TestMailNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	options := notify.MailOptions{Host: "127.0.0.1", Port: port, From: "a@example.com", To: []string{"b@example.com"}}
	channel, err := notify.NewMail(options)
	if err != nil {
		t.Fatal(err)
	}
	quiet(t, channel, channel.Send(t.Context(), alarm), "connect: ", "connection refused")

	options.Host = "169.254.169.254"
	if channel, err = notify.NewMail(options); err != nil {
		t.Fatal(err)
	}
	if err := channel.Send(t.Context(), alarm); err == nil || !strings.Contains(err.Error(), "it is link-local") || holdfast.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
}

// A mail of any length arrives, shortened where nobody would read on.
func TestMailLong(t *testing.T) {
	box := newPostbox(t, notify.TLS, true, "PLAIN")
	channel := box.open(t, box.options(notify.TLS))
	m := with(alarm, func(m *notify.Message) { m.Title, m.Text = strings.Repeat("é ", 5000), strings.Repeat("é", 500_000) })
	if err := channel.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := box.letters()[0]
	subject, err := new(mime.WordDecoder).DecodeHeader(got.header(t).Get("Subject"))
	if err != nil || len([]rune(subject)) != 200 || !strings.HasSuffix(subject, "…") {
		t.Errorf("subject of %d: %v", len([]rune(subject)), err)
	}
	if !strings.Contains(got.raw, "What to do") || len(got.raw) > 400<<10 {
		t.Errorf("%d bytes", len(got.raw))
	}
}

func TestMailOptions(t *testing.T) {
	good := notify.MailOptions{Host: "smtp.example.com", From: "a@example.com", To: []string{"b@example.com"}}
	if channel, err := notify.NewMail(good); err != nil || channel.String() != "mail smtp.example.com" {
		t.Errorf("got %v, %v", channel, err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "127.9.9.9"} {
		o := good
		o.Host, o.Security = host, notify.None
		if _, err := notify.NewMail(o); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for name, change := range map[string]func(*notify.MailOptions){
		"no host":                     func(o *notify.MailOptions) { o.Host = "" },
		"a host with a line break":    func(o *notify.MailOptions) { o.Host = "smtp.example.com\r\nX" },
		"a host with a port":          func(o *notify.MailOptions) { o.Host = "smtp.example.com:587" },
		"an address in brackets":      func(o *notify.MailOptions) { o.Host = "[2001:db8::1]" },
		"a socket":                    func(o *notify.MailOptions) { o.Host = "unix:///run/smtp" },
		"plain text over the network": func(o *notify.MailOptions) { o.Security = notify.None },
		"a name that begins as it":    func(o *notify.MailOptions) { o.Security, o.Host = notify.None, "localhost.example.com" },
		"another security":            func(o *notify.MailOptions) { o.Security = "ssl" },
		"a port":                      func(o *notify.MailOptions) { o.Port = 65536 },
		"a negative port":             func(o *notify.MailOptions) { o.Port = -1 },
		"no password":                 func(o *notify.MailOptions) { o.User = "u" },
		"no user":                     func(o *notify.MailOptions) { o.Password = secret("canary") },
		"nobody":                      func(o *notify.MailOptions) { o.To = nil },
		"no sender":                   func(o *notify.MailOptions) { o.From = "" },
		"no address":                  func(o *notify.MailOptions) { o.To = []string{"b@example.com", "b"} },
		"two in one":                  func(o *notify.MailOptions) { o.To = []string{"b@example.com, c@example.com"} },
		"a header in an address":      func(o *notify.MailOptions) { o.To = []string{"b@example.com\r\nBcc: c@example.com"} },
		"a tab in a name":             func(o *notify.MailOptions) { o.From = "\"a\tb\" <b@example.com>" },
		"a header in a name":          func(o *notify.MailOptions) { o.From = "\"a\r\n Bcc: c@example.com\" <b@example.com>" },
	} {
		o := good
		change(&o)
		_, err := notify.NewMail(o)
		if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" || strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %q", name, err)
		}
	}
}
