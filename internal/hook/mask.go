package hook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"holdfast"
)

// shown stands where a secret stood.
const shown = "********"

// leastEncoded is the length from which on a secret is looked for in other spellings and line by line: what is shorter
// would be found everywhere.
const leastEncoded = 4

// Mask replaces secrets in texts. It does not change once it is made, so all may use it at once.
type Mask struct {
	words   []string // longest first
	longest int
	begins  [256]bool // first bytes of words
}

// NewMask makes a mask of what must not be shown. A secret is found as it stands, line by line, and percent-encoded,
// quoted as JSON, in base64 and in hexadecimal.
func NewMask(secrets []holdfast.Secret) *Mask {
	found := map[string]bool{}
	for _, secret := range secrets {
		for _, word := range spellings(secret.Reveal()) {
			found[word] = true
		}
	}
	m := &Mask{}
	for word := range found {
		m.words = append(m.words, word)
		m.longest = max(m.longest, len(word))
		m.begins[word[0]] = true
	}
	slices.SortFunc(m.words, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return m
}

// spellings are the forms in which programs print a secret.
func spellings(secret string) []string {
	var all []string
	add := func(word string, least int) {
		if len(word) >= least {
			all = append(all, word)
		}
	}
	add(secret, 1)
	add(strings.TrimSpace(secret), 1)
	if len(secret) < leastEncoded {
		return all
	}
	parts := []string{strings.TrimSpace(secret)}
	for line := range strings.Lines(secret) {
		parts = append(parts, strings.TrimSpace(line))
	}
	for _, part := range parts {
		if len(part) < leastEncoded {
			continue
		}
		add(part, 1)
		add(url.QueryEscape(part), 1)
		add(url.PathEscape(part), 1)
		add(url.UserPassword("", part).String()[1:], 1)
		add(hex.EncodeToString([]byte(part)), 1)
		add(strings.ToUpper(hex.EncodeToString([]byte(part))), 1)
		if quoted, err := json.Marshal(part); err == nil {
			add(string(quoted[1:len(quoted)-1]), 1)
		}
		// Within a longer text base64 has three alignments; the letters at the edges depend on what is around.
		for skip := range 3 {
			if inner := (len(part) - skip) / 3 * 3; inner > 0 {
				for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
					add(encoding.EncodeToString([]byte(part)[skip:skip+inner]), 8)
				}
			}
		}
	}
	return all
}

// Text returns text without secrets.
func (m *Mask) Text(text string) string {
	var out bytes.Buffer
	w := m.filter(&out)
	// A bytes.Buffer takes everything.
	_, _ = w.Write([]byte(text))
	w.flush()
	return out.String()
}

// filter is a stream from which secrets are taken, wherever one write ends and the next begins.
type filter struct {
	mask    *Mask
	to      io.Writer // takes everything
	pending []byte
	covered int // how many bytes at the start of pending are part of a secret
}

func (m *Mask) filter(to io.Writer) *filter { return &filter{mask: m, to: to} }

func (f *filter) Write(p []byte) (int, error) {
	f.pending = append(f.pending, p...)
	// What comes next may complete a word that begins within the last bytes.
	f.pass(len(f.pending) - f.mask.longest + 1)
	return len(p), nil
}

// flush passes on what was held back.
func (f *filter) flush() { f.pass(len(f.pending)) }

// pass decides about the first n bytes. Secrets that overlap are covered together.
func (f *filter) pass(n int) {
	if n = min(n, len(f.pending)); n <= 0 {
		return
	}
	plain := 0 // where what is not yet written begins
	for i := range n {
		if longest := f.mask.at(f.pending[i:]); longest > f.covered {
			if f.covered == 0 {
				_, _ = f.to.Write(f.pending[plain:i])
				_, _ = f.to.Write([]byte(shown))
			}
			f.covered = longest
		}
		if f.covered > 0 {
			f.covered--
			plain = i + 1
		}
	}
	_, _ = f.to.Write(f.pending[plain:n])
	f.pending = append(f.pending[:0], f.pending[n:]...)
}

// at is the length of the longest word that data begins with.
func (m *Mask) at(data []byte) int {
	if !m.begins[data[0]] {
		return 0
	}
	for _, word := range m.words {
		if len(word) <= len(data) && string(data[:len(word)]) == word {
			return len(word)
		}
	}
	return 0
}

// The bounds of what is kept of a program's output.
const (
	headSize = 4 << 10
	tailSize = 4 << 10
)

// excerpt keeps the first and the last bytes of what is written to it.
type excerpt struct {
	head    []byte
	tail    []byte
	dropped int64
}

func (e *excerpt) Write(p []byte) (int, error) {
	n := len(p)
	if room := headSize - len(e.head); room > 0 {
		take := min(room, len(p))
		e.head, p = append(e.head, p[:take]...), p[take:]
	}
	e.tail = append(e.tail, p...)
	if over := len(e.tail) - tailSize; over > 0 {
		e.dropped += int64(over)
		e.tail = append(e.tail[:0], e.tail[over:]...)
	}
	return n, nil
}

// lines are what was kept, fit for a terminal.
func (e *excerpt) lines() []string {
	text := string(e.head)
	if e.dropped > 0 {
		text += fmt.Sprintf("\n… %d bytes left out …\n", e.dropped)
	}
	text = printable(text + string(e.tail))
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \t\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// printable takes out what a terminal would act on.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			return r
		case r == '\r':
			return '\n'
		}
		return '\ufffd'
	}, strings.ToValidUTF8(text, "\ufffd"))
}
