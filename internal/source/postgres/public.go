package postgres

import (
	"slices"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// Since version 15 schema public belongs to pg_database_owner, a role that stands for the owner of the database, and others may
// use it but make nothing in it. Before, everybody might make things in it. A dump tells of the schema only where it is not as
// the version of its server has it, so that between servers on both sides of that change a restore has to do the rest.
const (
	newPublic   = 15
	ownerMajor  = 14 // since when there is pg_database_owner
	standsOwner = "pg_database_owner"
)

// publicDiffers reports whether source and target are on different sides of the change.
func (p *Place) publicDiffers() (newer, older bool) {
	return p.record.major() < newPublic && p.major() >= newPublic, p.record.major() >= newPublic && p.major() < newPublic
}

// publicSQL makes schema public of an older server what it was on a newer one, before the dump changes what it tells of.
func (p *Place) publicSQL(s *staged) []string {
	if _, older := p.publicDiffers(); !older || !slices.Contains(s.Schemas, "public") {
		return nil
	}
	owner := standsOwner
	if p.major() < ownerMajor {
		owner = s.Owner
	}
	return []string{
		"ALTER SCHEMA public OWNER TO " + pgclient.QuoteIdent(owner),
		"REVOKE ALL ON SCHEMA public FROM PUBLIC",
		"GRANT USAGE ON SCHEMA public TO PUBLIC",
	}
}

// tellPublic tells who goes to a newer server that not everybody may make things in schema public there, unless the dump says
// otherwise.
func (p *Place) tellPublic(s *staged) {
	newer, _ := p.publicDiffers()
	if !newer || p.drill || !slices.Contains(s.Schemas, "public") {
		return
	}
	for _, fact := range p.stored.Facts.Facts {
		if fact.Class == "schema" && fact.Name == s.Prefix+"ACL SCHEMA public" {
			return
		}
	}
	p.warn("in schema public of database %q only its owner may make things, as is usual since PostgreSQL %d; where others need it: GRANT CREATE ON SCHEMA public TO …", s.final, newPublic)
}

// publicFacts puts what an older server tells of schema public into the words of a newer one. Where the server has no
// pg_database_owner, the database's owner stands for it. An older pg_dump tells the schema in other words altogether, and then
// it is not compared, which is said.
func (p *Place) publicFacts(s *staged, facts []source.Fact, client pgclient.Program) []source.Fact {
	if _, older := p.publicDiffers(); !older {
		return facts
	}
	const schema, privileges = "SCHEMA public", "ACL SCHEMA public"
	stored := map[string]source.Fact{}
	for _, fact := range p.stored.Facts.Facts {
		stored[fact.Class+" "+fact.Name] = fact
	}
	if client.Major < newPublic {
		p.warn("the privileges of schema public are not compared: pg_dump %d tells them in other words than pg_dump %d", client.Major, p.record.Client)
		facts = slices.DeleteFunc(facts, func(fact source.Fact) bool { return fact.Name == schema || fact.Name == privileges })
		for _, name := range []string{schema, privileges} {
			for _, class := range []string{"schema", "definition"} {
				if fact, told := stored[class+" "+s.Prefix+name]; told {
					fact.Name = name
					facts = append(facts, fact)
				}
			}
		}
		return facts
	}
	if p.major() >= ownerMajor {
		return facts
	}
	_, told := stored["schema "+s.Prefix+schema]
	if told {
		return facts // it had another owner, which it has here too
	}
	owned := "owner=" + s.Owner
	facts = slices.DeleteFunc(facts, func(fact source.Fact) bool {
		return fact.Name == schema && (fact.Class == "definition" || fact.Class == "schema" && fact.Text == owned)
	})
	for i, fact := range facts {
		if rest, found := strings.CutPrefix(fact.Text, owned); found && fact.Class == "schema" && fact.Name == privileges {
			facts[i].Text = "owner=" + standsOwner + rest
		}
	}
	return facts
}
