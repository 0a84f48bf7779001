package unit

import (
	"regexp"
	"strings"
)

// text is a unit file that is being written.
type text struct{ out strings.Builder }

func (t *text) section(name string) {
	if t.out.Len() > 0 {
		t.out.WriteByte('\n')
	}
	t.out.WriteString("[" + name + "]\n")
}

// note is a comment before what it explains.
func (t *text) note(lines ...string) {
	for _, line := range lines {
		t.out.WriteString("# " + line + "\n")
	}
}

// set writes directives that are text of this package.
func (t *text) set(lines ...string) {
	for _, line := range lines {
		t.out.WriteString(line + "\n")
	}
}

// words writes a directive with a list of words from outside, and none for an empty list.
func (t *text) words(name string, words ...string) {
	if len(words) == 0 {
		return
	}
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	t.set(name + "=" + strings.Join(quoted, " "))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_+,./:=@-]+$`)

// quote makes one word of text that checkText has passed. Percent signs begin what systemd puts in.
func quote(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return `"` + strings.ReplaceAll(text, "%", "%%") + `"`
}
