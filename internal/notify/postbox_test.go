package notify_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"holdfast/internal/notify"
)

const mailPassword = "canary pass/1"

// postbox is a mail server that keeps what it got.
type postbox struct {
	port  int
	roots *x509.CertPool

	mu    sync.Mutex
	wire  bytes.Buffer // guarded by mu: all that clients sent, decrypted
	mails []letter     // guarded by mu
	from  string       // guarded by mu
	to    []string     // guarded by mu
}

type letter struct {
	from string
	to   []string
	raw  string
}

// Write keeps what went over the wire, in both directions.
func (p *postbox) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wire.Write(data)
}

func (p *postbox) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wire.String()
}

func (p *postbox) letters() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.mails)
}

// session is one conversation with a postbox.
type session struct {
	box        *postbox
	mechanisms []string
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string { return s.mechanisms }

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user == "holdfast" && password == mailPassword {
			return nil
		}
		encode := base64.StdEncoding.EncodeToString
		said := []string{password, encode([]byte(password)), encode([]byte("\x00" + user + "\x00" + password))}
		return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no such account: " + user + ", " + strings.Join(said, ", ")}
	}
	if mechanism == sasl.Login {
		return &login{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

// login is the server's side of LOGIN.
type login struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *login) Next(answer []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(answer)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(answer))
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.from, s.box.to = from, nil
	if from == "refused@example.com" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not from you"}
	}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "gone") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such person"}
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.to = append(s.box.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if slices.Contains(s.box.to, "full@example.com") {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "no room; " + mailPassword}
	}
	s.box.mails = append(s.box.mails, letter{s.box.from, s.box.to, string(raw)})
	return nil
}

// newPostbox starts a server with a certificate for 127.0.0.1. Without encryption it offers none.
func newPostbox(t *testing.T, security notify.Security, encryption bool, mechanisms ...string) *postbox {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certified.Close()
	box := &postbox{roots: x509.NewCertPool()}
	box.roots.AddCert(certified.Certificate())

	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box, mechanisms}, nil }))
	server.Domain, server.AllowInsecureAuth, server.Debug = "mail.example.com", true, box
	server.ErrorLog = log.New(io.Discard, "", 0)
	settings := &tls.Config{Certificates: certified.TLS.Certificates}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box.port = listener.Addr().(*net.TCPAddr).Port
	switch {
	case security == notify.TLS:
		listener = tls.NewListener(listener, settings)
	case encryption:
		server.TLSConfig = settings
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		listener.Close() // the server may not have begun
		<-ended
	})
	return box
}

func (p *postbox) options(security notify.Security) notify.MailOptions {
	return notify.MailOptions{
		Host: "127.0.0.1", Port: p.port, Security: security, User: "holdfast", Password: secret(mailPassword),
		From: "Bäckups <backups@example.com>", To: []string{"one@example.com", `"Two, the Second" <two@example.org>`},
	}
}

func (p *postbox) open(t *testing.T, o notify.MailOptions) *notify.Mail {
	t.Helper()
	channel, err := notify.NewMail(o)
	if err != nil {
		t.Fatal(err)
	}
	notify.Trust(channel, p.roots)
	return channel
}
