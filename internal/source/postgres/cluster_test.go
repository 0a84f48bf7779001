package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// withCluster fills a server with two databases that use everything pg_dumpall tells of roles and databases as a whole.
func withCluster(t *testing.T, major int) *testbed.Server {
	t.Helper()
	server := testbed.Postgres(t, major, testbed.ServerOptions{})
	server.Exec(t, "postgres",
		`CREATE ROLE "App Owner" LOGIN PASSWORD 'pencil' CONNECTION LIMIT 7`, `CREATE ROLE readers`, `GRANT readers TO "App Owner" WITH ADMIN OPTION`,
		`ALTER ROLE "App Owner" SET work_mem = '5MB'`, `COMMENT ON ROLE readers IS 'they read'`,
		`CREATE DATABASE one OWNER "App Owner" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' CONNECTION LIMIT 9`,
		`CREATE DATABASE "Two ""2"""`, `CREATE DATABASE hollow`,
		`ALTER DATABASE one SET search_path = app, public`, `ALTER DATABASE one SET default_transaction_read_only = on`,
		`ALTER ROLE readers IN DATABASE one SET statement_timeout = '9s'`,
		`REVOKE CONNECT ON DATABASE one FROM PUBLIC`, `GRANT CONNECT ON DATABASE one TO readers`,
		`COMMENT ON DATABASE one IS 'the first; of \two'`, `ALTER DATABASE "Two ""2""" IS_TEMPLATE true`)
	server.Exec(t, "one", `SET default_transaction_read_only = off`, `CREATE SCHEMA app AUTHORIZATION "App Owner"`,
		`CREATE TABLE app.t AS SELECT generate_series(1, 10) a`, `ALTER TABLE app.t OWNER TO "App Owner"`, `GRANT SELECT ON app.t TO readers`,
		`CREATE TABLE public.price AS SELECT 3.5::text AS p`)
	server.Exec(t, `Two "2"`, `CREATE TABLE t AS SELECT generate_series(1, 20) a`, `CREATE TABLE u ()`, `SELECT lo_from_bytea(77, 'large')`)
	return server
}

// wholes tells what a server's databases and roles are as a whole.
func wholes(t *testing.T, server *testbed.Server) string {
	t.Helper()
	return server.Value(t, "postgres", `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT format('database %s owner %s %s %s limit %s template %s acl %s comment %s', datname, pg_get_userbyid(datdba), datcollate, pg_encoding_to_char(encoding),
			datconnlimit, datistemplate, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) a), shobj_description(oid, 'pg_database'))
		FROM pg_database WHERE datname NOT IN ('template0', 'template1', 'postgres')
		UNION ALL SELECT format('setting %s %s %s', (SELECT datname FROM pg_database WHERE oid = setdatabase), (SELECT rolname FROM pg_roles WHERE oid = setrole), setconfig) FROM pg_db_role_setting
		UNION ALL SELECT format('role %s %s %s %s %s', rolname, rolcanlogin, rolconnlimit, shobj_description(oid, 'pg_authid'), rolpassword) FROM pg_authid WHERE rolname !~ '^pg_'
		UNION ALL SELECT format('member %s of %s %s', pg_get_userbyid(member), pg_get_userbyid(roleid), admin_option) FROM pg_auth_members WHERE pg_get_userbyid(roleid) !~ '^pg_') x(line)`)
}

// intoCluster restores a dump of a cluster as the engine does.
func intoCluster(t *testing.T, server *testbed.Server, sql string, change func(*postgres.Target, *postgres.Script), observe holdfast.Observer) (string, error) {
	t.Helper()
	stored := held(sql)
	script, err := look(t, stored)
	if err != nil {
		t.Fatal(err)
	}
	target := postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), BinDirs: binDirs(t), ID: "x"}
	if change != nil {
		change(&target, &script)
	}
	if _, err := postgres.PlanCluster(t.Context(), target, script); err != nil {
		return "", err
	}
	p, err := postgres.OpenScript(t.Context(), target, script, observe)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Errorf("close the place: %v", err)
		}
	}()
	if err := p.Restore(t.Context(), stored); err != nil {
		return "", err
	}
	if held := listed(t, server); strings.Contains(held, " one ") {
		t.Errorf("before the commit there are %s", held)
	}
	facts, err := p.Check(t.Context())
	if err != nil {
		return "", err
	}
	left := func(f source.Fact) bool { return strings.HasPrefix(f.Name, "template1: ") }
	kept := slices.DeleteFunc(slices.Clone(script.Tables), left)
	if got, want := strings.Count(missedOf(facts.Facts), "listed 0 in database template1, which is left out"), len(script.Tables)-len(kept); got != want {
		t.Errorf("of template1 %d tables are told, want %d", got, want)
	}
	if got, want := tables(facts.Facts), tables(kept); got != want && len(script.Uncounted) == 0 {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	return p.Commit(t.Context())
}

// listed names databases and roles.
func listed(t *testing.T, server *testbed.Server) string {
	t.Helper()
	return server.Value(t, "postgres", `SELECT ' ' || (SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database) || ' | ' ||
		(SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_') || ' '`)
}

// TestClusterRestore brings what pg_dumpall of each version writes into a new server of the same.
func TestClusterRestore(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := withCluster(t, major)
			want := wholes(t, server)
			ways := map[string][]string{"as it is": nil}
			if major == 15 {
				ways["cleaning"], ways["by inserts"] = []string{"--clean", "--if-exists"}, []string{"--inserts"}
			}
			for name, args := range ways {
				t.Run(name, func(t *testing.T) {
					sql := string(stock(t, server, "pg_dumpall", args...))
					fresh := testbed.Postgres(t, major, testbed.ServerOptions{})
					before := listed(t, fresh)
					var seen events
					where, err := intoCluster(t, fresh, sql, nil, seen.observe)
					if err != nil {
						t.Fatalf("%v (hint: %s)\n%s", err, holdfast.Hint(err), seen.warnings())
					}
					if n := strings.Count(where, "database "); n != 3 {
						t.Errorf("%d databases went to %s", n, where)
					}
					if got := wholes(t, fresh); got != want {
						t.Errorf("the cluster is\n%s\nwant\n%s\n(before: %s)", got, want, before)
					}
					if got := fresh.Value(t, `Two "2"`, `SELECT convert_from(lo_get(77), 'UTF8')`); got != "large" {
						t.Errorf("the large object is %q", got)
					}
					told := seen.warnings()
					if strings.Contains(told, "DATABASE") != (name == "cleaning") || strings.Contains(told, "DROP (") != (name == "cleaning") {
						t.Errorf("warnings %q", told)
					}
				})
			}
		})
	}
}

// TestForeignOddName restores a dump with its database, whose name makes pg_dump write commands of psql of its own.
func TestForeignOddName(t *testing.T) {
	server := withCluster(t, 17)
	stored := held(string(stock(t, server, "pg_dump", "--create", `Two "2"`)))
	script, err := look(t, stored)
	if err != nil {
		t.Fatal(err)
	}
	p, err := postgres.OpenScript(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL("new")), Database: "new", BinDirs: binDirs(t)}, script, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	if _, err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := server.Value(t, "new", `SELECT count(*) FROM t`); got != "20" {
		t.Errorf("%s rows came back", got)
	}
}

func trust(_ *postgres.Target, s *postgres.Script) { s.Trusted = true }

// TestClusterTrusted runs SQL that somebody vouches for, and psql still takes no command of its own.
func TestClusterTrusted(t *testing.T) {
	sql := string(stock(t, withCluster(t, 15), "pg_dumpall", "--inserts")) + "\\connect hollow\nCREATE TABLE t (a text);\nCOPY t FROM PROGRAM 'echo x';\n"
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	if _, err := intoCluster(t, server, sql, trust, ignore); err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	if got := server.Value(t, "hollow", "SELECT a FROM t"); got != "x" {
		t.Errorf("the program left %q", got)
	}
}

// TestClusterRestoreFails changes nothing where anything goes wrong.
func TestClusterRestoreFails(t *testing.T) {
	sql := string(stock(t, withCluster(t, 15), "pg_dumpall"))
	server := testbed.Postgres(t, 16, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE ROLE readers LOGIN`)
	before := listed(t, server)
	trailer := "--\n-- PostgreSQL database cluster dump complete\n"
	with := func(text string) string { return strings.Replace(sql, trailer, text+trailer, 1) }
	for _, c := range []struct {
		name, sql  string
		change     func(*postgres.Target, *postgres.Script)
		want, hint string
	}{
		{"a database that does not restore", with("\\connect hollow\nCREATE TABLE t (a int);\nCREATE TABLE t (a int);\n"), nil,
			`restore database "hollow" of dump.sql: relation "t" already exists (SQLSTATE 42P07, line `, "nothing was changed"},
		{"a role that is taken for granted", with("\\connect hollow\nCREATE TABLE t (a int);\nALTER TABLE t OWNER TO ghost;\n"), nil, "the server lacks the role ghost", `CREATE ROLE "ghost";`},
		{"an extension", with("\\connect hollow\nCREATE EXTENSION timescaledb;\n"), nil, "the server lacks the extension timescaledb", "install"},
		{"a shell", with("\\! id\n"), nil, `the psql command \!`, "take them out"},
		{"a program", with("\\connect hollow\nCOPY (SELECT 1) TO PROGRAM 'cat';\n"), nil, "reaches beyond its database: line", "--trust"},
		{"another connection, trusted", with("\\c postgres\n"), trust, `holds commands of psql that pg_dumpall does not write: line`, `\connect NAME`},
		{"another connection behind another command", with("\\echo hi \\c postgres\nDROP ROLE readers;\n"), trust, `the psql command \echo`, `\connect NAME`},
		{"another connection behind many", with(strings.Repeat("\\echo hi\n", 100) + "\\c postgres\nDROP ROLE readers;\n"), trust, `the psql command \echo`, `\connect NAME`},
		{"another connection behind many findings", with("\\connect hollow\n" + strings.Repeat("COPY (SELECT 1) TO PROGRAM 'cat';\n", 100) + "\\c postgres\nDROP ROLE readers;\n"), trust, `the psql command \c`, `\connect NAME`},
		{"another connection within a statement", with("\\connect hollow\nSELECT 1 \\c postgres\n;DROP ROLE readers;\n"), trust, `the psql command \c`, `\connect NAME`},
		{"a variable", with("\\set x `id`\n"), trust, `the psql command \set`, `\connect NAME`},
		{"a command, in a file that may be damaged", with("\\c postgres\n"), func(_ *postgres.Target, s *postgres.Script) { s.Unauthenticated = true }, "the psql command \\c, or the file was changed: openssl enc does not notice", "take them out"},
		{"an overwrite", sql, func(target *postgres.Target, _ *postgres.Script) { target.Overwrite = true }, "overwrites nothing", "leave --overwrite out"},
		{"a table of no database", strings.Replace(sql, "-- Roles\n", "-- Roles\nCREATE TABLE t (a int);\n", 1), nil, "CREATE that belongs to no one database", "empty cluster"},
		{"a table before all", "CREATE TABLE t (a int);\n" + sql, nil, "something before the dump of the cluster", "empty cluster"},
		{"roles alone", sql[:strings.Index(sql, "\\connect template1")] + trailer, nil, "holds no database", "psql -X -f FILE"},
		{"a role that may not", sql, func(target *postgres.Target, _ *postgres.Script) {
			target.URL = holdfast.NewSecret(server.URLAs("readers", "postgres"))
		}, "permission denied to create role", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := intoCluster(t, server, c.sql, c.change, ignore)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(holdfast.Hint(err), c.hint) {
				t.Errorf("error %v\nhint %q\nwant %q\nand %q", err, holdfast.Hint(err), c.want, c.hint)
			}
			if got := listed(t, server); got != before {
				t.Errorf("the server has %s, had %s", got, before)
			}
		})
	}
	t.Run("databases that are there are named, all of them", func(t *testing.T) {
		server.Exec(t, "postgres", `CREATE DATABASE one`, `CREATE DATABASE hollow`)
		before := listed(t, server)
		_, err := intoCluster(t, server, sql, nil, ignore)
		mustSay(t, err, `has databases of the dump already: "hollow", "one"`, "restore into a new cluster, or rename them first: ALTER DATABASE")
		if got := listed(t, server); got != before || !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("the server has %s, had %s; %v", got, before, err)
		}
		server.Exec(t, "postgres", `DROP DATABASE one`, `DROP DATABASE hollow`)
	})
	t.Run("a database that comes to exist meanwhile", func(t *testing.T) {
		stored := held(sql)
		script, err := look(t, stored)
		if err != nil {
			t.Fatal(err)
		}
		p, err := postgres.OpenScript(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), BinDirs: binDirs(t)}, script, ignore)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Restore(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		server.Exec(t, "postgres", `CREATE DATABASE "Two ""2"""`)
		_, err = p.Commit(t.Context())
		mustSay(t, err, "has come to exist on", "rename it")
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		server.Exec(t, "postgres", `DROP DATABASE "Two ""2"""`)
		if got := listed(t, server); got != before {
			t.Errorf("the server has %s, had %s", got, before)
		}
	})
}

// TestClusterRoles leaves roles that exist as they are, unless it is told otherwise.
func TestClusterRoles(t *testing.T) {
	sql := string(stock(t, withCluster(t, 15), "pg_dumpall"))
	for _, change := range []bool{false, true} {
		t.Run(fmt.Sprint(change), func(t *testing.T) {
			server := testbed.Postgres(t, 15, testbed.ServerOptions{})
			server.Exec(t, "postgres", `CREATE ROLE "App Owner" NOLOGIN CONNECTION LIMIT 3`)
			target := func(target *postgres.Target, _ *postgres.Script) { target.WithRoles = change }
			script, err := look(t, held(sql))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := postgres.PlanCluster(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL("postgres"))}, script)
			if err != nil || !slices.Equal(plan.NewRoles, []string{"readers"}) || !slices.Contains(plan.OldRoles, "App Owner") || !slices.Equal(plan.Databases, []string{`Two "2"`, "hollow", "one"}) {
				t.Errorf("the plan is %+v, %v", plan, err)
			}
			if _, err := intoCluster(t, server, sql, target, ignore); err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			want := map[bool]string{false: "3 f", true: "7 t"}[change]
			if got := server.Value(t, "postgres", `SELECT rolconnlimit || ' ' || left(rolcanlogin::text, 1) FROM pg_roles WHERE rolname = 'App Owner'`); got != want {
				t.Errorf("the role that was there is %s, want %s", got, want)
			}
		})
	}
}

// TestClusterPostgres gives the database postgres its place where nobody used it, and refuses where somebody did.
func TestClusterPostgres(t *testing.T) {
	old := testbed.Postgres(t, 15, testbed.ServerOptions{})
	old.Exec(t, "postgres", `CREATE TABLE mine AS SELECT generate_series(1, 4) a`)
	old.Exec(t, "template1", `CREATE TABLE everywhere AS SELECT 1 AS a`)
	sql := string(stock(t, old, "pg_dumpall"))
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	var seen events
	where, err := intoCluster(t, server, sql, nil, seen.observe)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM mine`); got != "4" || !strings.Contains(where, `the one before is kept as "postgres_before_`) {
		t.Errorf("%s rows came to %s", got, where)
	}
	if !strings.Contains(seen.warnings(), "what the dump makes in template1 is left out") {
		t.Errorf("warnings %q", seen.warnings())
	}
	_, err = intoCluster(t, server, sql, nil, ignore)
	mustSay(t, err, `has databases of the dump already: "postgres"`, "restore into a new cluster")
}

// TestClusterPostgresUsed: a database postgres in which somebody made anything does not give way, even where there is no table in it.
func TestClusterPostgresUsed(t *testing.T) {
	old := testbed.Postgres(t, 15, testbed.ServerOptions{})
	old.Exec(t, "postgres", `CREATE TABLE mine AS SELECT generate_series(1, 4) a`)
	sql := string(stock(t, old, "pg_dumpall"))
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	for _, c := range []struct{ name, make, undo string }{
		{"a function", `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `DROP FUNCTION f()`},
		{"a type", `CREATE DOMAIN d AS int`, `DROP DOMAIN d`},
		{"an extension", `CREATE EXTENSION adminpack`, `DROP EXTENSION adminpack`},
		{"a large object", `SELECT lo_create(77)`, `SELECT lo_unlink(77)`},
		{"a schema", `CREATE SCHEMA app`, `DROP SCHEMA app`},
		{"a publication", `CREATE PUBLICATION p`, `DROP PUBLICATION p`},
		{"a wrapper of foreign data", `CREATE FOREIGN DATA WRAPPER w`, `DROP FOREIGN DATA WRAPPER w`},
	} {
		t.Run(c.name, func(t *testing.T) {
			server.Exec(t, "postgres", c.make)
			_, err := intoCluster(t, server, sql, nil, ignore)
			mustSay(t, err, `has databases of the dump already: "postgres"`, "restore into a new cluster")
			server.Exec(t, "postgres", c.undo)
		})
	}
	if _, err := intoCluster(t, server, sql, nil, ignore); err != nil {
		t.Errorf("when all of it is gone: %v (hint: %s)", err, holdfast.Hint(err))
	}
}

// TestClusterIntoContainer brings a cluster into a server that is reached from inside its container alone.
func TestClusterIntoContainer(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db")
	stored := held(string(stock(t, withCluster(t, testbed.ImageMajor), "pg_dumpall")))
	script, err := look(t, stored)
	if err != nil {
		t.Fatal(err)
	}
	p, err := postgres.OpenScript(t.Context(), postgres.Target{URL: holdfast.NewSecret("docker://db"), Engine: e.Socket}, script, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	if _, err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := e.SQL(t, "db", `Two "2"`, `SELECT count(*), (SELECT count(*) FROM u), (SELECT rolconnlimit FROM pg_roles WHERE rolname = 'App Owner') FROM t`); got != "20|0|7" {
		t.Errorf("came back as %s", got)
	}
	if others := e.Others(t, "db"); len(others) > 0 {
		t.Errorf("left in the container: %q", others)
	}
}
