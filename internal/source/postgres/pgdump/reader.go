// Package pgdump hides the grammar of what pg_dump and pg_dumpall write as plain SQL, versions 13 to 18.
//
// Its laws: a [Reader] hands on every byte as it came, and its facts are made of those very bytes in the same pass. A
// dump is whole only with its trailer. Facts of a dump and of the dump of its restore, made by the same client, are
// equal: nothing enters them that differs from run to run (times, versions, the token of \restrict). Memory grows with
// the number of tables and other objects, not with their data. What pg_dump never writes is an error: it is damage,
// or an attack on the psql that will read it. Errors name lines and never show data.
//
// Scripts of other origin are another matter: [Scan] reads what psql reads, tells what they hold and name, and finds what in
// them reaches beyond the database. That is a search for words, and no proof that there is nothing.
//
// It is not its job to run programs, to connect to a server, or to understand SQL beyond what facts need. Views have no
// columns in the inventory, since a dump does not spell them out: their definition's digest stands for them.
//
// BUG: psql takes the name of a routine called begin for the beginning of its body, and so cannot restore a plain dump
// that holds one together with data. A dump with such a routine is refused rather than stored as if it were good.
package pgdump

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/internal/source"
)

// Reader passes a dump through and takes its facts. It is not safe for concurrent use.
type Reader struct {
	inner io.Reader
	lexer *lexer
	err   error

	facts   []source.Fact // of data
	entries []entry       // of the schema
	current *entry        // nil where statements belong to no entry
	hash    hash.Hash     // of the current entry's statements
	head    []byte        // how a statement too long to be held begins

	rows           source.RowSet
	table, columns string
	object         *largeObject
}

// entry is one object of the schema's inventory.
type entry struct {
	header
	columns string
	grants  []string
	grantor string
	digest  string
	objects []string // the large objects of a group
}

// largeObject is the one between lo_open and lo_close.
type largeObject struct {
	oid   string
	bytes int64
	hash  hash.Hash
	piece []byte
}

// NewReader returns a Reader of the dump r.
func NewReader(r io.Reader) *Reader {
	d := &Reader{inner: r, lexer: newLexer(trailerDatabase), hash: sha256.New()}
	d.lexer.spill = d.spill
	return d
}

// Read reads like the reader below it. It returns [io.EOF] only behind the trailer of a whole dump, [ErrTruncated]
// where the bytes end before, and an error that wraps [ErrMalformed] for what pg_dump does not write.
func (d *Reader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.inner.Read(p)
	if d.err = d.consume(p[:n]); d.err != nil {
		return 0, d.err
	}
	switch {
	case err == io.EOF:
		d.err = d.lexer.finish()
		if d.object != nil {
			d.err = ErrTruncated
		}
		d.endEntry()
		if n > 0 {
			return n, nil
		}
		return 0, d.err
	case err != nil:
		d.err = err
	}
	return n, err
}

// Facts returns what was seen, ordered by class and name. It fails before Read returned [io.EOF].
func (d *Reader) Facts() ([]source.Fact, error) {
	if d.err != io.EOF {
		if d.err != nil {
			return nil, fmt.Errorf("take facts of a dump: %w", d.err)
		}
		return nil, errors.New("take facts of a dump: it was not read to its end")
	}
	facts := slices.Clone(d.facts)
	entries := slices.Clone(d.entries)
	// Entries of equal names stand in no order that a restore keeps, so their content orders them.
	slices.SortStableFunc(entries, func(a, b entry) int {
		return slices.Compare([]string{a.title(), a.text(), a.digest}, []string{b.title(), b.text(), b.digest})
	})
	for _, e := range entries {
		facts = append(facts,
			source.Fact{Class: "schema", Name: e.title(), Rule: source.Exact, Text: e.text()},
			source.Fact{Class: "definition", Name: e.title(), Rule: source.Text, Digest: e.digest})
		if e.kind == "MATERIALIZED VIEW" {
			facts = append(facts, source.Fact{Class: "materialized view", Name: e.schema + "." + e.name,
				Rule: source.Listed, Text: "refreshed, not proven"})
		}
	}
	type key struct{ class, name string }
	used := make(map[key]bool, len(facts))
	for i := range facts {
		f := &facts[i]
		f.Name, f.Text = printable(f.Name), printable(f.Text)
		plain := f.Name
		for n := 2; used[key{f.Class, f.Name}]; n++ {
			f.Name = fmt.Sprintf("%s#%d", plain, n)
		}
		used[key{f.Class, f.Name}] = true
	}
	slices.SortFunc(facts, func(a, b source.Fact) int {
		if c := strings.Compare(a.Class, b.Class); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return facts, nil
}

// printable returns text with the bytes that are not UTF-8 spelled out: facts are kept as JSON, which would make the
// names of a dump in another encoding alike.
func printable(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, text[i])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// text is the part of an entry that must come back exactly.
func (e entry) text() string {
	parts := []string{"owner=" + e.owner}
	if e.columns != "" {
		parts = append(parts, "cols: "+e.columns)
	}
	return strings.Join(append(parts, e.grants...), "; ")
}

func (d *Reader) consume(p []byte) error {
	for len(p) > 0 {
		n, ev, err := d.lexer.next(p)
		if err == nil {
			err = d.take(ev)
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// take makes facts of the unit that just ended.
func (d *Reader) take(ev event) error {
	switch ev {
	case comment:
		if h, ok := parseHeader(d.lexer.line); ok {
			d.endEntry()
			if !h.data && !isData(h.kind) {
				d.current = &entry{header: h}
			}
		}
	case statement:
		if d.lexer.long {
			d.hash.Write(d.lexer.text)
			return d.takeLong()
		}
		if err := d.takeStatement(); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrMalformed, d.lexer.lines+1, err)
		}
	case copyEnd:
		d.facts = append(d.facts, source.Fact{Class: "table", Name: d.table, Rule: source.Exact, Rows: d.rows.Rows,
			Bytes: d.rows.Bytes, Digest: d.rows.Digest(), Text: d.columns})
		d.lexer.rows = nil
	}
	return nil
}

// isData reports whether entries of a kind are data, whose facts are made of the statements themselves, or statistics,
// which differ from run to run.
func isData(kind string) bool {
	switch kind {
	case "SEQUENCE SET", "BLOBS", "STATISTICS DATA":
		return true
	}
	return false
}

func (d *Reader) spill(text []byte) {
	if d.head == nil {
		d.head = append([]byte{}, text[:min(len(text), 64)]...)
	}
	d.hash.Write(text)
}

// takeLong ends a statement that was not held whole. Only those may be so long that make no fact but a digest.
func (d *Reader) takeLong() error {
	head := string(d.head)
	d.head = nil
	for _, prefix := range []string{"CREATE FUNCTION ", "CREATE PROCEDURE ", "CREATE OR REPLACE ", "CREATE VIEW ",
		"CREATE MATERIALIZED VIEW ", "CREATE RULE ", "CREATE TYPE ", "COMMENT ON ", "SECURITY LABEL "} {
		if strings.HasPrefix(head, prefix) {
			return nil
		}
	}
	return fmt.Errorf("%w: line %d: a statement is longer than %d bytes", ErrMalformed, d.lexer.lines+1, maxStatement)
}

func (d *Reader) takeStatement() error {
	l := d.lexer
	switch l.firstWord() {
	case "COPY":
		table, columns, err := l.copyTarget()
		if err != nil {
			return err
		}
		d.table, d.columns, d.rows = table, columns, source.RowSet{}
		l.rows = &d.rows
		return nil
	case "SELECT":
		if l.isRaw(1, "pg_catalog", ".", "setval", "(") {
			return d.takeSequence()
		}
		if l.isRaw(1, "pg_catalog", ".", "lo_create", "(") && d.current != nil {
			if oid, ok := l.literal(5); ok {
				d.current.objects = append(d.current.objects, oid)
				return nil
			}
		}
		if l.isRaw(1, "pg_catalog", ".") && (l.raw(3) == "lo_open" || l.raw(3) == "lowrite" || l.raw(3) == "lo_close") {
			return d.takeLargeObject()
		}
	case "SET":
		if !l.isRaw(1, "SESSION", "AUTHORIZATION") {
			// Settings stand between entries and belong to none.
			return nil
		}
	case "ALTER":
		if l.isRaw(1, "LARGE", "OBJECT") && d.current != nil && len(d.current.objects) > 0 {
			// Its owner stands in the header.
			return nil
		}
	case "CREATE":
		if l.raw(1) == "EXTENSION" {
			i := 2
			if l.isRaw(i, "IF", "NOT", "EXISTS") {
				i += 3
			}
			name, ok := l.name(i)
			if !ok {
				return errors.New("CREATE EXTENSION names no extension")
			}
			d.facts = append(d.facts, source.Fact{Class: "extension", Name: name, Rule: source.Exact})
		}
	}
	if d.current == nil {
		return nil
	}
	switch d.current.kind {
	case "ACL", "DEFAULT ACL":
		d.takeGrant()
		return nil
	case "TABLE", "FOREIGN TABLE":
		if columns, ok := l.columns(); ok {
			d.current.columns = columns
		}
	}
	d.hash.Write(l.text)
	d.hash.Write([]byte{'\n'})
	return nil
}

// takeGrant adds a GRANT or REVOKE to the entry's set. Who granted is part of it where it was not the owner.
func (d *Reader) takeGrant() {
	text := strings.TrimSuffix(string(d.lexer.text), ";")
	switch grantor, isSession := strings.CutPrefix(text, "SET SESSION AUTHORIZATION "); {
	case isSession:
		d.current.grantor = " by " + grantor
	case text == "RESET SESSION AUTHORIZATION":
		d.current.grantor = ""
	default:
		d.current.grants = append(d.current.grants, text+d.current.grantor)
	}
}

func (d *Reader) endEntry() {
	e := d.current
	d.current = nil
	if e == nil {
		d.hash.Reset()
		return
	}
	// The order of grants is not kept by a restore.
	slices.Sort(e.grants)
	e.grants = slices.Compact(e.grants)
	for _, grant := range e.grants {
		io.WriteString(d.hash, grant+"\n")
	}
	e.digest = hex.EncodeToString(d.hash.Sum(nil))
	d.hash.Reset()
	d.entries = append(d.entries, e.apart()...)
}

// largeObjectGrant finds the large object that a GRANT or REVOKE is about.
var largeObjectGrant = regexp.MustCompile(`^(?:GRANT|REVOKE) .* ON LARGE OBJECT (\d+) `)

// apart splits what speaks of large objects: from version 17 on pg_dump puts those of one owner into one entry, and
// before it made one for each. The facts of both must be the same.
func (e entry) apart() []entry {
	if len(e.objects) > 0 {
		var all []entry
		for _, oid := range e.objects {
			all = append(all, entry{header: header{kind: "LARGE OBJECT", name: oid, schema: "-", owner: e.owner}, digest: e.digest})
		}
		return all
	}
	if e.kind != "ACL" || !strings.HasPrefix(e.name, "LARGE OBJECT") {
		return []entry{e}
	}
	var all []entry
	for _, grant := range e.grants {
		match := largeObjectGrant.FindStringSubmatch(grant)
		if match == nil {
			return []entry{e}
		}
		name := "LARGE OBJECT " + match[1]
		i := slices.IndexFunc(all, func(one entry) bool { return one.name == name })
		if i < 0 {
			i = len(all)
			all = append(all, entry{header: header{kind: "ACL", name: name, schema: e.schema, owner: e.owner}})
		}
		all[i].grants = append(all[i].grants, grant)
	}
	for i := range all {
		sum := sha256.Sum256([]byte(strings.Join(all[i].grants, "\n")))
		all[i].digest = hex.EncodeToString(sum[:])
	}
	return all
}

// takeSequence reads SELECT pg_catalog.setval('name', value, called);
func (d *Reader) takeSequence() error {
	l := d.lexer
	name, ok := l.literal(5)
	last := len(l.tokens) - 2
	if !ok || last < 8 || l.raw(6) != "," || l.raw(last) != ")" {
		return errors.New("setval is not as pg_dump writes it")
	}
	value := string(l.text[l.tokens[7].start:l.tokens[last-1].end])
	d.facts = append(d.facts, source.Fact{Class: "sequence", Name: name, Rule: source.Exact, Text: value})
	return nil
}

// takeLargeObject reads one of
//
//	SELECT pg_catalog.lo_open('oid', mode);
//	SELECT pg_catalog.lowrite(0, '\x…');
//	SELECT pg_catalog.lo_close(0);
func (d *Reader) takeLargeObject() error {
	l := d.lexer
	switch {
	case l.raw(3) == "lo_open" && d.object == nil:
		if oid, ok := l.literal(5); ok {
			d.object = &largeObject{oid: oid, hash: sha256.New()}
			return nil
		}
	case l.raw(3) == "lowrite" && d.object != nil:
		text, ok := l.literal(7)
		if text, isHex := strings.CutPrefix(text, `\x`); ok && isHex {
			piece, err := hex.AppendDecode(d.object.piece[:0], []byte(text))
			if err != nil {
				break
			}
			d.object.piece = piece
			d.object.bytes += int64(len(piece))
			d.object.hash.Write(piece)
			return nil
		}
	case l.raw(3) == "lo_close" && d.object != nil:
		d.facts = append(d.facts, source.Fact{Class: "large object", Name: d.object.oid, Rule: source.Exact,
			Bytes: d.object.bytes, Digest: hex.EncodeToString(d.object.hash.Sum(nil))})
		d.object = nil
		return nil
	}
	return errors.New("a large object is not as pg_dump writes it")
}
