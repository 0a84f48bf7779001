package pgdump

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Rules say what a [Filter] removes. The zero value removes nothing.
type Rules struct {
	// DropSettings names settings that the target does not know: their SET lines at top level are removed.
	DropSettings []string
	// DropTablespaces places everything in the target's default tablespace.
	DropTablespaces bool
	// DropRestrict removes \restrict and \unrestrict, for a psql that does not know them.
	DropRestrict bool
	// DropDrops removes what drops things before the first of them is made, as pg_dump --clean writes it: in a new database
	// there is nothing to drop, and psql would stop there.
	DropDrops bool
	// DropDatabases removes what makes, changes or chooses a database, of pg_dump --create, for a target that is chosen
	// already.
	DropDatabases bool
	// Split ends the bytes at each \connect, until [Filter.Next] goes on to the database that it names.
	Split bool
}

const (
	filterChunk = 256 << 10
	// maxSetting bounds a SET line that can be removed.
	maxSetting = 64 << 10
)

// Filter reads a dump without what its target cannot take. It is not safe for concurrent use.
type Filter struct {
	inner   io.Reader
	rules   Rules
	lexer   *lexer
	err     error
	chunk   []byte
	out     []byte // to be handed out from offset on
	offset  int
	pending []byte // of the unit at hand, as long as it may yet be removed
	passing bool   // the unit at hand stays
	swallow bool   // a newline that comes next ends a removed line
	creates bool   // something was made: what is dropped from now on was there
	last    byte   // that went out
	removed map[string]int
	rest    []byte // of chunk, not looked at yet
	readErr error  // that came with chunk
	between bool   // a \connect to next was read
	next    string
}

// NewFilter returns a Filter of the dump r.
func NewFilter(r io.Reader, rules Rules) *Filter {
	return &Filter{inner: r, rules: rules, lexer: newLexer(trailerDatabase), chunk: make([]byte, filterChunk),
		removed: make(map[string]int)}
}

// NewScriptFilter is [NewFilter] for a script that [Scan] has found good. It lexes as Scan does, and leaves out a byte order mark.
func NewScriptFilter(r io.Reader, rules Rules) *Filter {
	f := NewFilter(&unmarked{inner: r}, rules)
	f.lexer = newLiberal()
	return f
}

// Read returns what [Reader.Read] would, without what was removed. An error comes after all bytes before the unit that
// is in error, so whoever reads must undo what those did.
func (f *Filter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.offset == len(f.out) {
		if f.err != nil {
			return 0, f.err
		}
		if f.between {
			return 0, io.EOF
		}
		f.fill()
	}
	n := copy(p, f.out[f.offset:])
	f.offset += n
	return n, nil
}

// Removed lists what was removed so far, each with a count, in alphabetical order.
func (f *Filter) Removed() []string {
	var list []string
	for _, what := range slices.Sorted(maps.Keys(f.removed)) {
		list = append(list, fmt.Sprintf("%s (%d)", what, f.removed[what]))
	}
	return list
}

// Next goes on to the database that the \connect names at which a filter that splits has returned io.EOF. It returns false
// at the end of the dump.
func (f *Filter) Next() (database string, more bool) {
	if !f.between {
		return "", false
	}
	f.between, f.creates, f.lexer.ordinary = false, false, false // a session of its own begins
	return f.next, true
}

func (f *Filter) fill() {
	f.out, f.offset = f.out[:0], 0
	if len(f.rest) == 0 {
		n, err := f.inner.Read(f.chunk)
		f.rest, f.readErr = f.chunk[:n], err
	}
	for len(f.rest) > 0 && !f.between {
		n, ev, lexErr := f.lexer.next(f.rest)
		if lexErr != nil {
			f.err = lexErr
			return
		}
		f.take(f.rest[:n], ev)
		f.rest = f.rest[n:]
	}
	if len(f.rest) > 0 {
		return
	}
	err := f.readErr
	if err == io.EOF && !f.between {
		f.flush()
		err = f.lexer.finish()
	}
	if !f.between {
		f.err = err
	}
}

// take puts the next bytes out or holds them until it is known whether they stay.
func (f *Filter) take(p []byte, ev event) {
	if f.swallow {
		p = bytes.TrimPrefix(p, []byte{'\n'})
		f.swallow = false
	}
	if f.passing && ev == statement {
		f.creates = f.creates || f.lexer.long || f.lexer.firstWord() == "CREATE"
	}
	if f.passing || f.lexer.state == inCopyData && ev == more || ev == copyEnd {
		f.pending = append(f.pending, p...)
		f.flush()
		f.passing = f.passing && ev == more
		return
	}
	f.pending = append(f.pending, p...)
	switch ev {
	case more:
		if f.lexer.open && !f.mayGo(f.lexer.text) || len(f.pending) > maxSetting {
			f.passing = f.lexer.open || f.lexer.state == inLineComment
			f.flush()
		}
	case statement:
		f.takeStatement()
	case meta:
		if f.lexer.open {
			f.flush() // within a statement, which Scan has told of
			return
		}
		name, _, _ := bytes.Cut(f.lexer.line, []byte{' '})
		command := string(name)
		if f.rules.Split && connect.Match(bytes.TrimRight(f.lexer.line, "\r")) {
			f.between, f.next = true, connected(string(bytes.TrimRight(f.lexer.line, "\r")))
			f.pending = f.pending[:blank(f.pending)]
			f.flush()
			return
		}
		if encoding, is := encodingOf(f.lexer.line); is && f.rules.DropDatabases {
			// pg_dump writes it before a \connect to a name of many letters. A psql that is restricted takes it as SQL alone.
			f.pending = append(f.pending[:blank(f.pending)], "SET client_encoding = '"+encoding+"';\n"...)
		}
		if f.rules.DropRestrict && (command == `\restrict` || command == `\unrestrict`) || f.rules.DropDatabases && command == `\connect` {
			f.removed[command]++
			f.pending = f.pending[:blank(f.pending)]
		}
		f.flush()
	default:
		f.flush()
	}
}

var hollowView = regexp.MustCompile(`^CREATE OR REPLACE VIEW (?s:.*?) AS SELECT NULL::`)

// mayGo reports whether a statement that begins with text may be one to remove.
func (f *Filter) mayGo(text []byte) bool {
	beginnings := []string{"SET"}
	if f.rules.DropDrops && !f.creates {
		beginnings = append(beginnings, "DROP", "ALTER", "CREATE OR REPLACE VIEW", "SELECT pg_catalog.lo_unlink(")
	}
	if f.rules.DropDatabases {
		beginnings = append(beginnings, "CREATE DATABASE", "DROP DATABASE", "ALTER DATABASE", "ALTER ROLE", "COMMENT ON DATABASE", "UPDATE pg_catalog.pg_database", "GRANT", "REVOKE", "SECURITY")
	}
	return slices.ContainsFunc(beginnings, func(begin string) bool {
		n := min(len(text), len(begin))
		return strings.EqualFold(string(text[:n]), begin[:n])
	})
}

func (f *Filter) takeStatement() {
	defer f.flush()
	l := f.lexer
	if f.rules.DropDatabases && !l.long && len(f.pending) <= maxSetting {
		if what, _, is := l.onDatabase(); is {
			f.removed[what]++
			f.pending = f.pending[:blank(f.pending)]
			return
		}
	}
	if f.rules.DropDrops && !f.creates && !l.long {
		first := l.firstWord()
		// Of a view that depends on itself, --clean makes an empty one before it is dropped.
		hollow := f.removed["DROP"] > 0 && hollowView.Match(l.text)
		f.creates = first == "CREATE" && !hollow
		if first == "DROP" || first == "ALTER" && l.wordAt("DROP", 1) > 0 || hollow || l.isRaw(0, "SELECT", "pg_catalog", ".", "lo_unlink") {
			f.removed["DROP"]++
			f.pending = f.pending[:blank(f.pending)]
			return
		}
	}
	setting, ok := l.name(1)
	if l.long || !ok || !l.isRaw(0, "SET") || len(f.pending) > maxSetting || l.raw(2) != "=" && l.raw(2) != "TO" {
		return
	}
	setting = strings.ToLower(setting)
	if slices.Contains(f.rules.DropSettings, setting) {
		f.removed["SET "+setting]++
		f.pending = f.pending[:blank(f.pending)]
		before := f.last
		if len(f.pending) > 0 {
			before = f.pending[len(f.pending)-1]
		}
		f.swallow = before == '\n'
		return
	}
	if f.rules.DropTablespaces && setting == "default_tablespace" && string(l.text) != "SET default_tablespace = '';" {
		f.removed["SET "+setting]++
		f.pending = append(f.pending[:blank(f.pending)], "SET default_tablespace = '';"...)
	}
}

// blank returns how many bytes stand before a unit.
func blank(unit []byte) int {
	return len(unit) - len(bytes.TrimLeft(unit, " \t\r\n\f\v"))
}

func (f *Filter) flush() {
	if len(f.pending) > 0 {
		f.last = f.pending[len(f.pending)-1]
	}
	f.out = append(f.out, f.pending...)
	f.pending = f.pending[:0]
}
