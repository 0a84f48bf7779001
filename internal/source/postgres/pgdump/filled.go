package pgdump

import (
	"slices"
	"strings"
)

// filled is a table that the script fills.
type filled struct {
	name      string // of its fact
	database  string
	parts     []string // of the name as the server takes it; none: that is not understood
	rows      int64
	uncounted bool // in a way that tells no rows, or more than once: its parts cannot be told apart then
	gone      bool // the script itself drops or renames it later
}

// fill notes that a table is filled.
func (s *scanner) fill(table string) *filled {
	name := table
	if s.script.Cluster && s.database != "" {
		name = s.database + ": " + table
	}
	name = printable(name)
	t := s.tables[name]
	if t == nil {
		parts, _ := SplitName(fold(table))
		t = &filled{name: name, database: s.database, parts: parts}
		s.tables[name] = t
	} else {
		t.uncounted = true
	}
	t.gone = false
	return t
}

// leave marks the tables that a DROP or an ALTER takes away, of those that were filled.
func (s *scanner) leave(first string) {
	l := s.lexer
	kind := strings.ToUpper(l.raw(1))
	if len(s.tables) == 0 || l.long || first != "DROP" && first != "ALTER" || kind != "TABLE" && kind != "SCHEMA" {
		return
	}
	i := 2
	for l.isWord(i, "IF") || l.isWord(i, "EXISTS") || l.isWord(i, "ONLY") {
		i++
	}
	for {
		begin := i
		for l.tokenKind(i) != punctToken && l.raw(i+1) == "." {
			i += 2
		}
		if l.tokenKind(i) == punctToken {
			return
		}
		i++
		renamed := l.isWord(i, "RENAME") && l.isWord(i+1, "TO") || l.isWord(i, "SET") && l.isWord(i+1, "SCHEMA")
		s.script.Moved = s.script.Moved || first == "DROP" || l.isWord(i, "DETACH")
		if first == "ALTER" && !renamed {
			return
		}
		s.part(string(l.text[l.tokens[begin].start:l.tokens[i-1].end]), kind == "SCHEMA")
		if first == "ALTER" || l.raw(i) != "," {
			return
		}
		i++
	}
}

// part marks the tables of a name, or of a schema.
func (s *scanner) part(name string, schema bool) {
	taken, ok := SplitName(fold(name))
	if !ok {
		return
	}
	for _, t := range s.tables {
		if t.database != s.database {
			continue
		}
		if schema {
			t.gone = t.gone || len(t.parts) > 1 && t.parts[len(t.parts)-2] == taken[len(taken)-1]
			continue
		}
		// Where one of the two names no schema, it may be the same table.
		n := min(len(t.parts), len(taken))
		t.gone = t.gone || n > 0 && slices.Equal(t.parts[len(t.parts)-n:], taken[len(taken)-n:])
	}
}

// fold is a name with what stands outside of quotes in lower case, as the server takes it.
func fold(name string) string {
	quoted := false
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			quoted = !quoted
		case !quoted && 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
		}
		return r
	}, name)
}
