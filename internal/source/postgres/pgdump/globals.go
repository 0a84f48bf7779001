package pgdump

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// Globals is what pg_dumpall --globals-only says. Every SQL text is one statement as it stood, and may hold a password's
// hash. Names are without quotes.
type Globals struct {
	// Preamble holds the settings, among them the client encoding, that the other statements rely on.
	Preamble    []string
	Roles       []Role
	Memberships []Membership
	Settings    []Setting
	Tablespaces []Tablespace
	// Other holds what belongs to no field above, such as grants on parameters.
	Other []string
}

// Role is one role.
type Role struct {
	Name   string
	Create string
	Alter  []string // attributes, comments and security labels
}

// Membership makes Member a member of Role.
type Membership struct {
	Role, Member string
	SQL          string
}

// Setting is one ALTER ROLE … SET.
type Setting struct {
	Role string
	SQL  string
}

// Tablespace is one tablespace.
type Tablespace struct {
	Name   string
	Create string
	Alter  []string // options, grants, comments and security labels
}

// ParseGlobals reads what pg_dumpall --globals-only wrote. Like a [Reader], it fails with [ErrTruncated] without the
// trailer and with [ErrMalformed] on what pg_dumpall does not write.
func ParseGlobals(r io.Reader) (Globals, error) {
	var globals Globals
	l := newLexer(trailerCluster)
	chunk := make([]byte, 64<<10)
	var unit []byte
	for {
		n, err := r.Read(chunk)
		for p := chunk[:n]; len(p) > 0; {
			n, ev, lexErr := l.next(p)
			if lexErr != nil {
				return Globals{}, fmt.Errorf("parse globals: %w", lexErr)
			}
			unit = append(unit, p[:n]...)
			p = p[n:]
			if ev == statement {
				if l.long || l.firstWord() == "COPY" {
					return Globals{}, fmt.Errorf("parse globals: %w: line %d: a statement is not a global", ErrMalformed, l.lines+1)
				}
				globals.take(l, string(bytes.TrimLeft(unit, " \t\r\n\f\v")))
			}
			if ev != more {
				unit = unit[:0]
			}
		}
		if err == io.EOF {
			err = l.finish()
		}
		if err == io.EOF {
			return globals, nil
		}
		if err != nil {
			return Globals{}, fmt.Errorf("parse globals: %w", err)
		}
	}
}

func (g *Globals) take(l *lexer, sql string) {
	kind := l.firstWord() + " " + l.raw(1)
	name, named := l.name(2)
	switch {
	case l.firstWord() == "SET":
		g.Preamble = append(g.Preamble, sql)
		return
	case kind == "CREATE ROLE" && named:
		g.role(name).Create = sql
		return
	case kind == "ALTER ROLE" && named:
		switch l.raw(3) {
		case "SET", "RESET", "IN":
			g.Settings = append(g.Settings, Setting{name, sql})
		default:
			r := g.role(name)
			r.Alter = append(r.Alter, sql)
		}
		return
	case kind == "CREATE TABLESPACE" && named:
		g.tablespace(name).Create = sql
		return
	case kind == "ALTER TABLESPACE" && named:
		t := g.tablespace(name)
		t.Alter = append(t.Alter, sql)
		return
	case l.firstWord() == "GRANT" && l.raw(2) == "TO":
		role, isRole := l.name(1)
		member, isMember := l.name(3)
		if isRole && isMember {
			g.Memberships = append(g.Memberships, Membership{role, member, sql})
			return
		}
	}
	// COMMENT ON ROLE x, SECURITY LABEL FOR p ON ROLE x, GRANT p ON TABLESPACE x
	if on := l.find("ON"); on > 0 {
		switch name, named := l.name(on + 2); {
		case l.raw(on+1) == "ROLE" && named:
			r := g.role(name)
			r.Alter = append(r.Alter, sql)
			return
		case l.raw(on+1) == "TABLESPACE" && named:
			t := g.tablespace(name)
			t.Alter = append(t.Alter, sql)
			return
		}
	}
	g.Other = append(g.Other, sql)
}

// find returns the index of the first token that is the given word, or -1.
func (l *lexer) find(word string) int {
	return slices.IndexFunc(l.tokens, func(t token) bool { return string(l.text[t.start:t.end]) == word })
}

// role returns the role of that name, new if need be.
func (g *Globals) role(name string) *Role {
	i := slices.IndexFunc(g.Roles, func(r Role) bool { return r.Name == name })
	if i < 0 {
		i = len(g.Roles)
		g.Roles = append(g.Roles, Role{Name: name})
	}
	return &g.Roles[i]
}

// tablespace returns the tablespace of that name, new if need be.
func (g *Globals) tablespace(name string) *Tablespace {
	i := slices.IndexFunc(g.Tablespaces, func(t Tablespace) bool { return t.Name == name })
	if i < 0 {
		i = len(g.Tablespaces)
		g.Tablespaces = append(g.Tablespaces, Tablespace{Name: name})
	}
	return &g.Tablespaces[i]
}
