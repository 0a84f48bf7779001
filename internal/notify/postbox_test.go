package notify_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"hash"
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
	port   int
	roots  *x509.CertPool
	rounds int // of SCRAM

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
	switch mechanism {
	case sasl.Login:
		return &login{check: check}, nil
	case "SCRAM-SHA-256":
		return &scram{rounds: s.box.rounds, hash: sha256.New}, nil
	case "SCRAM-SHA-1":
		return &scram{rounds: s.box.rounds, hash: sha1.New}, nil
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

// scram is the server's side of RFC 5802, for one user.
type scram struct {
	rounds int
	hash   func() hash.Hash

	step    int
	told    string // what both sides sign
	nonce   string
	salted  []byte
	claimed bool
}

func (s *scram) mac(key []byte, text string) []byte {
	mac := hmac.New(s.hash, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func (s *scram) Next(answer []byte) (challenge []byte, done bool, err error) {
	s.step++
	switch s.step {
	case 1:
		return []byte{}, false, nil
	case 2:
		first, _ := strings.CutPrefix(string(answer), "n,,")
		user, nonce, _ := strings.Cut(first, ",r=")
		s.claimed = user == "n=holdfast"
		s.nonce = nonce + "server"
		said := fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString([]byte("salt")), s.rounds)
		s.told = first + "," + said
		return []byte(said), false, nil
	case 3:
		final, text, _ := strings.Cut(string(answer), ",p=")
		proof, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, true, err
		}
		if s.salted, err = pbkdf2.Key(s.hash, mailPassword, []byte("salt"), s.rounds, s.hash().Size()); err != nil {
			return nil, true, err
		}
		key := s.mac(s.salted, "Client Key")
		stored := s.hash()
		stored.Write(key)
		s.told += "," + final
		for i, b := range s.mac(stored.Sum(nil), s.told) {
			key[i] ^= b
		}
		if !s.claimed || final != "c=biws,r="+s.nonce || !hmac.Equal(key, proof) {
			return nil, true, smtp.ErrAuthFailed
		}
		return []byte("v=" + base64.StdEncoding.EncodeToString(s.mac(s.mac(s.salted, "Server Key"), s.told))), false, nil
	}
	return nil, true, nil
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
	return startPostbox(t, security, encryption, false, mechanisms...)
}

// startPostbox starts one that takes international addresses (RFC 6531), or does not.
func startPostbox(t *testing.T, security notify.Security, encryption, international bool, mechanisms ...string) *postbox {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certified.Close()
	box := &postbox{roots: x509.NewCertPool(), rounds: 4096}
	box.roots.AddCert(certified.Certificate())

	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box, mechanisms}, nil }))
	server.Domain, server.AllowInsecureAuth, server.Debug, server.EnableSMTPUTF8 = "mail.example.com", true, box, international
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
