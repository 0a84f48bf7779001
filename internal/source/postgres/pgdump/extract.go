package pgdump

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Table names a table, without quotes.
type Table struct{ Schema, Name string }

func (t Table) String() string { return t.Schema + "." + t.Name }

// Quoted is the name as SQL takes it.
func (t Table) Quoted() string { return QuoteIdent(t.Schema) + "." + QuoteIdent(t.Name) }

// Extract reads of a dump what single tables need to come back in a database of their own: every definition that something may
// stand on, but only their rows. It is a dump itself, and reads like one.
//
// It leaves out the rows of all other tables, large objects, and what concerns more than the tables themselves: foreign keys,
// triggers, rules, policies, owners, privileges, publications, event triggers. What of that concerned the tables is told by
// [Extract.Left]. The partitions of a table go with it.
//
// Definitions must come before data, as pg_dump writes them. It is not safe for concurrent use.
type Extract struct {
	inner  io.Reader
	lexer  *lexer
	wanted map[Table]bool
	tables []Table // the same, in the order of being known
	err    error

	chunk   []byte
	out     []byte // to be handed out from offset on
	offset  int
	pending []byte // of the unit at hand
	passing bool   // the unit at hand is too long to be held, and stays
	rows    bool   // the rows at hand are dropped

	current  header
	children map[Table][]Table // partitions
	closed   bool              // wanted has all partitions
	made     map[Table]bool    // tables whose definition was met
	dropped  map[string]bool   // constraints that were left out, by table and name
	entries  []tableEntry
	left     []leftOut
}

// tableEntry is an entry of the schema's inventory that belongs to a table.
type tableEntry struct {
	table       Table
	kind, title string
}

type leftOut struct {
	tables []Table // that it concerns
	text   string
}

// NewExtract returns an Extract of the dump r.
func NewExtract(r io.Reader, tables []Table) *Extract {
	e := &Extract{inner: r, lexer: newLexer(trailerDatabase), chunk: make([]byte, filterChunk), wanted: map[Table]bool{},
		children: map[Table][]Table{}, made: map[Table]bool{}, dropped: map[string]bool{}}
	for _, table := range tables {
		e.want(table)
	}
	return e
}

// Read returns what [Reader.Read] would, without what was left out.
func (e *Extract) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for e.offset == len(e.out) {
		if e.err != nil {
			return 0, e.err
		}
		e.fill()
	}
	n := copy(p, e.out[e.offset:])
	e.offset += n
	return n, nil
}

func (e *Extract) fill() {
	e.out, e.offset = e.out[:0], 0
	n, err := e.inner.Read(e.chunk)
	for p := e.chunk[:n]; len(p) > 0; {
		n, ev, lexErr := e.lexer.next(p)
		if lexErr != nil {
			e.err = lexErr
			return
		}
		e.take(p[:n], ev)
		p = p[n:]
	}
	if err == io.EOF {
		e.flush()
		err = e.lexer.finish()
	}
	e.err = err
}

func (e *Extract) flush() {
	e.out = append(e.out, e.pending...)
	e.pending = e.pending[:0]
}

// take puts the next bytes out, drops them, or holds them until it is known what they are.
func (e *Extract) take(p []byte, ev event) {
	if data := e.lexer.state == inCopyData && ev == more; data || ev == copyEnd {
		if !e.rows {
			e.out = append(e.out, p...)
		}
		if ev == copyEnd {
			e.rows = false
		}
		return
	}
	e.pending = append(e.pending, p...)
	switch ev {
	case more:
		if e.passing = e.passing || len(e.pending) > maxStatement; e.passing {
			e.flush()
		}
		return
	case comment:
		if h, ok := parseHeader(e.lexer.line); ok {
			e.current = h
		}
	case statement:
		if !e.passing && !e.lexer.long && !e.keeps() {
			e.pending = e.pending[:0]
		}
	}
	e.passing = false
	e.flush()
}

// Tables are those that come back: the ones that were asked for and their partitions. It is complete when all was read.
func (e *Extract) Tables() []Table {
	e.close()
	all := slices.Clone(e.tables)
	slices.SortFunc(all, func(a, b Table) int { return strings.Compare(a.Quoted(), b.Quoted()) })
	return all
}

// Has reports whether the definition of a table was met in the dump.
func (e *Extract) Has(table Table) bool { return e.made[table] }

// Titles are the names, in the facts of the schema, of what belongs to the tables that come back. Those of kinds whose
// definition does not speak of an owner are marked.
func (e *Extract) Titles() (titles []string, ownerless map[string]bool) {
	e.close()
	ownerless = map[string]bool{}
	for _, entry := range e.entries {
		if !e.wanted[entry.table] {
			continue
		}
		title := printable(entry.title)
		titles = append(titles, title)
		switch entry.kind {
		case "DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "INDEX ATTACH", "TABLE ATTACH", "COMMENT":
			ownerless[title] = true
		}
	}
	slices.Sort(titles)
	return slices.Compact(titles), ownerless
}

// Left tells what concerned the tables and was left out, a line each.
func (e *Extract) Left() []string {
	e.close()
	var lines []string
	for _, l := range e.left {
		if slices.ContainsFunc(l.tables, func(t Table) bool { return e.wanted[t] }) {
			lines = append(lines, printable(l.text))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// close adds the partitions of wanted tables.
func (e *Extract) close() {
	if e.closed {
		return
	}
	e.closed = true
	for i := 0; i < len(e.tables); i++ { // it grows meanwhile
		for _, child := range e.children[e.tables[i]] {
			e.want(child)
		}
	}
}

func (e *Extract) want(table Table) {
	if !e.wanted[table] {
		e.wanted[table] = true
		e.tables = append(e.tables, table)
	}
}

// keeps decides about the statement that just ended.
func (e *Extract) keeps() bool {
	l := e.lexer
	switch l.firstWord() {
	case "SET", "RESET":
		// Settings stand between entries and belong to none.
		return l.raw(1) != "SESSION"
	case "COPY":
		return e.keepsRows()
	case "SELECT":
		return !l.isRaw(1, "pg_catalog", ".") || !strings.HasPrefix(l.raw(3), "lo")
	}
	if last := len(l.tokens); l.firstWord() == "ALTER" && last >= 5 && l.isRaw(last-4, "OWNER", "TO") {
		return false
	}
	switch e.current.kind {
	case "FK CONSTRAINT":
		e.leave("foreign key", l.relation("TABLE"), l.relation("REFERENCES"))
		if name, ok := l.name(l.find("CONSTRAINT") + 1); ok {
			e.dropped[l.relation("TABLE").Quoted()+" "+name] = true
		}
		return false
	case "TRIGGER":
		table := l.relation("ON")
		if l.firstWord() == "ALTER" {
			table = l.relation("TABLE")
		}
		e.leave("trigger", table)
		return false
	case "POLICY":
		e.leave("policy", l.relation("ON"))
		return false
	case "ROW SECURITY":
		e.leave("row-level security", l.relation("TABLE"))
		return false
	case "RULE":
		if l.isRaw(0, "CREATE", "RULE") {
			e.leave("rule", l.relation("TO"))
			return false
		}
	case "ACL":
		if l.find("TABLE") > 0 {
			e.leave("privilege", l.relation("TABLE"))
		}
		return false
	case "PUBLICATION TABLE":
		e.leave("publication", l.relation("TABLE"))
		return false
	case "COMMENT":
		return e.keepsComment()
	case "DEFAULT ACL", "SECURITY LABEL", "EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "SUBSCRIPTION TABLE",
		"USER MAPPING", "BLOB", "BLOBS", "BLOB METADATA", "LARGE OBJECT", "DATABASE", "DATABASE PROPERTIES", "MATERIALIZED VIEW DATA",
		"REFRESH MATERIALIZED VIEW", "STATISTICS DATA":
		return false
	}
	return e.keepsDefinition()
}

// keepsRows decides about the COPY statement that just ended.
func (e *Extract) keepsRows() bool {
	e.close()
	table, ok := e.lexer.tableAt(1)
	e.rows = !ok || !e.wanted[table]
	return !e.rows
}

// keepsComment drops the comments of what was dropped.
func (e *Extract) keepsComment() bool {
	l := e.lexer
	switch on := l.raw(2); on {
	case "TRIGGER", "EVENT", "POLICY", "RULE", "PUBLICATION", "SUBSCRIPTION", "LARGE", "DATABASE", "EXTENSION", "ROLE", "TABLESPACE":
		return false
	case "CONSTRAINT":
		name, _ := l.name(3)
		table := l.relationFrom(4, "ON")
		if e.dropped[table.Quoted()+" "+name] {
			return false
		}
		e.note(table)
	case "TABLE":
		table, _ := l.tableAt(3)
		e.note(table)
	case "COLUMN":
		// schema.table.column
		schema, _ := l.name(3)
		name, _ := l.name(5)
		e.note(Table{schema, name})
	}
	return true
}

// keepsDefinition notes to which table an entry belongs. It keeps all but the forcing of policies, which are left out.
func (e *Extract) keepsDefinition() bool {
	l := e.lexer
	switch e.current.kind {
	case "TABLE", "DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "TABLE ATTACH", "SEQUENCE":
		table := l.relation("TABLE")
		if at := l.find("ATTACH"); at > 0 && l.raw(at+1) == "PARTITION" {
			if child, ok := l.tableAt(at + 2); ok {
				e.children[table] = append(e.children[table], child)
				table = child
			}
		}
		if n := len(l.tokens); l.firstWord() == "ALTER" && n > 5 && l.isRaw(n-5, "FORCE", "ROW", "LEVEL", "SECURITY") {
			e.leave("row-level security", table)
			return false
		}
		if l.firstWord() == "CREATE" && e.current.kind == "TABLE" {
			e.made[table] = true
		}
		if l.find("TABLE") > 0 {
			e.note(table)
		}
	case "INDEX", "STATISTICS":
		if l.firstWord() == "CREATE" {
			word := "ON"
			if e.current.kind == "STATISTICS" {
				word = "FROM"
			}
			e.note(l.relation(word))
		}
	}
	return true
}

func (e *Extract) note(table Table) {
	e.entries = append(e.entries, tableEntry{table, e.current.kind, e.current.title()})
}

func (e *Extract) leave(what string, tables ...Table) {
	text := string(bytes.TrimSuffix(e.lexer.text, []byte(";")))
	e.left = append(e.left, leftOut{slices.Clone(tables), fmt.Sprintf("%s: %s", what, text)})
}

// tableAt returns the table whose qualified name begins at token i.
func (l *lexer) tableAt(i int) (Table, bool) {
	schema, ok := l.name(i)
	if !ok || l.raw(i+1) != "." {
		return Table{}, false
	}
	name, ok := l.name(i + 2)
	return Table{schema, name}, ok
}

// relation returns the table whose name follows the first token that is the given word, and perhaps ONLY or IF EXISTS.
func (l *lexer) relation(word string) Table { return l.relationFrom(0, word) }

func (l *lexer) relationFrom(from int, word string) Table {
	for i := from; i < len(l.tokens); i++ {
		if l.tokens[i].kind != wordToken || l.raw(i) != word {
			continue
		}
		for i++; l.raw(i) == "ONLY" || l.raw(i) == "IF" || l.raw(i) == "EXISTS" || l.raw(i) == "NOT"; i++ {
		}
		if table, ok := l.tableAt(i); ok {
			return table
		}
		i--
	}
	return Table{}
}
