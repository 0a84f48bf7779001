package postgres

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// roles are the globals of a backup.
type roles struct{ pgdump.Globals }

func parseRoles(content []byte) (roles, error) {
	globals, err := pgdump.ParseGlobals(bytes.NewReader(content))
	return roles{globals}, err
}

func (r roles) tablespaces() []string {
	var names []string
	for _, t := range r.Tablespaces {
		names = append(names, t.Name)
	}
	return names
}

func (r roles) find(name string) (pgdump.Role, bool) {
	i := slices.IndexFunc(r.Roles, func(role pgdump.Role) bool { return role.Name == name })
	if i < 0 {
		return pgdump.Role{}, false
	}
	return r.Roles[i], true
}

var (
	passwordClause = regexp.MustCompile(` PASSWORD '(?:[^']|'')*'`)
	adminOption    = regexp.MustCompile(` WITH (?:[A-Z]+ [A-Z]+, )*ADMIN (?:OPTION|TRUE)(?:, [A-Z]+ [A-Z]+)*(?: GRANTED BY [^;]*)?;?\s*$`)
	shutOut        = regexp.MustCompile(` SET "?` + regexp.QuoteMeta(closedMark) + `"? (?:TO|=) 'closed'`)
	grantorClause  = regexp.MustCompile(` GRANTED BY (?:"(?:[^"]|"")*"|[^\s;]+)`)
)

// roleFacts tell what roles may do, without their passwords. A restore on a live server leaves roles as they are, so
// a difference is shown and fails nothing; a role that the data needs is part of the data's own facts.
func roleFacts(content []byte) ([]source.Fact, error) {
	r, err := parseRoles(content)
	if err != nil {
		return nil, err
	}
	var list []source.Fact
	for _, role := range r.Roles {
		lines := slices.Clone(role.Alter)
		for _, m := range r.Memberships {
			if m.Member == role.Name {
				lines = append(lines, grantorClause.ReplaceAllString(m.SQL, ""))
			}
		}
		for _, s := range r.Settings {
			if s.Role == role.Name {
				lines = append(lines, s.SQL)
			}
		}
		for i := range lines {
			lines[i] = strings.TrimSuffix(strings.TrimSpace(passwordClause.ReplaceAllString(lines[i], "")), ";")
		}
		slices.Sort(lines)
		list = append(list, source.Fact{Class: "role", Name: role.Name, Rule: source.Text,
			Text: strings.Join(slices.Compact(lines), "; ")})
	}
	for _, name := range r.tablespaces() {
		list = append(list, source.Fact{Class: "tablespace", Name: name, Rule: source.Listed,
			Text: "where things lie on a server's disks is not proven"})
	}
	return list, nil
}

// checkRoles reads the roles of the target that the backup knows.
func (p *Place) checkRoles(ctx context.Context, client pgclient.Program) ([]source.Fact, error) {
	content, err := readGlobals(ctx, p.programs, client.Beside("pg_dumpall"), p.server, false)
	if err != nil {
		return nil, err
	}
	list, err := roleFacts(content)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(fact source.Fact) bool {
		_, known := p.roles.find(fact.Name)
		return fact.Class != "role" || !known
	}), nil
}

// needed are the roles that the databases refer to.
func (p *Place) needed() []string {
	var names []string
	for _, s := range p.staged {
		names = append(names, s.Roles...)
		names = append(names, s.Owner)
		for _, g := range s.Grants {
			names = append(names, g.Grantee)
		}
		for _, setting := range s.Settings {
			names = append(names, setting.Role)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return name == "" || strings.HasPrefix(name, "pg_")
	})
}

// wanted are the roles that are restored: in a drill, and with a whole cluster, all of the globals, else only those that the
// databases refer to.
func (p *Place) wanted() []string {
	names := p.needed()
	if p.drill || p.together {
		for _, role := range p.roles.Roles {
			if !slices.Contains(names, role.Name) && !strings.HasPrefix(role.Name, "pg_") {
				names = append(names, role.Name)
			}
		}
	}
	return names
}

// makeRoles creates the wanted roles that are missing. In a drill existing roles (the first one) are changed to what they were.
func (p *Place) makeRoles(ctx context.Context) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	existing, err := pgclient.Strings(ctx, conn, `SELECT rolname::text FROM pg_catalog.pg_roles`)
	if err != nil {
		return pgclient.ExplainQuery("list the roles", err)
	}
	var alter []string
	for _, name := range p.wanted() {
		role, known := p.roles.find(name)
		if slices.Contains(existing, name) {
			if p.drill {
				alter = append(alter, role.Alter...)
			}
			continue
		}
		create := role.Create
		if !known || create == "" {
			create = "CREATE ROLE " + pgclient.QuoteIdent(name)
			p.warn("role %q is not among the globals of the backup: it is created without any right to log in", name)
		}
		if err := p.exec(ctx, "create role "+pgclient.QuoteIdent(name), create); err != nil {
			return err
		}
		p.created = append(p.created, name)
		alter = append(alter, role.Alter...)
	}
	for _, statement := range alter {
		// The statement may hold a password's hash, so it is not repeated.
		if err := p.exec(ctx, "give the roles their attributes", statement); err != nil {
			return err
		}
	}
	if p.drill && len(alter) > 0 {
		// Whoever was shut out when the backup was made may be who works here.
		if err := p.exec(ctx, "keep the throwaway server open", "ALTER ROLE CURRENT_USER LOGIN"); err != nil {
			return err
		}
	}
	all := append(existing, p.created...)
	for _, m := range p.roles.Memberships {
		concerns := p.drill || slices.Contains(p.created, m.Role) || slices.Contains(p.created, m.Member)
		if !concerns || !slices.Contains(all, m.Role) || !slices.Contains(all, m.Member) {
			continue
		}
		if err := p.grantMembership(ctx, m); err != nil {
			return err
		}
	}
	if p.drill || p.settles {
		for _, statement := range p.roles.Other {
			if err := p.exec(ctx, "restore a global", statement); err != nil {
				p.warn("%v", err)
			}
		}
	}
	if p.drill {
		return ctx.Err()
	}
	p.applyRoleSettings(ctx, p.created)
	p.tellShutOut(p.created)
	return ctx.Err()
}

// grantMembership falls back to a plain grant in our own name: who granted it at the source may not exist here, and
// servers before 16 know no other option than ADMIN.
func (p *Place) grantMembership(ctx context.Context, m pgdump.Membership) error {
	err := p.exec(ctx, "make role "+pgclient.QuoteIdent(m.Member)+" a member of "+pgclient.QuoteIdent(m.Role), m.SQL)
	if err == nil || ctx.Err() != nil {
		return err
	}
	plain := fmt.Sprintf("GRANT %s TO %s", pgclient.QuoteIdent(m.Role), pgclient.QuoteIdent(m.Member))
	if adminOption.MatchString(m.SQL) {
		plain += " WITH ADMIN OPTION"
	}
	err = p.exec(ctx, "make role "+pgclient.QuoteIdent(m.Member)+" a member of "+pgclient.QuoteIdent(m.Role), plain)
	if err != nil {
		p.warn("%v", err)
	}
	return ctx.Err()
}

// applyRoleSettings runs the ALTER ROLE … SET of the named roles, nil: of all. One that fails, as for a library that is
// not loaded here, is told.
func (p *Place) applyRoleSettings(ctx context.Context, names []string) {
	for _, s := range p.roles.Settings {
		if names != nil && !slices.Contains(names, s.Role) {
			continue
		}
		if err := p.exec(ctx, "set a parameter of role "+pgclient.QuoteIdent(s.Role), s.SQL); err != nil {
			p.warn("%v", err)
		}
	}
}

// changeRoles makes the roles that existed before what they were at backup time.
func (p *Place) changeRoles(ctx context.Context) error {
	var changed []string
	for _, name := range p.wanted() {
		role, known := p.roles.find(name)
		if !known || slices.Contains(p.created, name) {
			continue
		}
		for _, statement := range role.Alter {
			if err := p.exec(ctx, "change role "+pgclient.QuoteIdent(name), statement); err != nil {
				return err
			}
		}
		changed = append(changed, name)
		for _, m := range p.roles.Memberships {
			if m.Member == name {
				if err := p.grantMembership(ctx, m); err != nil {
					return err
				}
			}
		}
	}
	if len(changed) > 0 {
		p.applyRoleSettings(ctx, changed)
		p.tellShutOut(changed)
	}
	return ctx.Err()
}

// tellShutOut names the roles that came back as a move of the server's directory had left them: the backup was made while applications were shut
// out, and nobody lets them in here. Where the move goes on, it does.
func (p *Place) tellShutOut(names []string) {
	if p.settles {
		return
	}
	var roles, statements []string
	for _, s := range p.roles.Settings {
		if !slices.Contains(names, s.Role) || !shutOut.MatchString(s.SQL) {
			continue
		}
		name := pgclient.QuoteIdent(s.Role)
		roles = append(roles, name)
		statements = append(statements, "ALTER ROLE "+name+" LOGIN; ALTER ROLE "+name+" RESET "+closedMark+";")
	}
	if len(roles) > 0 {
		p.warn("the backup was made while applications were shut out, and these roles cannot log in: %s; to let them in: %s", strings.Join(roles, ", "), strings.Join(statements, " "))
	}
}
