package postgres

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// ClusterPlan is what a restore of the dump of a whole cluster will do.
type ClusterPlan struct {
	// Where is the server, in words.
	Where string
	// Databases are those that come to exist; Vacant of them is one called postgres that nobody uses, and that gives way.
	Databases []string
	Vacant    bool
	// NewRoles are made, OldRoles exist and are in the dump too.
	NewRoles, OldRoles []string
}

// PlanCluster looks at the server of a restore of a whole cluster, and refuses it as [OpenScript] would. Nothing is made.
func PlanCluster(ctx context.Context, t Target, script Script) (ClusterPlan, error) {
	p, err := OpenScript(ctx, t, script, nil)
	if err != nil {
		return ClusterPlan{}, err
	}
	defer p.Close() // nothing was made
	plan, err := p.planCluster(ctx)
	return plan, because(ctx, "look at the server", err)
}

// stageable refuses the dump of a cluster that cannot be restored beside everything else, and a target that asks for more.
func (s Script) stageable(t Target) error {
	if t.Overwrite {
		return holdfast.WithHint(fmt.Errorf("%w: a dump of a whole cluster (pg_dumpall) overwrites nothing", holdfast.ErrUsage),
			"leave --overwrite out, and restore into a cluster that has none of its databases")
	}
	if len(s.Astray) > 0 {
		return holdfast.WithHint(s.doubted(fmt.Errorf("%w: the dump of a whole cluster holds what pg_dumpall does not write: %s", holdfast.ErrUsage, told(s.Astray))),
			"look at these lines; then run it with psql on an empty cluster, or take them out")
	}
	// Whoever vouches for a file lets its SQL run. A command of psql could lead out of staging, and what stands behind it on its
	// line is not looked at.
	if len(s.Commands) > 0 {
		return holdfast.WithHint(s.doubted(fmt.Errorf("%w: the dump of a whole cluster holds commands of psql that pg_dumpall does not write: %s", holdfast.ErrUsage, told(s.Commands))),
			`take them out, or run the dump with psql on an empty cluster; \connect NAME is how pg_dumpall changes the database`)
	}
	if len(s.restored()) == 0 {
		return holdfast.WithHint(fmt.Errorf("%w: the dump of the cluster holds no database", holdfast.ErrUsage), "roles alone are restored by psql: psql -X -f FILE postgres")
	}
	return nil
}

// restored are the parts that come to be databases: not template1, and postgres only if something is in it.
func (s Script) restored() []pgdump.Part {
	return slices.DeleteFunc(slices.Clone(s.Parts), func(part pgdump.Part) bool {
		return part.Name == "template1" || part.Name == "postgres" && !part.Filled
	})
}

// planCluster tells what is there already, and refuses databases that are.
func (p scripted) planCluster(ctx context.Context) (ClusterPlan, error) {
	plan := ClusterPlan{Where: p.server.Where()}
	var taken []string
	for _, part := range p.script.restored() {
		exists, err := p.exists(ctx, part.Name)
		if err != nil {
			return plan, err
		}
		if exists && part.Name == "postgres" {
			if plan.Vacant, err = p.unused(ctx, part.Name); err != nil {
				return plan, err
			}
			exists = !plan.Vacant
		}
		if exists {
			taken = append(taken, pgclient.QuoteIdent(part.Name))
		}
		plan.Databases = append(plan.Databases, part.Name)
	}
	if len(taken) > 0 {
		return plan, holdfast.WithHint(fmt.Errorf("%w: %s has databases of the dump already: %s", holdfast.ErrUsage, plan.Where, strings.Join(taken, ", ")),
			"restore into a new cluster, or rename them first: ALTER DATABASE "+taken[0]+" RENAME TO …;")
	}
	conn, err := p.session(ctx)
	if err != nil {
		return plan, err
	}
	existing, err := pgclient.Strings(ctx, conn, `SELECT rolname::text FROM pg_catalog.pg_roles`)
	if err != nil {
		return plan, pgclient.ExplainQuery("list the roles", err)
	}
	for _, role := range p.script.Globals.Roles {
		if slices.Contains(existing, role.Name) {
			plan.OldRoles = append(plan.OldRoles, role.Name)
		} else {
			plan.NewRoles = append(plan.NewRoles, role.Name)
		}
	}
	return plan, nil
}

// runCluster makes the roles that are missing, and brings every database of the dump into a staging one.
func (p scripted) runCluster(ctx context.Context, stored source.Stored) error {
	if _, err := p.planCluster(ctx); err != nil {
		return err
	}
	client, err := pgclient.Fitting(ctx, p.programs, "pg_dump", p.major())
	if err != nil {
		return err
	}
	item := stored.Items[0]
	p.together, p.roles = true, roles{p.script.Globals}
	p.record = record{Layout: 1, Server: p.version, Client: client.Major}
	for _, part := range p.script.restored() {
		p.record.Databases = append(p.record.Databases, database{Name: part.Name, Prefix: part.Name + ": ", Encoding: "UTF8", ConnectionLimit: -1,
			Dump: fmt.Sprintf("database %q of %s", part.Name, item.Name)})
	}
	for _, name := range p.script.Extensions {
		p.record.Databases[0].Extensions = append(p.record.Databases[0].Extensions, extension{Name: name})
	}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if err := p.checkExtensions(ctx); err != nil {
		return err
	}
	if err := p.scriptRoles(ctx); err != nil {
		return err
	}
	feeder, err := p.scriptFeeder(ctx)
	if err != nil {
		return err
	}
	feeder.rules.Split = true
	p.tellLeftOut()
	if err := p.makeRoles(ctx); err != nil {
		return err
	}
	for _, s := range p.staged {
		if err := p.makePart(ctx, s); err != nil {
			return err
		}
	}
	if err := feeder.feedParts(ctx, item, p.staged); err != nil {
		return p.reproach(err)
	}
	for _, s := range p.staged {
		if err := p.finishPart(ctx, s); err != nil {
			return err
		}
	}
	p.restored = true
	return nil
}

// part is what the dump says of a staged database.
func (p scripted) part(s *staged) pgdump.Part {
	i := slices.IndexFunc(p.script.Parts, func(part pgdump.Part) bool { return part.Name == s.Name })
	return p.script.Parts[i]
}

// tellLeftOut names what of the dump is restored by nobody.
func (p scripted) tellLeftOut() {
	for _, part := range p.script.Parts {
		switch {
		case part.Name == "template1" && part.Filled:
			p.warn("what the dump makes in template1 is left out: new databases do not get it")
		case part.Name == "postgres" && !part.Filled && slices.ContainsFunc(part.Properties, property):
			p.warn("settings, owner and grants of database postgres are left out: nothing else of it is in the dump")
		}
	}
	if n := len(p.script.Globals.Other); n > 0 {
		p.warn("left out of the dump, as only a person can know whether it is wanted here: statements on the cluster as a whole (%d)", n)
	}
}

// property tells what somebody chose for a database from the comment that initdb writes.
func property(p pgdump.Property) bool { return !strings.HasPrefix(p.Before, "COMMENT ") }

// makePart makes the staging database of s. How values of type money are written is the one setting that a dump relies on.
func (p scripted) makePart(ctx context.Context, s *staged) error {
	part := p.part(s)
	if err := p.makeScriptDatabase(ctx, s, part.Create, part.MakesPublic); err != nil {
		return err
	}
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	err = pgclient.Row(ctx, conn, `SELECT pg_catalog.pg_encoding_to_char(encoding)::text FROM pg_catalog.pg_database WHERE datname = `+pgclient.QuoteLiteral(s.staging), &s.Encoding)
	if err != nil {
		return pgclient.ExplainQuery("look at database "+pgclient.QuoteIdent(s.staging), err)
	}
	return p.setProperties(ctx, s, func(after string) bool { return monetary.MatchString(after) })
}

var (
	monetary        = regexp.MustCompile(`^ SET "?lc_monetary"? `)
	connectionLimit = regexp.MustCompile(`^ (?:WITH )?CONNECTION LIMIT (?:= )?(\d{1,9});?$`)
	isTemplate      = regexp.MustCompile(`^ (?:WITH )?IS_TEMPLATE (?:= )?true;?$`)
)

// finishPart gives the staging database owner, grants and settings. Those that hinder are set when it takes its name.
func (p scripted) finishPart(ctx context.Context, s *staged) error {
	if err := p.exec(ctx, "open the staging database", "GRANT CONNECT, TEMPORARY ON DATABASE "+pgclient.QuoteIdent(s.staging)+" TO PUBLIC"); err != nil {
		return err
	}
	return p.setProperties(ctx, s, func(after string) bool {
		if limit := connectionLimit.FindStringSubmatch(after); limit != nil {
			s.ConnectionLimit, _ = strconv.Atoi(limit[1]) // the pattern lets nothing else through
			return false
		}
		if isTemplate.MatchString(after) {
			s.Template = true
			return false
		}
		return !monetary.MatchString(after)
	})
}

// setProperties runs the statements on a database as a whole of which wanted takes what stands behind the name.
func (p scripted) setProperties(ctx context.Context, s *staged, wanted func(after string) bool) error {
	for _, property := range p.part(s).Properties {
		if !wanted(property.After) {
			continue
		}
		err := p.exec(ctx, "set the properties of database "+pgclient.QuoteIdent(s.staging), property.Before+pgclient.QuoteIdent(s.staging)+property.After)
		if err == nil {
			continue
		}
		if !strings.HasPrefix(property.After, " SET ") || ctx.Err() != nil {
			return err
		}
		p.warn("a setting of database %q was not taken: %v", s.final, err)
	}
	return nil
}

// feedParts runs the parts of a cluster's dump, each in the staging database of its own.
func (f *feeder) feedParts(ctx context.Context, item source.StoredItem, list []*staged) error {
	r, err := item.Open(ctx)
	if err != nil {
		return fmt.Errorf("open item %s: %w", item.Name, err)
	}
	filter := f.filter(r, f.rules)
	skip := func() error {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{filter}); err != nil {
			return fmt.Errorf("read item %s: %w", item.Name, err)
		}
		return nil
	}
	err = skip() // roles, which were made
	for err == nil {
		name, more := filter.Next()
		if !more {
			break
		}
		i := slices.IndexFunc(list, func(s *staged) bool { return s.Name == name })
		if i < 0 {
			err = skip()
			continue
		}
		f.place.observe(holdfast.Event{Kind: holdfast.EventPhase, Source: f.place.stored.Source, Message: fmt.Sprintf("restore into database %q", list[i].staging)})
		err = f.run(ctx, list[i], list[i].staging, filter)
	}
	if closeErr := r.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("read item %s: %w", item.Name, closeErr)
	}
	if err == nil {
		f.tellRemoved(filter)
	}
	return err
}

// swapTogether gives all databases their names in one transaction: all of them come to exist, or none.
func (p *Place) swapTogether(ctx context.Context) (string, error) {
	var pairs [][2]string
	kept := map[*staged]string{}
	for _, s := range p.staged {
		occupied, err := p.exists(ctx, s.final)
		if err != nil {
			return "", err
		}
		if occupied && !s.vacant {
			return "", p.taken(s)
		}
		if occupied {
			if kept[s], err = p.freeName(ctx, s.final, p.before()); err != nil {
				return "", err
			}
			pairs = append(pairs, [2]string{s.final, kept[s]})
			if p.server["dbname"] == s.final {
				if err := p.leave(s.final); err != nil {
					return "", err
				}
			}
		}
		pairs = append(pairs, [2]string{s.staging, s.final})
	}
	if err := p.rename(ctx, pairs); err != nil {
		return "", err
	}
	var said []string
	for _, s := range p.staged {
		s.kept, s.made = kept[s], false
		said = append(said, p.sayWhere(s))
	}
	return strings.Join(said, ", "), nil
}
