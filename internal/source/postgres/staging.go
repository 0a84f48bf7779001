package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// dropLeftover drops a staging database that a killed restore of the same backup left. A restore that still runs has
// sessions on it.
func (p *Place) dropLeftover(ctx context.Context, staging string) error {
	exists, err := p.exists(ctx, staging)
	if err != nil || !exists {
		return err
	}
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	var sessions int
	if err := pgclient.Row(ctx, conn, `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datname = `+pgclient.QuoteLiteral(staging), &sessions); err != nil {
		return pgclient.ExplainQuery("look for sessions on database "+pgclient.QuoteIdent(staging), err)
	}
	if sessions > 0 {
		return holdfast.WithHint(fmt.Errorf("%w: %d sessions use database %s, where this restore would be staged", holdfast.ErrBusy, sessions, pgclient.QuoteIdent(staging)),
			"wait for the other restore of this backup to end")
	}
	p.warn("database %s was left by a restore that was killed: it is dropped", pgclient.QuoteIdent(staging))
	return p.exec(ctx, "drop database "+pgclient.QuoteIdent(staging), "DROP DATABASE "+pgclient.QuoteIdent(staging))
}

func (p *Place) createDatabase(ctx context.Context, s *staged) error {
	conn, err := p.session(ctx)
	if err != nil {
		return err
	}
	if !p.hasProvider(s.Provider) {
		return holdfast.WithHint(fmt.Errorf("database %q sorts by the %s provider, which PostgreSQL %d does not have",
			s.Name, s.Provider, p.major()), "restore on a server of the major version it came from, or a newer one")
	}
	if err := p.dropLeftover(ctx, s.staging); err != nil {
		return err
	}
	if err := pgclient.Exec(ctx, conn, s.createSQL(s.staging, p.major())); err != nil {
		failed := pgclient.ExplainQuery("create database "+pgclient.QuoteIdent(s.staging), err)
		if lacksLocale(err) {
			locale := strings.Join(slices.Compact(slices.DeleteFunc([]string{s.Collate, s.CType, s.Locale},
				func(name string) bool { return name == "" })), ", ")
			return p.cannot(failed, fmt.Sprintf("the database needs the locale %s (%s): install it there (Debian: the package locales, then locale-gen)", locale, s.Provider))
		}
		return p.explainCreate(failed)
	}
	s.made = true
	if p.drill {
		return nil
	}
	// Nobody has business in a database that is half restored; its own grants come at the end.
	return p.exec(ctx, "close the staging database", "REVOKE ALL ON DATABASE "+pgclient.QuoteIdent(s.staging)+" FROM PUBLIC")
}

// hasProvider reports whether a server of this version knows a locale provider.
func (p *Place) hasProvider(name string) bool {
	return (name != "icu" || p.major() >= 15) && (name != "builtin" || p.major() >= 17)
}

// lacksLocale reports whether a server refused to make a database because it, or its system, lacks a locale or a provider.
func lacksLocale(err error) bool {
	var refused *pgclient.Error
	return errors.As(err, &refused) && slices.Contains([]string{"42809", "22023", "0A000", "42704"}, refused.Code)
}

// explainCreate adds to the refusal of a CREATE DATABASE what helps, where a locale has no part in it.
func (p *Place) explainCreate(failed error) error {
	var refused *pgclient.Error
	if !errors.As(failed, &refused) {
		return failed
	}
	switch refused.Code {
	case "42501":
		return holdfast.WithHint(failed, "the role needs CREATEDB: restore as a superuser")
	case "53100":
		return p.cannot(failed, "the disk is full")
	}
	return failed
}

// prepare makes what the dump takes for granted.
func (p *Place) prepare(ctx context.Context, s *staged) error {
	dumped, err := p.record.filter()
	if err != nil {
		return err
	}
	var statements []string
	switch {
	case p.record.onlyTables():
		for _, schema := range s.Schemas {
			statements = append(statements, "CREATE SCHEMA IF NOT EXISTS "+pgclient.QuoteIdent(schema))
		}
	case p.record.included():
		for _, e := range s.Extensions {
			if !dumped.schema(e.Schema) {
				statements = append(statements, "CREATE SCHEMA IF NOT EXISTS "+pgclient.QuoteIdent(e.Schema))
			}
		}
	case !slices.Contains(s.Schemas, "public"):
		statements = append(statements, "DROP SCHEMA public")
	}
	if !p.partial {
		statements = append(statements, p.publicSQL(s)...)
		p.tellPublic(s)
	}
	if len(statements) == 0 {
		return nil
	}
	conn, _, err := p.site.Dial(ctx, p.server.On(s.staging))
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, statement := range statements {
		if err := pgclient.Exec(ctx, conn, statement); err != nil {
			return pgclient.ExplainQuery("prepare database "+pgclient.QuoteIdent(s.staging), err)
		}
	}
	return nil
}
