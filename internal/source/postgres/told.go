package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// toldTable is the class of facts about tables that a script fills and that did not come back by the name it gives them. Under
// the rule Exact Rows were counted in what it was found to be; under Listed Text tells why nobody can count them, as the rest
// of a sentence.
const toldTable = "table of the file"

// Check dumps what came of a script, and looks for the tables that it fills and that are not in it by their name.
func (p scripted) Check(ctx context.Context) (source.Facts, error) {
	facts, err := p.Place.Check(ctx)
	if err != nil {
		return facts, err
	}
	found, err := p.missed(ctx, facts.Facts)
	facts.Facts = append(facts.Facts, found...)
	return facts, because(ctx, "check", err)
}

// missed tells of tables of the script that are not among the facts. Those of which nothing is known are left out.
func (p scripted) missed(ctx context.Context, facts []source.Fact) ([]source.Fact, error) {
	here := map[string]bool{}
	for _, fact := range facts {
		if fact.Class == "table" {
			here[fact.Name] = true
		}
	}
	wanted := slices.Clone(p.script.Tables)
	var found []source.Fact
	for _, name := range p.script.Gone {
		switch {
		case here[name]:
			// What the file gave that name to was another table then.
			found = append(found, source.Fact{Class: toldTable, Name: name, Rule: source.Listed, Text: "and the file itself drops or renames it: what has the name now may be another"})
		case slices.Contains(p.script.Uncounted, name):
			wanted = append(wanted, source.Fact{Name: name})
		}
	}
	sessions := map[string]pgclient.Session{}
	defer func() {
		for _, conn := range sessions {
			conn.Close() // it changed nothing
		}
	}()
	for _, fact := range wanted {
		if here[fact.Name] {
			continue
		}
		s, table := p.home(fact.Name)
		if s == nil {
			if strings.HasPrefix(fact.Name, "template1: ") && !p.drill {
				found = append(found, source.Fact{Class: toldTable, Name: fact.Name, Rule: source.Listed, Text: "in database template1, which is left out"})
			}
			continue
		}
		conn := sessions[s.staging]
		if conn == nil {
			var err error
			if conn, _, err = p.site.Dial(ctx, p.server.On(s.staging)); err != nil {
				return nil, err
			}
			sessions[s.staging] = conn
			// A table whose rows hide from its owner would be counted wrong.
			if err := pgclient.Exec(ctx, conn, "SET row_security = off"); err != nil {
				return nil, pgclient.ExplainQuery("look into database "+pgclient.QuoteIdent(s.staging), err)
			}
		}
		made, is, err := p.search(ctx, conn, fact, table)
		if err != nil {
			return nil, pgclient.ExplainQuery("look for table "+fact.Name, err)
		}
		if is {
			made.Class, made.Name = toldTable, fact.Name
			found = append(found, made)
		}
	}
	return found, nil
}

// home is the staged database that a fact of the script is about, and the name of the table in it.
func (p scripted) home(name string) (*staged, string) {
	var home *staged
	for _, s := range p.staged {
		if strings.HasPrefix(name, s.Prefix) && (home == nil || len(s.Prefix) > len(home.Prefix)) {
			home = s
		}
	}
	if home == nil {
		return nil, ""
	}
	return home, name[len(home.Prefix):]
}

// meaning is something in a database that a name may mean.
type meaning struct{ name, kind string }

// search tells where the rows went that the script fills into a table. is is false where that cannot be told.
func (p scripted) search(ctx context.Context, conn pgclient.Session, fact source.Fact, table string) (made source.Fact, is bool, err error) {
	parts, plain := pgdump.SplitName(table)
	qualified := !plain || len(parts) > 1
	list, err := meanings(ctx, conn, table, qualified)
	if err != nil {
		return made, false, err
	}
	listed := func(format string, args ...any) (source.Fact, bool, error) {
		return source.Fact{Rule: source.Listed, Text: fmt.Sprintf(format, args...)}, true, nil
	}
	if len(list) != 1 {
		switch {
		case len(list) == 0 && slices.Contains(p.script.Gone, fact.Name):
			return listed("which the file itself drops or renames")
		case qualified && len(parts) > 1 && strings.EqualFold(parts[0], "pg_temp"):
			return listed("in a temporary table, which nothing keeps")
		case !qualified, strings.Contains(table, `\x`):
			return listed("and none of that name came out to count them in")
		}
		return made, false, nil
	}
	r := list[0]
	only := "ONLY "
	switch r.kind {
	case "r":
	case "p":
		only = ""
	default:
		return listed("which is no table here: where they went cannot be told")
	}
	if err := pgclient.Row(ctx, conn, "SELECT pg_catalog.count(*) FROM "+only+r.name, &made.Rows); err != nil {
		return made, false, err
	}
	switch {
	case made.Rows != fact.Rows && !qualified:
		return listed("and %s, which may be it, has %d", r.name, made.Rows)
	case r.kind == "p" && made.Rows > fact.Rows:
		return listed("which are in its partitions, among %d", made.Rows)
	case r.kind == "p" && made.Rows < fact.Rows && p.script.Moved:
		return listed("of which %d are there: the file drops or detaches partitions", made.Rows)
	}
	made.Rule = source.Exact
	return made, true, nil
}

// meanings are what the name of a table means to the server, or may mean where it names no schema.
func meanings(ctx context.Context, conn pgclient.Session, table string, qualified bool) ([]meaning, error) {
	const from = `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE `
	where := `c.oid = pg_catalog.to_regclass(` + pgclient.QuoteLiteral(table) + `)`
	if !qualified {
		where = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p') AND c.relname = (pg_catalog.parse_ident(` + pgclient.QuoteLiteral(table) + `))[1]`
	}
	var list []meaning
	var r meaning
	err := pgclient.Each(ctx, conn, from+where, func() { list = append(list, r) }, &r.name, &r.kind)
	var refused *pgclient.Error
	if errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "42") || strings.HasPrefix(refused.Code, "22") || refused.Code == "0A000") {
		return nil, nil // the server takes it for no name
	}
	return list, err
}
