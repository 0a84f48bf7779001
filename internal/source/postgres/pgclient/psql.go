package pgclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// psql is a session by a psql that runs at a site, its input and output attached to us.
//
// Each statement travels as a literal: SELECT 'the statement' \gexec has the server return it and psql send it, so that
// psql's own language plays no part. What it prints are rows, each ended by a random word, values apart by NUL, which no
// text can hold, and NULLs as another random word. \echo and \warn then end both of its outputs, which come by ways that
// know nothing of each other.
type psql struct {
	process *Process
	heard   *hearing
	end     context.CancelFunc // ends psql where its input does not
	words   psqlWords
	closed  bool
	gone    chan struct{} // closed when psql has ended and all that it said was heard
	status  error         // what it came to, then
}

// psqlWords are what tells data from all else in psql's output.
type psqlWords struct{ null, row, verdict, end string }

var _ Session = (*psql)(nil)

// hearing collects what psql says to one statement.
type hearing struct {
	last []byte        // ends both outputs
	news chan struct{} // has a token when something came

	mu        sync.Mutex // guards what follows
	out, said []byte
}

func (h *hearing) take(to *[]byte, p []byte) (int, error) {
	h.mu.Lock()
	*to = append(*to, p...)
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// ear takes one of the two outputs.
type ear struct {
	hearing *hearing
	to      *[]byte
}

func (e ear) Write(p []byte) (int, error) { return e.hearing.take(e.to, p) }

func (h *hearing) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out, h.said = h.out[:0], h.said[:0]
}

// whole reports whether both outputs have come to their end, and returns them.
func (h *hearing) whole() (out, said string, whole bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	whole = bytes.HasSuffix(h.out, h.last) && bytes.HasSuffix(h.said, h.last)
	if !whole {
		return "", string(h.said), false
	}
	return strings.TrimSuffix(string(h.out), string(h.last)), strings.TrimSuffix(string(h.said), string(h.last)), true
}

// OpenPsql opens a session by running a psql at site.
func OpenPsql(ctx context.Context, site Site, program Program, p Params) (Session, error) {
	s := &psql{gone: make(chan struct{}), words: psqlWords{null: rand.Text(), row: rand.Text(), verdict: rand.Text(), end: rand.Text()}}
	s.heard = &hearing{last: []byte(s.words.end + "\n"), news: make(chan struct{}, 1)}
	var life context.Context
	life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	s.process, err = site.Start(life, Command{Path: program.Path, Params: p, Stdin: true, End: syscall.SIGINT, // cancels its statement
		Stdout: ear{s.heard, &s.heard.out}, Stderr: ear{s.heard, &s.heard.said}, Env: []string{"PGCLIENTENCODING=UTF8"},
		Args: []string{"--no-psqlrc", "--quiet", "--no-password", "--no-align", "--field-separator-zero",
			"--record-separator=" + s.words.row, "--pset=footer=off", "--pset=null=" + s.words.null, "--set=VERBOSITY=verbose"}})
	if err != nil {
		s.end()
		return nil, err
	}
	go func() {
		defer close(s.gone)
		s.status = s.process.Wait()
	}()
	if _, err := s.Query(ctx, pinSession); err != nil {
		unasked := s.closed && ctx.Err() == nil // it ended by itself: it could not connect
		s.Close()                               // after an error that says more
		if _, said, _ := s.heard.whole(); unasked {
			return nil, explainPsql(said, s.status, err, p)
		}
		return nil, err
	}
	return s, nil
}

// Query runs one statement. Where a statement reads or writes rows by COPY, there are none.
func (s *psql) Query(ctx context.Context, sql string) (Rows, error) {
	switch {
	case s.closed:
		return Rows{}, errors.New("the session has ended")
	case ctx.Err() != nil:
		return Rows{}, context.Cause(ctx)
	case strings.ContainsRune(sql, 0):
		return Rows{}, errors.New("a statement holds a NUL")
	}
	s.heard.forget()
	// A COPY FROM STDIN would read what follows: \. is its end, and otherwise a command that psql does not know.
	_, err := fmt.Fprintf(s.process.Stdin, "SELECT %s \\gexec\n\\.\n\\echo %s :ERROR\n\\echo %s\n\\warn %s\n",
		oneLine(sql), s.words.verdict, s.words.end, s.words.end)
	if err != nil {
		s.finish() // psql has gone
		return Rows{}, s.why()
	}
	for {
		out, said, whole := s.heard.whole()
		if whole {
			return s.words.judge(out, said)
		}
		select {
		case <-s.heard.news:
		case <-s.gone:
			if _, _, whole := s.heard.whole(); whole {
				continue
			}
			s.finish()
			return Rows{}, s.why()
		case <-ctx.Done():
			s.end()
			s.finish()
			return Rows{}, context.Cause(ctx)
		}
	}
}

// judge reads what psql said to one statement.
func (w psqlWords) judge(out, said string) (Rows, error) {
	at := strings.LastIndex(out, w.verdict)
	if at < 0 {
		return Rows{}, errors.New("psql gave no verdict of a statement")
	}
	switch verdict := strings.TrimSpace(out[at+len(w.verdict):]); verdict {
	case "false":
		return w.parse(out[:at])
	case "true":
		return Rows{}, readRefusal(said)
	default:
		return Rows{}, fmt.Errorf("psql gave the verdict %q of a statement", verdict)
	}
}

// A server's message as psql tells it with VERBOSITY=verbose. The word before the SQLSTATE is in the server's language.
var (
	refusalLine = regexp.MustCompile(`(?m)^(?:psql:[^\n]*?:\d+: )?[^\s:]{1,40}:  ([0-9A-Z]{5}): `)
	moreLine    = regexp.MustCompile(`(?m)^(?:[^\s:]{1,40}:  |LINE \d+: |psql:)`)
)

// readRefusal finds the last message of the server in what psql said.
func readRefusal(said string) *Error {
	list := refusalLine.FindAllStringSubmatchIndex(said, -1)
	if len(list) == 0 {
		return &Error{Message: strings.Join(strings.Fields(said), " ")}
	}
	last := list[len(list)-1]
	e := &Error{Code: said[last[2]:last[3]], Message: said[last[1]:]}
	if more := moreLine.FindStringIndex(e.Message); more != nil && more[0] > 0 {
		e.Message = e.Message[:more[0]]
	}
	e.Message = strings.TrimSuffix(e.Message, "\n")
	return e
}

// parse takes a result apart. Its first row holds the names of the columns.
func (w psqlWords) parse(output string) (Rows, error) {
	if len(output) == 0 {
		return Rows{}, nil
	}
	var rows Rows
	for i, row := range strings.Split(strings.TrimSuffix(output, "\n"), w.row) {
		values := strings.Split(row, "\x00")
		if i == 0 {
			rows.Columns = values
			continue
		}
		if len(values) != len(rows.Columns) {
			return Rows{}, errors.New("a statement has several results")
		}
		list := make([]*string, len(values))
		for c := range values {
			if values[c] != w.null {
				list[c] = &values[c]
			}
		}
		rows.Values = append(rows.Values, list)
	}
	return rows, nil
}

// oneLine writes a literal without the end of a line in it.
func oneLine(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return "E'" + b.String() + "'"
}

// why explains the end of a session: by what the server said last, or by what became of psql.
func (s *psql) why() error {
	var exit *ExitError
	if s.status != nil && !errors.As(s.status, &exit) {
		return s.status
	}
	_, said, _ := s.heard.whole()
	if refusalLine.MatchString(said) {
		return readRefusal(said)
	}
	if s.status != nil {
		return fmt.Errorf("psql ended (%w)", s.status)
	}
	return errors.New("psql ended")
}

// finish waits for psql, which has gone, or is to go.
func (s *psql) finish() {
	if s.closed {
		return
	}
	s.closed = true
	s.process.Stdin.Close() // psql may be gone
	timer := time.AfterFunc(closeTime, s.end)
	defer timer.Stop()
	<-s.gone
	s.end()
}

// Close lets psql read the end of its input, which ends it.
func (s *psql) Close() error {
	if s.closed {
		return nil
	}
	s.finish()
	return s.status
}

// Closed reports whether the session has ended.
func (s *psql) Closed() bool {
	select {
	case <-s.gone:
		return true
	default:
		return s.closed
	}
}

// explainPsql turns a psql that could not connect into one sentence and a hint. What a server says at that point comes
// without its SQLSTATE, so it is known by its words, as far as they are English.
func explainPsql(said string, status, err error, p Params) error {
	text := p.Mask(said)
	var exit *ExitError
	if status != nil && !errors.As(status, &exit) {
		return status
	}
	if found := unwelcome.FindStringSubmatch(text); found != nil {
		return explainRefusal(&Error{Code: codeOf(found[1]), Message: found[1]}, p)
	}
	if found := unheard.FindStringSubmatch(text); found != nil {
		if code := codeOf(found[1]); code == "28P01" { // libpq's own words: the server asked, and it had none
			return explainRefusal(&Error{Code: code, Message: "the server asks for a password, and there is none"}, p)
		}
		return explainSilence(found[1], p)
	}
	return explainSilence(err.Error(), p)
}

// What psql says when a server does not let it in, and when it finds none. The word before the two spaces is in the
// server's language.
var (
	unwelcome = regexp.MustCompile(`(?m)^psql: error: (?:.*: )?[^\s:]{1,40}:  (.*)$`)
	unheard   = regexp.MustCompile(`(?m)^psql: error: (.*)$`)
)

// codeOf is the SQLSTATE of what a server says to one that it does not let in, "" if it is not known.
func codeOf(message string) string {
	for _, known := range []struct {
		code  string
		words []string
	}{
		{"28P01", []string{"password authentication failed", "no password supplied"}},
		{"28000", []string{"authentication failed", `" does not exist`, "is not permitted to log in", "no pg_hba.conf entry"}},
		{"42501", []string{"permission denied for database"}},
		{"53300", []string{"too many clients", "too many connections", "connection slots are reserved"}},
		{"57P03", []string{"the database system is", "not yet accepting connections"}},
		{"55000", []string{"is not currently accepting connections"}},
	} {
		for _, words := range known.words {
			if strings.Contains(message, words) {
				if strings.HasPrefix(message, "database ") && known.code == "28000" {
					return "3D000"
				}
				return known.code
			}
		}
	}
	return ""
}
