package runbook

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// text keeps a value text, on its line and in its cell. A link, an image or a tag would make of it something else.
func text(value any) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", "|", "&#124;", "`", "'", `\`, `\\`, "*", `\*`, "_", `\_`, "[", `\[`, "~", `\~`).Replace(visible(fmt.Sprint(value)))
}

// code writes a value between backticks, for sentences. In a table text is used: there a bar would end the cell.
func code(value any) string {
	return "`" + strings.ReplaceAll(visible(fmt.Sprint(value)), "`", "'") + "`"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

// word writes a value as one word of a shell's command line.
func word(value any) string {
	written := visible(fmt.Sprint(value))
	if plainWord.MatchString(written) {
		return written
	}
	return "'" + strings.ReplaceAll(written, "'", `'\''`) + "'"
}

// line writes a program and its arguments as a shell's command line.
func line(arguments []string) string {
	words := make([]string, len(arguments))
	for i, argument := range arguments {
		words[i] = word(argument)
	}
	return strings.Join(words, " ")
}

// visible shows what could hide or turn round the text that follows it: line ends, control characters, marks of direction.
func visible(value string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '␤'
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, value)
}
