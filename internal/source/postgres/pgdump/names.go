package pgdump

import (
	"slices"
	"strings"
)

// names takes from a statement the roles that it refers to, and what it makes that a server may lack.
func (s *scanner) names(first string) {
	l := s.lexer
	kind := strings.ToUpper(l.raw(1))
	switch first {
	case "CREATE":
		s.create(kind)
	case "GRANT", "REVOKE":
		s.granted(0)
	case "ALTER":
		switch {
		case kind == "DEFAULT":
			s.defaults()
		case kind == "ROLE" || kind == "USER" && !strings.EqualFold(l.raw(2), "MAPPING") || kind == "GROUP":
			s.role(2)
		}
	case "SET":
		i := 1
		if word := strings.ToUpper(l.raw(i)); word == "SESSION" || word == "LOCAL" {
			i++
		}
		switch word := strings.ToUpper(l.raw(i)); word {
		case "AUTHORIZATION", "ROLE":
			s.role(i + 1)
		case "CLIENT_ENCODING":
			if name, ok := l.literal(i + 2); ok && s.script.Encoding == "" {
				s.script.Encoding = strings.ToUpper(name)
			}
		}
	}
	for i := range l.tokens {
		if l.isWord(i, "OWNER") && l.isWord(i+1, "TO") {
			s.role(i + 2)
		}
	}
}

func (l *lexer) isWord(i int, word string) bool {
	return i < len(l.tokens) && l.tokens[i].kind == wordToken && strings.EqualFold(l.raw(i), word)
}

// create reads a CREATE.
func (s *scanner) create(kind string) {
	l := s.lexer
	s.creates = s.creates || l.makes("TABLE")
	i := 2
	if l.isWord(i, "IF") {
		i += 3
	}
	name, _ := l.folded(i)
	switch kind {
	case "ROLE", "USER", "GROUP":
		if kind == "USER" && l.isWord(2, "MAPPING") {
			if at := l.wordAt("FOR", 3); at > 0 {
				s.role(at + 1)
			}
			return
		}
		s.made[name] = true
	case "DATABASE":
		s.script.Databases = append(s.script.Databases, name)
		if s.script.Create == "" {
			s.script.Create = string(l.text)
		}
	case "TABLESPACE":
		s.script.Tablespaces = append(s.script.Tablespaces, name)
	case "EXTENSION":
		if name != "" && !slices.Contains(s.script.Extensions, name) {
			s.script.Extensions = append(s.script.Extensions, name)
		}
	case "SCHEMA":
		if name == "public" && i == 2 {
			s.script.MakesPublic = true
			if s.script.Cluster && s.database != "" {
				s.partOf(s.database).MakesPublic = true
			}
		}
		if at := l.wordAt("AUTHORIZATION", 2); at > 0 {
			s.role(at + 1)
		}
	case "POLICY":
		if at := l.wordAt("TO", 4); at > 0 && at < 12 {
			s.list(at + 1)
		}
	}
}

// makes reports whether word stands among the first words of a CREATE, behind those that say what kind of it.
func (l *lexer) makes(word string) bool {
	return slices.ContainsFunc([]int{1, 2, 3}, func(i int) bool { return l.isWord(i, word) })
}

// wordAt returns the index of the first unquoted word from token i on, outside of parentheses, or -1.
func (l *lexer) wordAt(word string, i int) int {
	for depth := 0; i < len(l.tokens); i++ {
		switch {
		case l.raw(i) == "(":
			depth++
		case l.raw(i) == ")":
			depth--
		case depth == 0 && l.isWord(i, word):
			return i
		}
	}
	return -1
}

// granted reads GRANT … TO a, b and REVOKE … FROM a, b from token i on. Without ON it is about roles on both sides.
func (s *scanner) granted(i int) {
	l := s.lexer
	end := "TO"
	if l.isWord(i, "REVOKE") {
		end = "FROM"
	}
	at := l.wordAt(end, i+1)
	if at < 0 {
		return
	}
	if l.wordAt("ON", i+1) < 0 {
		begin := i + 1
		for l.isWord(begin, "ADMIN") || l.isWord(begin, "INHERIT") || l.isWord(begin, "GRANT") || l.isWord(begin, "OPTION") || l.isWord(begin, "FOR") {
			begin++
		}
		s.list(begin)
	}
	s.list(at + 1)
	if by := l.wordAt("BY", at); by > 0 && l.isWord(by-1, "GRANTED") {
		s.role(by + 1)
	}
}

// defaults reads ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT … TO b.
func (s *scanner) defaults() {
	l := s.lexer
	if at := l.wordAt("FOR", 3); at > 0 && (l.isWord(at+1, "ROLE") || l.isWord(at+1, "USER")) {
		s.list(at + 2)
	}
	for _, word := range []string{"GRANT", "REVOKE"} {
		if at := l.wordAt(word, 3); at > 0 {
			s.granted(at)
			return
		}
	}
}

// list reads roles with commas between them.
func (s *scanner) list(i int) {
	for ; ; i++ {
		if s.lexer.isWord(i, "GROUP") {
			i++
		}
		s.role(i)
		if i++; s.lexer.raw(i) != "," {
			return
		}
	}
}

// role notes the role at token i, a name or a string.
func (s *scanner) role(i int) {
	l := s.lexer
	name, ok := l.folded(i)
	if !ok {
		if name, ok = l.literal(i); !ok {
			return
		}
	} else if l.tokens[i].kind == wordToken {
		switch strings.ToUpper(name) {
		case "PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "DEFAULT", "NONE", "ALL":
			return
		}
	}
	if name != "" {
		s.roles[name] = true
	}
}

// folded is the name at token i as the server keeps it.
func (l *lexer) folded(i int) (string, bool) {
	name, ok := l.name(i)
	if ok && l.tokens[i].kind == wordToken {
		name = strings.ToLower(name)
	}
	return name, ok
}

// onDatabase reports whether the statement makes or changes a database as a whole, which words say so, and which token is
// its name; -1: it may be any.
func (l *lexer) onDatabase() (what string, name int, is bool) {
	switch first := l.firstWord(); first {
	case "CREATE", "DROP", "ALTER":
		if first == "ALTER" && l.isWord(1, "ROLE") {
			return "ALTER ROLE IN DATABASE", 5, l.isWord(3, "IN") && l.isWord(4, "DATABASE")
		}
		return first + " DATABASE", 2, l.isWord(1, "DATABASE")
	case "COMMENT":
		return first + " ON DATABASE", 3, l.isWord(1, "ON") && l.isWord(2, "DATABASE")
	case "GRANT", "REVOKE", "SECURITY":
		at := l.wordAt("ON", 1)
		return first + " ON DATABASE", at + 2, at > 0 && l.isWord(at+1, "DATABASE")
	case "UPDATE": // of pg_dump --clean, before it drops a template
		return "UPDATE pg_database", -1, l.isRaw(1, "pg_catalog", ".", "pg_database")
	}
	return "", -1, false
}
