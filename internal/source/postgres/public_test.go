package postgres_test

import (
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// TestSchemaPublicAcrossVersions: who may do what in schema public is on the other server what it was, whatever that is, and
// where it cannot be, that is said.
func TestSchemaPublicAcrossVersions(t *testing.T) {
	const may = `SELECT pg_catalog.has_schema_privilege('somebody', 'public', 'USAGE') || ' ' || pg_catalog.has_schema_privilege('somebody', 'public', 'CREATE')
		|| ' ' || pg_catalog.has_schema_privilege('app_owner', 'public', 'CREATE')`
	for name, c := range map[string]struct {
		from, to int
		sql      string
		want     string // usage and creation by anybody, creation by the owner of the database
	}{
		"as it is, to 13":               {18, 13, ``, "true false true"},
		"as it is, to 14":               {15, 14, ``, "true false true"},
		"open to all, to 13":            {18, 13, `GRANT CREATE ON SCHEMA public TO PUBLIC`, "true true true"},
		"open to all, to 14":            {18, 14, `GRANT CREATE ON SCHEMA public TO PUBLIC`, "true true true"},
		"closed, to 13":                 {18, 13, `REVOKE ALL ON SCHEMA public FROM PUBLIC`, "false false true"},
		"of somebody else, to 13":       {18, 13, `ALTER SCHEMA public OWNER TO somebody`, "true true false"},
		"of somebody else, to 14":       {18, 14, `ALTER SCHEMA public OWNER TO somebody`, "true true false"},
		"gone, to 13":                   {18, 13, `DROP SCHEMA public`, ""},
		"as it was, from 13 to 18":      {13, 18, ``, "true true true"},
		"granted, from 14 to 15":        {14, 15, `GRANT CREATE ON SCHEMA public TO somebody`, "true true true"},
		"only one of its tables, to 13": {18, 13, `CREATE SCHEMA other; CREATE TABLE other.x (n int)`, "true false true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testbed.Postgres(t, c.from, testbed.ServerOptions{})
			server.Exec(t, "postgres", `CREATE ROLE app_owner`, `CREATE ROLE somebody`, `CREATE DATABASE app OWNER app_owner`)
			server.Exec(t, "app", `CREATE SCHEMA used`, `CREATE TABLE used.by (n int); ALTER TABLE used.by OWNER TO somebody`)
			if c.sql != "" {
				server.Exec(t, "app", c.sql)
			}
			stored := capture(t, options(t, server.URL("app")))
			other := testbed.Postgres(t, c.to, testbed.ServerOptions{})
			told := &events{}
			p := open(t, postgres.Target{URL: holdfast.NewSecret(other.URL("app"))}, told.observe)
			bring(t, p, stored)
			if _, err := p.Commit(t.Context()); err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			if c.want != "" {
				if got := other.Value(t, "app", may); got != c.want {
					t.Errorf("somebody's usage and creation, the owner's creation: %s, want %s", got, c.want)
				}
			} else if got := other.Value(t, "app", `SELECT count(*) FROM pg_namespace WHERE nspname = 'public'`); got != "0" {
				t.Error("the schema was dropped, and is back")
			}
			if said := told.warnings(); strings.Contains(said, "public") {
				t.Errorf("warned of %q", said)
			}
		})
	}
}
