package notify_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/notify"
)

// What is asked of a server is what a mail needs: one that asks for more is lost at the next server that does not have it.
func TestMailInternational(t *testing.T) {
	for _, test := range []struct {
		name, to      string
		international bool
		sent, want    string
	}{
		{"needless", "one@example.com", true, "MAIL FROM:<backups@example.com> BODY=8BITMIME\r\n", ""},
		{"needed", "één@bücher.example", true, "MAIL FROM:<backups@example.com> BODY=8BITMIME SMTPUTF8\r\n", ""},
		{"not to be had", "één@bücher.example", false, "", "an address is not in ASCII, and the server does not take such (SMTPUTF8)"},
		{"a quoted name", `"odd > one"@example.com`, false, `RCPT TO:<"odd > one"@example.com>` + "\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			box := startPostbox(t, notify.StartTLS, true, test.international, "PLAIN")
			o := box.options(notify.StartTLS)
			o.To = []string{test.to}
			channel := box.open(t, o)
			err := channel.Send(t.Context(), alarm)
			if test.want != "" {
				quiet(t, channel, err, test.want)
				if holdfast.Hint(err) == "" || strings.Contains(box.said(), "MAIL FROM") {
					t.Errorf("sent all the same, or without a hint: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if said := box.said(); !strings.Contains(said, test.sent) || strings.Count(said, "RCPT TO") != 1 {
				t.Errorf("%q was not sent: %q", test.sent, said)
			}
		})
	}
}

// No server keeps this host busy for as long as it likes.
func TestMailRounds(t *testing.T) {
	box := newPostbox(t, notify.StartTLS, true, "SCRAM-SHA-256")
	box.rounds = 20_000_000
	channel := box.open(t, box.options(notify.StartTLS))
	quiet(t, channel, channel.Send(t.Context(), alarm), `sign in: it asks for "20000000" rounds of hashing`)
}

// accepts takes one connection and does something with it, at a port of this host.
func accepts(t *testing.T, do func(net.Conn)) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-ended })
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		do(conn)
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// spoken is a mail server that says what answer returns to each line of a client, and nothing to "".
func spoken(t *testing.T, answer func(line string) string) int {
	t.Helper()
	return accepts(t, func(conn net.Conn) {
		lines := bufio.NewScanner(conn)
		for more := true; more; more = lines.Scan() {
			if _, err := io.WriteString(conn, answer(lines.Text())); err != nil {
				return
			}
		}
	})
}

// conversation answers as a mail server does that knows one of two people, and calls quit at the end, which it does not answer.
func conversation(quit func()) func(line string) string {
	text := false
	return func(line string) string {
		verb, _, _ := strings.Cut(line, ":")
		switch verb, _, _ = strings.Cut(verb, " "); {
		case text && line != ".":
			return ""
		case verb == "":
			return "220 hello\r\n"
		case verb == "DATA":
			text = true
			return "354 go ahead\r\n"
		case verb == "QUIT":
			quit()
			return ""
		case strings.Contains(line, "gone"):
			return "550 no such person\r\n"
		}
		text = false
		return "250 fine\r\n"
	}
}

// When a mail is taken, nothing that comes after makes it another end: it would be sent again, to those who have it.
func TestMailWithoutGoodbye(t *testing.T) {
	open := func(t *testing.T, quit func(), to ...string) notify.Channel {
		t.Helper()
		channel, err := notify.NewMail(notify.MailOptions{
			Host: "127.0.0.1", Port: spoken(t, conversation(quit)), Security: notify.None, From: "a@example.com", To: to,
		})
		if err != nil {
			t.Fatal(err)
		}
		return channel
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		channel := open(t, func() { cancel(holdfast.ErrInterrupted) }, "b@example.com")
		if err := channel.Send(ctx, alarm); err != nil {
			t.Error(err)
		}
	})
	t.Run("interrupted when some have it", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		channel := open(t, func() { cancel(holdfast.ErrInterrupted) }, "b@example.com", "gone@example.com")
		if err := channel.Send(ctx, alarm); !errors.Is(err, notify.ErrPartly) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a server that keeps silent", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		channel := open(t, func() {}, "b@example.com")
		if err := channel.Send(t.Context(), alarm); err != nil || time.Since(began) > 30*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// A server that goes on and on does not fill the memory.
func TestMailEndless(t *testing.T) {
	port := spoken(t, func(string) string { return strings.Repeat("220-and more\r\n", 1<<18) })
	channel, err := notify.NewMail(notify.MailOptions{Host: "127.0.0.1", Port: port, Security: notify.None, From: "a@example.com", To: []string{"b@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	quiet(t, channel, channel.Send(t.Context(), alarm), "begin: the server says too much")
}
