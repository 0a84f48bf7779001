package pgdump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/source"
)

// Script is what a file of SQL says of itself: one of pg_dump, of pg_dumpall, or written by anybody.
type Script struct {
	// Dump says that pg_dump's header was seen, Cluster that pg_dumpall's was.
	Dump, Cluster bool
	// Server and Client are the versions of the server that was dumped and of the program that did it, as "15.14"; ""
	// where they are not told. Major is that of the newest such server, 0 where it is not told.
	Server, Client string
	Major          int
	// Encoding is the client encoding that the script first sets, "" if it sets none.
	Encoding string
	// Tablefree says that rows are filled in and no table is made: a dump of data alone.
	Tablefree bool
	// MakesPublic says that the script makes the schema public, which a new database has already.
	MakesPublic bool
	// Databases are those that the script makes, in order.
	Databases []string
	// Create is the statement of the first of them.
	Create string
	// Parts are the databases of a cluster's dump in order, Globals its roles and tablespaces, and Astray what stands in it
	// and belongs to neither. All are empty for other scripts.
	Parts   []Part
	Globals Globals
	Astray  []Finding
	// Roles are those that the script refers to and does not make itself.
	Roles []string
	// Extensions and Tablespaces are those that it makes.
	Extensions, Tablespaces []string
	// Tables has a fact for each table that COPY fills from the script, in order of name: how many rows. In the dump of a
	// cluster "DATABASE: " stands before the name, which is spelled as in the script.
	Tables []source.Fact
	// Uncounted are the tables that are filled in other ways, by COPY in a format of its own or by INSERT.
	Uncounted []string
	// Gone are those of both that the script itself drops or renames when it has filled them, in order of name.
	Gone []string
	// Moved says that the script drops or detaches tables behind what it fills: rows of partitioned ones may be gone with them.
	Moved bool
	// Findings are what may not run without somebody who vouches for it, in order, at most maxFindings.
	Findings []Finding
	// Commands are those of the Findings that are commands of psql, at most maxFindings of their own: however many others stand
	// before them, one at least is here where there is any.
	Commands []Finding
}

// Finding is something in a script that reaches beyond the database.
type Finding struct {
	Line int64 // where the statement begins
	What string
}

func (f Finding) String() string { return fmt.Sprintf("line %d: %s", f.Line, f.What) }

const maxFindings = 100

// Scan reads a script to its end, by psql's own rules of where a statement ends. What a function's body or a string says is
// looked at too, as plain words: names that are put together when it runs pass it by. A script that ends within something,
// and a dump without its trailer, is [ErrTruncated]; bytes that psql could not read are [ErrMalformed].
func Scan(r io.Reader) (Script, error) {
	s := &scanner{lexer: newLiberal(), roles: map[string]bool{}, made: map[string]bool{}, tables: map[string]*filled{}}
	s.lexer.spill = s.spill
	r = &unmarked{inner: r}
	chunk := make([]byte, 256<<10)
	for {
		n, err := r.Read(chunk)
		for p := chunk[:n]; len(p) > 0; {
			n, ev, lexErr := s.lexer.next(p)
			if lexErr == nil {
				lexErr = s.take(ev)
			}
			if lexErr != nil {
				return s.script, lexErr
			}
			p = p[n:]
		}
		if err == io.EOF {
			return s.end()
		}
		if err != nil {
			return s.script, err
		}
	}
}

func newLiberal() *lexer {
	l := newLexer("")
	l.liberal = true
	return l
}

type scanner struct {
	script   Script
	lexer    *lexer
	roles    map[string]bool
	made     map[string]bool
	tables   map[string]*filled // by the name of their fact
	copying  *filled            // whose rows are read, nil for none
	rows     int64              // of it
	missing  int                // headers without their trailer
	first    string
	database string // that a cluster's dump is connected to
	creates  bool   // a table was made
	carried  []byte // the end of the part of a long statement that was looked at
	held     int    // bytes of statements that are kept
	early    bool   // something stands before what may come to be the header of a cluster's dump
}

// checkLiberal is check for scripts: nothing is refused that psql can read.
func (l *lexer) checkLiberal(ev event) error {
	if ev != statement || l.long {
		if ev == statement && l.longCopy {
			return errors.New("a COPY statement is too long")
		}
		return nil
	}
	switch l.firstWord() {
	case "COPY":
		c, err := l.copyClause()
		if err != nil {
			return err
		}
		if c.from && c.what == "STDIN" {
			l.state = beforeCopyData
		}
	case "SET":
		if ordinary, is := l.ordinaryStrings(); is {
			l.ordinary = ordinary
		}
	}
	return nil
}

// ordinaryStrings reads a SET of standard_conforming_strings.
func (l *lexer) ordinaryStrings() (ordinary, is bool) {
	i := 1
	if word := strings.ToUpper(l.raw(i)); word == "SESSION" || word == "LOCAL" {
		i++
	}
	name, _ := l.name(i)
	if !strings.EqualFold(name, "standard_conforming_strings") {
		return false, false
	}
	switch value := strings.ToLower(strings.Trim(l.raw(i+2), `'"`)); value {
	case "of", "off", "f", "fa", "fal", "fals", "false", "n", "no", "0": // the server takes the beginnings of words
		return true, true
	}
	return false, true
}

// copyClause is what a COPY statement says.
type copyClause struct {
	table string // "" for a query
	from  bool
	what  string // STDIN, STDOUT, PROGRAM, or "" for a file of the server
	plain bool   // in the text format, with nothing told otherwise
}

// copyClause reads any COPY statement.
func (l *lexer) copyClause() (c copyClause, err error) {
	i := 1
	if strings.EqualFold(l.raw(i), "BINARY") && l.tokenKind(i+1) != punctToken {
		i++
		c.what = "BINARY"
	}
	binary := c.what != ""
	if l.raw(i) == "(" {
		i = l.closing(i)
	} else {
		begin := i
		for ok := true; ok; {
			if _, ok = l.name(i); !ok {
				return c, errCopy
			}
			i++
			if ok = l.raw(i) == "."; ok {
				i++
			}
		}
		c.table = string(l.text[l.tokens[begin].start:l.tokens[i-1].end])
		if l.raw(i) == "(" {
			i = l.closing(i)
		}
	}
	direction := strings.ToUpper(l.raw(i))
	c.from = direction == "FROM"
	if !c.from && direction != "TO" || i+1 >= len(l.tokens) {
		return c, errCopy
	}
	i++
	if c.what = ""; l.tokens[i].kind == punctToken {
		return c, errCopy
	}
	if l.tokens[i].kind == wordToken {
		c.what = strings.ToUpper(l.raw(i))
		if c.what != "STDIN" && c.what != "STDOUT" && c.what != "PROGRAM" {
			// The prefix of a string with Unicode escapes, or nothing that the server knows.
			c.what = ""
		}
	}
	c.plain = !binary && (i+1 == len(l.tokens) || l.raw(i+1) == ";")
	return c, nil
}

var errCopy = errors.New("a COPY statement is not understood")

// closing returns the index behind the parenthesis that closes the one at i.
func (l *lexer) closing(i int) int {
	for depth := 0; i < len(l.tokens); {
		if l.tokens[i].kind == punctToken {
			switch l.text[l.tokens[i].start] {
			case '(':
				depth++
			case ')':
				depth--
			}
		}
		if i++; depth == 0 {
			break
		}
	}
	return i
}

func (l *lexer) tokenKind(i int) tokenKind {
	if i >= len(l.tokens) {
		return punctToken
	}
	return l.tokens[i].kind
}

func (s *scanner) find(format string, args ...any) {
	if len(s.script.Findings) < maxFindings {
		s.script.Findings = append(s.script.Findings, Finding{s.lexer.began, fmt.Sprintf(format, args...)})
	}
}

// command notes a command of psql that pg_dump does not write.
func (s *scanner) command(line []byte) {
	s.find("the psql command %s", metaName.Find(line))
	if len(s.script.Commands) < maxFindings {
		s.script.Commands = append(s.script.Commands, Finding{s.lexer.began, fmt.Sprintf("the psql command %s", metaName.Find(line))})
	}
}

func (s *scanner) take(ev event) error {
	switch ev {
	case comment:
		s.comment(string(s.lexer.line))
	case meta:
		s.meta()
	case statement:
		s.statement()
		if s.held > maxHeld {
			return fmt.Errorf("%w: its statements on roles and databases are more than %d MiB", ErrMalformed, maxHeld>>20)
		}
	case copyEnd:
		if s.copying == nil {
			break
		}
		s.copying.rows = s.rows
		s.lexer.counted, s.copying = nil, nil
	}
	return nil
}

var (
	dumpedFrom = regexp.MustCompile(`^-- Dumped from database version ((\d+)\.?(\d*)\S*)`)
	dumpedBy   = regexp.MustCompile(`^-- Dumped by pg_dump version (\d\S*)`)
)

func (s *scanner) comment(line string) {
	line = strings.TrimRight(line, "\r")
	switch line {
	case "-- PostgreSQL database dump":
		s.script.Dump = true
		s.missing++
		return
	case "-- PostgreSQL database cluster dump":
		if !s.script.Cluster && s.early {
			s.astray("something before the dump of the cluster")
		}
		s.script.Cluster = true
		s.missing++
		return
	case trailerDatabase, trailerCluster:
		s.missing--
		return
	}
	if m := dumpedFrom.FindStringSubmatch(line); m != nil {
		if major, err := strconv.Atoi(m[2]); err == nil && major >= s.script.Major {
			s.script.Major, s.script.Server = major, m[1]
		}
	} else if m := dumpedBy.FindStringSubmatch(line); m != nil {
		s.script.Client = m[1]
	}
}

var encodingName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

func (s *scanner) meta() {
	line := bytes.TrimRight(s.lexer.line, "\r")
	if s.lexer.open {
		// Within a statement no dump has one, and it could not be taken out without a part of the statement.
		s.command(line)
		return
	}
	if restrict.Match(line) {
		return
	}
	if connect.Match(line) {
		s.database = connected(string(line))
		s.lexer.ordinary = false // a session of its own begins
		if s.script.Cluster {
			s.partOf(s.database)
		}
		return
	}
	if name, is := encodingOf(line); is {
		if unsafeEncoding.Match(fmt.Appendf(nil, "SET client_encoding = '%s';", name)) {
			s.find("a client encoding that hides backslashes within letters")
		}
		return
	}
	s.command(line)
}

// encodingOf is what an \encoding, as pg_dump writes it, names.
func encodingOf(line []byte) (name string, is bool) {
	rest, is := bytes.CutPrefix(bytes.TrimRight(line, "\r"), []byte(`\encoding `))
	return string(rest), is && encodingName.Match(rest)
}

// connected is the database that \connect names, in either of pg_dump's ways of writing it.
func connected(line string) string {
	name := strings.TrimPrefix(line, `\connect `)
	quoted, is := strings.CutPrefix(name, `-reuse-previous=on "dbname=`)
	if !is {
		return name
	}
	quoted = strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `""`, `"`)
	quoted = strings.TrimSuffix(strings.TrimPrefix(quoted, "'"), "'")
	return strings.NewReplacer(`\\`, `\`, `\'`, "'").Replace(quoted)
}

func (s *scanner) statement() {
	l := s.lexer
	first := l.firstWord()
	if l.long {
		first = s.first
	}
	if first != "INSERT" && first != "COMMENT" && first != "VALUES" && first != "UPDATE" {
		s.look(l.text)
	}
	s.carried, s.first = nil, ""
	if s.script.Cluster {
		s.share(first)
	} else if fills(l, first) {
		s.early = true
	}
	if l.long {
		if first == "INSERT" {
			s.inserted()
		}
		return
	}
	if unsafeEncoding.Match(l.text) {
		s.find("a client encoding that hides backslashes within letters")
	}
	switch first {
	case "COPY":
		s.copy()
	case "INSERT":
		s.inserted()
	default:
		s.names(first)
		s.leave(first)
	}
}

// inserted notes the table of an INSERT, which nobody counts.
func (s *scanner) inserted() {
	l := s.lexer
	if end, ok := l.qualified(2); ok && !l.long {
		s.fill(string(l.text[l.tokens[2].start:l.tokens[end-1].end])).uncounted = true
	}
}

func (s *scanner) copy() {
	c, err := s.lexer.copyClause()
	if err != nil {
		return // refused by the lexer
	}
	direction := "TO"
	if c.from {
		direction = "FROM"
	}
	switch c.what {
	case "PROGRAM":
		s.find("COPY %s PROGRAM, which runs a program on the server", direction)
	case "":
		s.find("COPY %s a file of the server", direction)
	}
	if !c.from || c.what != "STDIN" {
		return
	}
	t := s.fill(c.table)
	if !c.plain {
		t.uncounted = true
		return
	}
	s.copying, s.rows = t, 0
	s.lexer.counted = &s.rows
}

// spill looks at the parts of a statement that is too long to be held.
func (s *scanner) spill(text []byte) {
	if s.first == "" {
		s.first = "?"
		if word := firstOf.Find(text); word != nil {
			s.first = strings.ToUpper(string(word))
		}
		if s.first == "INSERT" {
			s.inserted()
		}
	}
	if s.first == "INSERT" {
		return
	}
	s.look(text)
	const overlap = 4096
	s.carried = append([]byte{}, text[max(0, len(text)-overlap):]...)
}

var firstOf = regexp.MustCompile(`^[A-Za-z]+`)

var (
	comments = regexp.MustCompile(`--[^\n]*(?:\n|$)|/\*(?s:.*?)\*/`)
	// What may follow PROGRAM: a string, its end, a dollar quote, a placeholder of format, a variable.
	program = regexp.MustCompile(`(?is)\bcopy\b[^;]*?\b(from|to)\s+program\s*(?:['"$%|:\\]|e'|u&)`)
	// COPY to or from what begins like an absolute path.
	serverFile = regexp.MustCompile(`(?is)\bcopy\b[^;]*?\b(from|to)\s+(?:e|u&)?'+/`)
	setConfig  = regexp.MustCompile(`(?i)\bset_config\s*\(\s*(?:e|u&)?'+standard_conforming_strings`)
)

// look searches the text of a statement, in which strings and bodies of functions stand, for what reaches beyond the
// database. Comments are read both as comments and as what they may be within a string.
func (s *scanner) look(text []byte) {
	if len(s.carried) > 0 {
		text = append(s.carried, text...)
		s.carried = nil
	}
	if setConfig.Match(text) {
		s.find("a change of how strings are read")
	}
	if s.lexer.firstWord() == "COPY" || !containsFold(text, "copy") {
		return
	}
	for _, variant := range [][]byte{text, comments.ReplaceAll(text, []byte(" "))} {
		if m := program.FindSubmatch(variant); m != nil {
			s.find("COPY %s PROGRAM in the text of a function or a string, which runs a program on the server", strings.ToUpper(string(m[1])))
			return
		}
		if m := serverFile.FindSubmatch(variant); m != nil {
			s.find("COPY %s a file of the server in the text of a function or a string", strings.ToUpper(string(m[1])))
			return
		}
	}
}

// containsFold spares most statements the regular expressions.
func containsFold(text []byte, word string) bool {
	for rest := text; len(rest) >= len(word); {
		i := bytes.IndexAny(rest, word[:1]+strings.ToUpper(word[:1]))
		if i < 0 || len(rest)-i < len(word) {
			return false
		}
		if strings.EqualFold(string(rest[i:i+len(word)]), word) {
			return true
		}
		rest = rest[i+1:]
	}
	return false
}

// end judges what is left when the bytes have ended. psql runs what stands there without a semicolon.
func (s *scanner) end() (Script, error) {
	l := s.lexer
	if l.state == inMeta || l.state == inLineComment || l.state == inWord || l.state == afterQuote || l.state == afterName {
		if _, ev, err := l.next([]byte{'\n'}); err != nil || s.take(ev) != nil {
			return s.script, errors.Join(err, ErrTruncated)
		}
	}
	if l.open && !l.ended {
		s.statement()
	}
	s.script.Tablefree = !s.creates && len(s.tables) > 0
	s.gather()
	within := ""
	switch l.state {
	case inQuote, inQuoteEscape, inName, inDollarBody:
		within = "a quoted text"
	case inBlockComment:
		within = "a comment"
	case inCopyData, beforeCopyData:
		within = "the rows of a table"
		if s.copying != nil {
			within = "the rows of table " + s.copying.name
		}
	}
	switch {
	case within != "":
		return s.script, fmt.Errorf("the SQL ends on line %d within %s: %w", l.lines+1, within, ErrTruncated)
	case s.missing > 0:
		return s.script, fmt.Errorf("the SQL ends on line %d without the line %q: %w", l.lines+1, trailerDatabase, ErrTruncated)
	}
	return s.script, nil
}

func (s *scanner) gather() {
	for role := range s.roles {
		if !s.made[role] {
			s.script.Roles = append(s.script.Roles, role)
		}
	}
	slices.Sort(s.script.Roles)
	for name, t := range s.tables {
		if t.uncounted {
			s.script.Uncounted = append(s.script.Uncounted, name)
		} else {
			s.script.Tables = append(s.script.Tables, source.Fact{Class: "table", Name: name, Rule: source.Exact, Rows: t.rows})
		}
		if t.gone {
			s.script.Gone = append(s.script.Gone, name)
		}
	}
	slices.Sort(s.script.Uncounted)
	slices.Sort(s.script.Gone)
	slices.SortFunc(s.script.Tables, func(a, b source.Fact) int { return strings.Compare(a.Name, b.Name) })
}
