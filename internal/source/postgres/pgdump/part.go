package pgdump

import (
	"regexp"
	"slices"
	"strings"
)

// Part is one database of a cluster's dump.
type Part struct {
	Name string
	// Create is the statement that makes it, "" where the dump takes it for granted: postgres, template1.
	Create string
	// Properties are the other statements on the database as a whole, in order.
	Properties []Property
	// Filled says that something is made or filled in it.
	Filled bool
	// MakesPublic is as in [Script].
	MakesPublic bool
}

// Property is a statement on a database as a whole, without the database's name between Before and After.
type Property struct{ Before, After string }

// maxHeld bounds the statements of a cluster's dump that are held in memory: those on roles and on databases.
const maxHeld = 64 << 20

// partOf returns the part of that name, new if need be.
func (s *scanner) partOf(name string) *Part {
	i := slices.IndexFunc(s.script.Parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		i = len(s.script.Parts)
		s.script.Parts = append(s.script.Parts, Part{Name: name})
	}
	return &s.script.Parts[i]
}

// share notes what a statement of a cluster's dump is to: a database as a whole, what is in one, or the cluster.
func (s *scanner) share(first string) {
	l := s.lexer
	if !l.long {
		if what, at, is := l.onDatabase(); is {
			s.whole(what, at)
			return
		}
	}
	if s.database != "" {
		if fills(l, first) {
			s.partOf(s.database).Filled = true
		}
		return
	}
	known := first == "CREATE" && (l.isWord(1, "ROLE") || l.isWord(1, "TABLESPACE")) ||
		slices.Contains([]string{"ALTER", "GRANT", "REVOKE", "COMMENT", "SECURITY"}, first)
	switch {
	case known && !l.long:
		s.held += len(l.text)
		s.script.Globals.take(l, string(l.text))
	case known || fills(l, first):
		s.astray(first)
	}
}

// whole notes a statement on a database as a whole, whose name is token at.
func (s *scanner) whole(what string, at int) {
	l := s.lexer
	if at < 0 || strings.HasPrefix(what, "DROP") {
		return // what is restored beside all others needs nothing dropped, and no catalog changed
	}
	name, named := l.folded(at)
	if !named || l.raw(at+1) == "," {
		s.astray(what)
		return
	}
	s.held += len(l.text)
	part := s.partOf(name)
	if strings.HasPrefix(what, "CREATE") {
		part.Create = string(l.text)
		return
	}
	token := l.tokens[at]
	part.Properties = append(part.Properties, Property{string(l.text[:token.start]), string(l.text[token.end:])})
}

// astray notes what pg_dumpall writes nowhere: it belongs to no database that could be staged.
func (s *scanner) astray(what string) {
	if len(s.script.Astray) < maxFindings {
		s.script.Astray = append(s.script.Astray, Finding{s.lexer.began, what + " that belongs to no one database"})
	}
}

// plpgsql is in every database already.
var plpgsql = regexp.MustCompile(`^CREATE EXTENSION (?:IF NOT EXISTS )?plpgsql\b`)

// fills reports whether a statement makes or fills something. What a dump of an empty database holds does not.
func fills(l *lexer, first string) bool {
	switch first {
	case "SET", "COMMENT", "ALTER", "GRANT", "REVOKE", "BEGIN", "COMMIT", "SECURITY", "DROP":
		return l.long
	case "SELECT":
		return l.long || !l.isRaw(1, "pg_catalog", ".", "set_config")
	case "CREATE":
		return l.long || !plpgsql.Match(l.text)
	}
	return true
}
