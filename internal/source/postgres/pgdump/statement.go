package pgdump

import (
	"bytes"
	"errors"
	"strings"
)

// QuoteIdent returns name as a quoted SQL identifier.
func QuoteIdent(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// raw returns token i of the current statement as it stands, or "" behind the last.
func (l *lexer) raw(i int) string {
	if i >= len(l.tokens) {
		return ""
	}
	return string(l.text[l.tokens[i].start:l.tokens[i].end])
}

// isRaw reports whether the tokens from i on are those given.
func (l *lexer) isRaw(i int, want ...string) bool {
	for j, text := range want {
		if i+j >= len(l.tokens) {
			return false
		}
		t := l.tokens[i+j]
		if string(l.text[t.start:t.end]) != text {
			return false
		}
	}
	return true
}

// firstWord returns the statement's first token in upper case.
func (l *lexer) firstWord() string {
	if l.long {
		return ""
	}
	return strings.ToUpper(l.raw(0))
}

// name returns token i as a name without its quotes.
func (l *lexer) name(i int) (string, bool) {
	if i >= len(l.tokens) {
		return "", false
	}
	text := l.raw(i)
	switch l.tokens[i].kind {
	case wordToken:
		return text, true
	case nameToken:
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`), true
	}
	return "", false
}

// qualified returns the index behind the name, of one or two parts, that begins at token i.
func (l *lexer) qualified(i int) (int, bool) {
	if _, ok := l.name(i); !ok {
		return i, false
	}
	if l.raw(i+1) != "." {
		return i + 1, true
	}
	_, ok := l.name(i + 2)
	return i + 3, ok
}

// literal returns the value of the string at token i. Of backslash escapes it knows the one pg_dump uses, "\\".
func (l *lexer) literal(i int) (string, bool) {
	if i >= len(l.tokens) {
		return "", false
	}
	text := l.raw(i)
	switch l.tokens[i].kind {
	case escapeToken:
		text = strings.ReplaceAll(text[strings.IndexByte(text, '\'')+1:len(text)-1], `\\`, `\`)
	case stringToken:
		text = text[1 : len(text)-1]
	default:
		return "", false
	}
	return strings.ReplaceAll(text, "''", "'"), true
}

// copyTarget returns the table and the column list of COPY table (columns) FROM stdin.
func (l *lexer) copyTarget() (table, columns string, err error) {
	end, ok := l.qualified(1)
	if ok {
		table = string(l.text[l.tokens[1].start:l.tokens[end-1].end])
	}
	if i := end; ok && l.raw(i) == "(" {
		for end < len(l.tokens) && l.raw(end) != ")" {
			end++
		}
		if end++; end < len(l.tokens) {
			columns = string(l.text[l.tokens[i].start:l.tokens[end-1].end])
		}
	}
	if !ok || len(l.tokens) != end+3 || !l.isRaw(0, "COPY") || !l.isRaw(end, "FROM", "stdin", ";") {
		return "", "", errors.New("a COPY statement is not of the kind that pg_dump writes")
	}
	return table, columns, nil
}

// columns returns names and types of what CREATE TABLE or CREATE FOREIGN TABLE declares.
func (l *lexer) columns() (string, bool) {
	i := 1
	for i < len(l.tokens) && l.raw(i) != "TABLE" {
		if i++; i > 3 {
			return "", false
		}
	}
	if l.firstWord() != "CREATE" || i >= len(l.tokens) {
		return "", false
	}
	i++
	if l.isRaw(i, "IF", "NOT", "EXISTS") {
		i += 3
	}
	i, ok := l.qualified(i)
	if !ok {
		return "", false
	}
	if l.raw(i) == "OF" {
		end, ok := l.qualified(i + 1)
		if !ok {
			return "", false
		}
		return string(l.text[l.tokens[i].start:l.tokens[end-1].end]), true
	}
	if l.raw(i) != "(" {
		return "", false
	}
	var list []string
	depth, begin, end := 1, i+1, -1
	for i++; i < len(l.tokens) && depth > 0; i++ {
		t := l.tokens[i]
		text := l.text[t.start:t.end]
		switch {
		case t.kind == punctToken && text[0] == '(':
			depth++
		case t.kind == punctToken && text[0] == ')' && depth > 1:
			depth--
		case t.kind == punctToken && depth == 1 && (text[0] == ',' || text[0] == ')'):
			if end < 0 {
				end = i
			}
			if end > begin {
				list = append(list, string(l.text[l.tokens[begin].start:l.tokens[end-1].end]))
			}
			if text[0] == ')' {
				depth--
			}
			begin, end = i+1, -1
		case depth == 1 && end < 0 && t.kind == wordToken && i == begin:
			// These begin a constraint of the table; a column of that name is quoted.
			if w := string(text); w == "CONSTRAINT" || w == "CHECK" || w == "NOT" {
				end = begin
			}
		case depth == 1 && end < 0 && t.kind == wordToken && l.raw(i-1) != "." && endsType(string(text)):
			end = i
		}
	}
	return strings.Join(list, ", "), depth == 0
}

// endsType reports whether word, unquoted and unqualified behind a column's name, begins what is not its type.
func endsType(word string) bool {
	switch word {
	case "DEFAULT", "NOT", "NULL", "GENERATED", "COLLATE", "CONSTRAINT", "CHECK", "PRIMARY", "UNIQUE", "REFERENCES",
		"OPTIONS", "STORAGE", "COMPRESSION":
		return true
	}
	return false
}

// header is what the comment above an entry of a dump says of it.
type header struct {
	data                      bool // "Data for Name"
	name, kind, schema, owner string
}

// title names the entry: its kind, and its name within its schema if it has one.
func (h header) title() string {
	if h.schema == "-" {
		return h.kind + " " + h.name
	}
	return h.kind + " " + h.schema + "." + h.name
}

// parseHeader reads "-- Name: n; Type: T; Schema: s; Owner: o". Names stand in it unquoted, so the last place that
// looks like the next part ends each of them.
func parseHeader(line []byte) (header, bool) {
	var h header
	line, ok := bytes.CutPrefix(line, []byte("-- "))
	if !ok {
		return h, false
	}
	line, h.data = bytes.CutPrefix(line, []byte("Data for "))
	rest, ok := strings.CutPrefix(string(line), "Name: ")
	if !ok {
		return h, false
	}
	at := strings.LastIndex(rest, "; Type: ")
	if at < 0 {
		return h, false
	}
	h.name, rest = rest[:at], rest[at+len("; Type: "):]
	if h.kind, rest, ok = strings.Cut(rest, "; Schema: "); !ok {
		return h, false
	}
	if at = strings.LastIndex(rest, "; Owner: "); at < 0 {
		return h, false
	}
	h.schema, h.owner = rest[:at], rest[at+len("; Owner: "):]
	if at = strings.LastIndex(h.owner, "; Tablespace: "); at >= 0 {
		h.owner = h.owner[:at]
	}
	return h, true
}

// SplitName takes a qualified name apart, as SQL writes it: parts with dots between them, in double quotes where they are not
// plain. Parts without quotes are taken as they stand, in their own case. ok is false for what is no such name.
func SplitName(text string) (parts []string, ok bool) {
	for {
		var part string
		if strings.HasPrefix(text, `"`) {
			end := 1
			for ; end < len(text); end++ {
				if text[end] != '"' {
					continue
				}
				if end+1 < len(text) && text[end+1] == '"' {
					end++
					continue
				}
				break
			}
			if end >= len(text) {
				return nil, false
			}
			part, text = strings.ReplaceAll(text[1:end], `""`, `"`), text[end+1:]
		} else {
			end := strings.IndexAny(text, `."`)
			if end < 0 {
				end = len(text)
			}
			part, text = text[:end], text[end:]
		}
		if part == "" {
			return nil, false
		}
		parts = append(parts, part)
		if text == "" {
			return parts, true
		}
		if text[0] != '.' {
			return nil, false
		}
		text = text[1:]
	}
}
