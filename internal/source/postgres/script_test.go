package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/sample"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// stock runs a client program of PostgreSQL against a server, as a script of somebody would.
func stock(t testing.TB, server *testbed.Server, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(testbed.ClientDir(t, server.Major), name), args...)
	cmd.Env = append(os.Environ(), "PGHOST="+server.Socket, "PGPORT="+strconv.Itoa(server.Port), "PGUSER="+server.User)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return out.Bytes()
}

func held(sql string) source.Stored {
	return source.Stored{Source: "file", Kind: holdfast.KindPostgres, Items: []source.StoredItem{memory("dump.sql", []byte(sql))}}
}

func look(t testing.TB, stored source.Stored) (postgres.Script, error) {
	script, err := postgres.ReadScript(t.Context(), stored.Items[0].Open)
	return postgres.Script{Script: script}, err
}

// rehearse looks through a script and brings it into a throwaway.
func rehearse(t testing.TB, sql string, change func(*postgres.Script), observe holdfast.Observer) (*postgres.ScriptDrill, source.Facts, error) {
	t.Helper()
	stored := held(sql)
	script, err := look(t, stored)
	if err != nil {
		return nil, source.Facts{}, err
	}
	if change != nil {
		change(&script)
	}
	dir := scratch(t)
	d, err := postgres.ThrowawayScript(t.Context(), postgres.DrillOptions{Scratch: dir, BinDirs: binDirs(t)}, script, stored, observe)
	if err != nil {
		return nil, source.Facts{}, err
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the throwaway: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the scratch folder still holds %v, %v", left, err)
		}
	})
	if err := d.Restore(t.Context(), stored); err != nil {
		return d, source.Facts{}, err
	}
	facts, err := d.Check(t.Context())
	return d, facts, err
}

// tables tells names and rows. The settings of a database may let a dump spell values in another way, so digests may differ.
func tables(facts []source.Fact) string {
	var lines []string
	for _, fact := range facts {
		if fact.Class == "table" {
			lines = append(lines, fmt.Sprintf("%s %d", fact.Name, fact.Rows))
		}
	}
	return strings.Join(lines, "\n")
}

func unpack(t testing.TB, archive postgres.Archive) (string, error) {
	t.Helper()
	r, err := postgres.Unpack(t.Context(), postgres.DrillOptions{Scratch: scratch(t), BinDirs: binDirs(t)}, archive)
	if err != nil {
		return "", err
	}
	sql, err := io.ReadAll(r)
	return string(sql), errors.Join(err, r.Close())
}

func file(content []byte) postgres.Archive {
	return postgres.Archive{Open: memory("", content).Open}
}

func folder(dir string) postgres.Archive {
	return postgres.Archive{Files: func(_ context.Context, each func(string, io.Reader) error) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err == nil {
				err = each(entry.Name(), bytes.NewReader(content))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// TestForeignDumps restores what pg_dump of each version writes in each of its ways, and reads back every row.
func TestForeignDumps(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			server.Exec(t, "postgres", "CREATE DATABASE app TEMPLATE template0")
			if err := sample.CreateDatabase(t.Context(), server.URL("app"), sample.Options{Size: 300_000, Seed: 3}); err != nil {
				t.Fatal(err)
			}
			plain := string(stock(t, server, "pg_dump", "app"))
			script, err := look(t, held(plain))
			if err != nil {
				t.Fatal(err)
			}
			if len(script.Tables) < 5 || script.Major != major {
				t.Fatalf("the dump of PostgreSQL %d has %d tables", script.Major, len(script.Tables))
			}
			want := tables(script.Tables)
			ways := map[string]func() (string, error){"plain": func() (string, error) { return plain, nil }}
			dumped := func(args ...string) func() (string, error) {
				return func() (string, error) { return string(stock(t, server, "pg_dump", append(args, "app")...)), nil }
			}
			if major == 15 {
				ways["with its database"] = dumped("-C")
				ways["cleaning"] = dumped("--clean")
				ways["cleaning, with its database"] = dumped("--clean", "-C")
				ways["cleaning carefully"] = dumped("--clean", "--if-exists")
				ways["without owners"] = dumped("--no-owner", "--no-privileges")
				ways["tar"] = func() (string, error) { return unpack(t, file(stock(t, server, "pg_dump", "-Ft", "app"))) }
				ways["directory"] = func() (string, error) {
					dir := filepath.Join(t.TempDir(), "app.dir")
					stock(t, server, "pg_dump", "-Fd", "-j2", "-f", dir, "app")
					return unpack(t, folder(dir))
				}
				ways["by inserts"] = dumped("--rows-per-insert=10")
			}
			ways["custom"] = func() (string, error) { return unpack(t, file(stock(t, server, "pg_dump", "-Fc", "app"))) }
			for name, dump := range ways {
				t.Run(name, func(t *testing.T) {
					sql, err := dump()
					if err != nil {
						t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
					}
					var seen events
					_, facts, err := rehearse(t, sql, nil, seen.observe)
					if err != nil {
						t.Fatalf("%v (hint: %s)\n%s", err, holdfast.Hint(err), seen.warnings())
					}
					if got := tables(facts.Facts); got != want {
						t.Errorf("tables\n%s\nwant\n%s", got, want)
					}
				})
			}
		})
	}
}

// TestForeignCluster restores what pg_dumpall writes: roles, and several databases of which two have a table of one name.
func TestForeignCluster(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE ROLE \"App Owner\" LOGIN", "CREATE DATABASE one OWNER \"App Owner\"", "CREATE DATABASE \"two two\"")
	server.Exec(t, "one", "CREATE TABLE t AS SELECT generate_series(1, 10) a")
	server.Exec(t, "two two", "CREATE TABLE t AS SELECT generate_series(1, 20) a", "CREATE TABLE u ()")
	for name, args := range map[string][]string{"as it is": nil, "cleaning": {"--clean"}, "cleaning carefully": {"--clean", "--if-exists"}} {
		t.Run(name, func(t *testing.T) {
			sql := string(stock(t, server, "pg_dumpall", args...))
			script, err := look(t, held(sql))
			if err != nil || !script.Cluster {
				t.Fatalf("cluster %v, error %v", script.Cluster, err)
			}
			_, facts, err := rehearse(t, sql, nil, ignore)
			if err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			want := "one: public.t 10\ntwo two: public.t 20\ntwo two: public.u 0"
			if got := tables(facts.Facts); got != want {
				t.Errorf("restored %q, want %q", got, want)
			}
			if got := tables(script.Tables); got != want {
				t.Errorf("the file tells of %q, want %q", got, want)
			}
		})
	}
}

// missedOf tells what is known of tables that a script fills and that did not come back by their name.
func missedOf(facts []source.Fact) string {
	var lines []string
	for _, fact := range facts {
		if fact.Class == "table of the file" {
			lines = append(lines, fmt.Sprintf("%s %s %d %s", fact.Name, fact.Rule, fact.Rows, fact.Text))
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// TestForeignTablesElsewhere tells rows that went by another name from rows that are gone.
func TestForeignTablesElsewhere(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	rows := func(table string) string { return "COPY " + table + " FROM stdin;\n1\n2\n\\.\n" }
	for _, c := range []struct{ name, sql, want string }{
		{"by its name", "CREATE TABLE t (a int);\n" + rows("public.t"), ""},
		{"dropped", "CREATE TABLE t (a int);\n" + rows("public.t") + "DROP TABLE public.t;\n", "public.t listed 0 which the file itself drops or renames"},
		{"dropped, and filled by INSERT", "CREATE TABLE public.t (a int);\nINSERT INTO public.t VALUES (1);\nDROP TABLE public.t;\n", "public.t listed 0 which the file itself drops or renames"},
		{"renamed", "CREATE TABLE t (a int);\n" + rows("public.t") + "ALTER TABLE public.t RENAME TO u;\n", "public.t listed 0 which the file itself drops or renames"},
		{"dropped where nobody looks", "CREATE TABLE t (a int);\n" + rows("public.t") + "DO $$BEGIN EXECUTE 'DROP TABLE public.t'; END$$;\n", ""},
		{"in quotes", "CREATE TABLE t (a int);\n" + rows(`"public"."t"`), `"public"."t" exact 2`},
		{"in capitals", "CREATE TABLE t (a int);\n" + rows("PUBLIC.T"), "PUBLIC.T exact 2"},
		{"in quotes, and one was lost", "CREATE TABLE t (a int);\n" + rows(`"public"."t"`) + "DELETE FROM t WHERE a = 1;", `"public"."t" exact 1`},
		{"without a schema", "CREATE SCHEMA app;\nSET search_path = app;\nCREATE TABLE t (a int);\n" + rows("t"), "t exact 2"},
		{"without a schema, and two of that name", "CREATE SCHEMA app;\nCREATE TABLE public.t (a int);\nSET search_path = app;\nCREATE TABLE t (a int);\n" + rows("t"), "t listed 0 and none of that name came out to count them in"},
		{"on the way to another", "CREATE TABLE public.t (a int);\nCREATE TEMP TABLE t (a int);\n" + rows("t") + "INSERT INTO public.t SELECT a FROM pg_temp.t WHERE a = 1;", "t listed 0 and public.t, which may be it, has 1"},
		{"temporary", "CREATE TEMP TABLE t (a int);\n" + rows("pg_temp.t"), "pg_temp.t listed 0 in a temporary table, which nothing keeps"},
		{"in partitions", "CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE q PARTITION OF p FOR VALUES IN (1, 2);\n" + rows("public.p"), "public.p exact 2"},
		{"in partitions, among others", "CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE q PARTITION OF p FOR VALUES IN (1, 2);\n" + rows("public.p") + "INSERT INTO q VALUES (1);\n", "public.p listed 0 which are in its partitions, among 3"},
		{"in partitions, and one was lost", "CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE q PARTITION OF p FOR VALUES IN (1, 2);\n" + rows("public.p") + "DELETE FROM q WHERE a = 1;\n", "public.p exact 1"},
		{"in partitions, and one is detached", "CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE q PARTITION OF p FOR VALUES IN (1);\nCREATE TABLE r PARTITION OF p FOR VALUES IN (2);\n" + rows("public.p") + "ALTER TABLE public.p DETACH PARTITION public.q;\n",
			"public.p listed 0 of which 1 are there: the file drops or detaches partitions"},
		{"in partitions, and one is dropped", "CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE q PARTITION OF p FOR VALUES IN (1);\nCREATE TABLE r PARTITION OF p FOR VALUES IN (2);\n" + rows("public.p") + "DROP TABLE public.q;\n",
			"public.p listed 0 of which 1 are there: the file drops or detaches partitions"},
		{"renamed, and another takes its name", "CREATE TABLE a (a int);\nCREATE TABLE b (a int);\n" + rows("public.a") + "COPY public.b FROM stdin;\n1\n\\.\nALTER TABLE public.a RENAME TO c;\nALTER TABLE public.b RENAME TO a;\n",
			"public.a listed 0 and the file itself drops or renames it: what has the name now may be another\npublic.b listed 0 which the file itself drops or renames"},
		{"through a view", "CREATE TABLE t (a int);\nCREATE VIEW v AS SELECT a FROM t;\nCREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.t VALUES (NEW.a); RETURN NEW; END$$;\n" +
			"CREATE TRIGGER x INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION f();\n" + rows("public.v"), "public.v listed 0 which is no table here: where they went cannot be told"},
		{"latin letters", "SET client_encoding = 'LATIN1';\nCREATE TABLE \"\xe9\" (a int);\n" + rows("public.\"\xe9\""), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := held(dumpHead + c.sql + dumpTail)
			script, err := look(t, stored)
			if err != nil {
				t.Fatal(err)
			}
			p, err := postgres.OpenScript(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL("new")), Database: "new", BinDirs: binDirs(t)}, script, ignore)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(); err != nil {
					t.Errorf("close the place: %v", err)
				}
			}()
			if err := p.Restore(t.Context(), stored); err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			facts, err := p.Check(t.Context())
			if err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			if got := missedOf(facts.Facts); got != c.want {
				t.Errorf("told is %q, want %q; tables %s", got, c.want, tables(facts.Facts))
			}
		})
	}
}

// TestForeignClusterWhole: every database of a dump comes back in a drill, also those that are templates, and what stands before
// the first of them.
func TestForeignClusterWhole(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE DATABASE model", "CREATE DATABASE app", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
	server.Exec(t, "model", "CREATE TABLE t AS SELECT generate_series(1, 9) a")
	server.Exec(t, "app", "CREATE TABLE t AS SELECT generate_series(1, 5) a")
	server.Exec(t, "latin", `SET client_encoding = 'UTF8'`, `CREATE TABLE "é" AS SELECT generate_series(1, 3) a`)
	server.Exec(t, "template1", "CREATE TABLE everywhere AS SELECT generate_series(1, 2) a")
	server.Exec(t, "postgres", "ALTER DATABASE model IS_TEMPLATE true")
	const before = "CREATE TABLE first (a int);\nCOPY public.first FROM stdin;\n1\n\\.\n"
	_, facts, err := rehearse(t, before+string(stock(t, server, "pg_dumpall")), nil, ignore)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	want := "app: public.t 5\nlatin: public.\"\\xe9\" 3\nmodel: public.t 9\npublic.first 1\ntemplate1: public.everywhere 2"
	if got := tables(facts.Facts); got != want || missedOf(facts.Facts) != "" {
		t.Errorf("restored\n%s\nwant\n%s\nand %s", got, want, missedOf(facts.Facts))
	}
}

const dumpHead = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.14\n-- Dumped by pg_dump version 15.14\n\n"

const dumpTail = "\n--\n-- PostgreSQL database dump complete\n--\n\n"

// TestForeignFaults holds sentence, hint and kind of what goes wrong.
func TestForeignFaults(t *testing.T) {
	for _, c := range []struct {
		name, sql  string
		change     func(*postgres.Script)
		want, hint string
		kind       error // nil: none of the sentinels
	}{
		{"a shell", dumpHead + "\\! id\n" + dumpTail, nil, "the SQL reaches beyond its database: line 8: the psql command \\!", "--trust", holdfast.ErrUsage},
		{"a shell, in a file that may be damaged", dumpHead + "\\! id\n" + dumpTail, func(s *postgres.Script) { s.Unauthenticated = true },
			"the psql command \\!, or the file was changed: openssl enc does not notice", "take another copy of the file", holdfast.ErrUsage},
		{"many", dumpHead + strings.Repeat("COPY t TO PROGRAM 'id';\n", 9) + dumpTail, nil, "line 12: COPY TO PROGRAM, which runs a program on the server; and 4 more", "--trust", holdfast.ErrUsage},
		{"a newer server", strings.ReplaceAll(dumpHead, "15.14", "29.1") + dumpTail, nil, "the dump is of PostgreSQL 29, and the newest server here is 18", "install postgresql-29", holdfast.ErrCannotTest},
		{"cut", dumpHead + "CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n\\.\n", nil, `the SQL ends on line 12 without the line "-- PostgreSQL database dump complete"`, "not copied to its end", holdfast.ErrDifference},
		{"cut within rows", dumpHead + "CREATE TABLE t (a int);\nCOPY public.t FROM stdin;\n1\n", nil, "ends on line 11 within the rows of table public.t", "not copied to its end", holdfast.ErrDifference},
		{"an extension", dumpHead + "CREATE EXTENSION timescaledb WITH SCHEMA public;" + dumpTail, nil, "the server lacks the extension timescaledb", "postgresql-15-timescaledb", holdfast.ErrCannotTest},
		{"a tablespace", dumpHead + "CREATE TABLESPACE fast LOCATION '/fast';" + dumpTail, nil, "the dump makes the tablespace fast", "empty cluster", holdfast.ErrCannotTest},
		{"a database that cannot be made", dumpHead + "CREATE DATABASE app WITH TEMPLATE = nowhere;\n\\connect app\n" + dumpTail, nil, `template database "nowhere" does not exist`, "", nil},
		{"data alone", dumpHead + "COPY public.t (a) FROM stdin;\n1\n\\.\n" + dumpTail, nil, `relation "public.t" does not exist`, "dump of data alone", nil},
		{"a wrong statement", dumpHead + "CREATE TABLE t (a int);\nINSERT INTO t VALUES ('x');" + dumpTail, nil, "invalid input syntax for type integer", "refused a statement", nil},
		{"a row too short", dumpHead + "CREATE TABLE t (a int, b int);\nCOPY t FROM stdin;\n1\n\\.\n" + dumpTail, nil, "COPY t, line 1", "refused a statement", nil},
		{"a program that is trusted", dumpHead + "CREATE TABLE t (a text);\nCOPY t FROM PROGRAM 'cat /etc/shadow';" + dumpTail, trusted, "program \"cat /etc/shadow\" failed", "", nil},
		{"a shell that is trusted", dumpHead + "\\! touch /etc/holdfast-was-here; touch stolen\n" + dumpTail, trusted, "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := rehearse(t, c.sql, c.change, ignore)
			if c.want == "" {
				if err != nil {
					t.Errorf("%v (hint: %s)", err, holdfast.Hint(err))
				}
				if _, err := os.Stat("/etc/holdfast-was-here"); err == nil {
					t.Error("the script reached out of the sandbox")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(holdfast.Hint(err), c.hint) {
				t.Errorf("error %v\nhint %q\nwant %q\nand %q", err, holdfast.Hint(err), c.want, c.hint)
			}
			for _, kind := range []error{holdfast.ErrUsage, holdfast.ErrCannotTest, holdfast.ErrDifference} {
				if errors.Is(err, kind) != (kind == c.kind) {
					t.Errorf("error %v is %v: %t", err, kind, kind != c.kind)
				}
			}
		})
	}
}

func trusted(s *postgres.Script) { s.Trusted = true }

// TestForeignOddities restores what is whole and needs a hand.
func TestForeignOddities(t *testing.T) {
	for _, c := range []struct {
		name, sql string
		change    func(*postgres.Script)
		want      string
		warning   string
	}{
		{"an old server", strings.ReplaceAll(dumpHead, "15.14", "9.6.24") + "CREATE TABLE t (a int);\n" + dumpTail, nil, "public.t 0", "the dump is of PostgreSQL 9, and is restored on 13"},
		{"another version by wish", strings.ReplaceAll(dumpHead, "15.14", "29.1") + "SET transaction_timeout = 0;\nCREATE TABLE t (a int);\n" + dumpTail, func(s *postgres.Script) { s.WantMajor = 15 }, "public.t 0", "left out of the dump, as the database is new, or does not know it: SET transaction_timeout (1)"},
		{"nobody's SQL", "create table t (a text check (a ~ '^\\w+$'));insert into t values ('épée')", nil, "public.t 1", "does not say which PostgreSQL it is of: it is restored on 18"},
		{"the schema public", dumpHead + "CREATE SCHEMA public;\nALTER SCHEMA public OWNER TO pg_database_owner;\nCREATE TABLE public.t (a int);\n" + dumpTail, nil, "public.t 0", ""},
		{"unknown roles", dumpHead + "CREATE TABLE t (a int);\nALTER TABLE t OWNER TO \"Gone\";\nCREATE MATERIALIZED VIEW v AS SELECT * FROM t;\nALTER TABLE v OWNER TO other;\nREVOKE ALL ON t FROM PUBLIC;\nREFRESH MATERIALIZED VIEW v;\n" + dumpTail, nil, "public.t 0", ""},
		{"a locale that is not here", dumpHead + "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'tlh_QO.UTF-8' TABLESPACE = fast;\n\\connect app\nCREATE TABLE t (a int);\n" + dumpTail, nil, "public.t 0",
			`the locale of the database is not here: it is restored with another one, as the server said: create database "restored_restoring_`},
		{"a locale provider that came later", dumpHead + "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8';\n\\connect app\nCREATE TABLE t (a int);\n" + dumpTail, nil, "public.t 0",
			"PostgreSQL 15 does not have the locale provider builtin of the database: it is restored with another locale"},
		{"bytes without an encoding", dumpHead + "SET client_encoding = 'SQL_ASCII';\nCREATE TABLE t (a text);\nCOPY t FROM stdin;\n\xff\xfe\n\\.\n" + dumpTail, nil, "public.t 1", ""},
		{"a byte order mark", "\xef\xbb\xbf" + dumpHead + "\\restrict abc\nCREATE TABLE t (a int);\n\\unrestrict abc\n" + dumpTail, nil, "public.t 0", ""},
		{"a byte order mark before a statement", "\xef\xbb\xbfCREATE TABLE t (a int);", nil, "public.t 0", ""},
		{"latin letters", dumpHead + "SET client_encoding = 'LATIN1';\nCREATE TABLE t (a text);\nCOPY t FROM stdin;\n\xe9\n\\.\n" + dumpTail, nil, "public.t 1", ""},
		{"lines of windows", strings.ReplaceAll(dumpHead+"CREATE TABLE t (a text);\nCOPY t (a) FROM stdin;\nx\ny\n\\.\n"+dumpTail, "\n", "\r\n"), nil, "public.t 2", ""},
		{"rows of a CSV", "CREATE TABLE t (a text);\nCOPY t FROM STDIN WITH (FORMAT csv);\n\"a\nb\"\nc\n\\.\n", nil, "public.t 2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen events
			_, facts, err := rehearse(t, c.sql, c.change, seen.observe)
			if err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			if got := tables(facts.Facts); got != c.want {
				t.Errorf("restored %q, want %q", got, c.want)
			}
			if !strings.Contains(seen.warnings(), c.warning) {
				t.Errorf("warnings %q, want %q", seen.warnings(), c.warning)
			}
		})
	}
}

// TestForeignIntoServer restores into a new database of a live server, all or nothing.
func TestForeignIntoServer(t *testing.T) {
	server := testbed.Postgres(t, 17, testbed.ServerOptions{})
	into := func(sql, name string, change func(*postgres.Target)) (string, error) {
		stored := held(sql)
		script, err := look(t, stored)
		if err != nil {
			t.Fatal(err)
		}
		target := postgres.Target{URL: holdfast.NewSecret(server.URL(name)), Database: name, BinDirs: binDirs(t)}
		if change != nil {
			change(&target)
		}
		p, err := postgres.OpenScript(t.Context(), target, script, ignore)
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
		if _, err := p.Check(t.Context()); err != nil {
			return "", err
		}
		return p.Commit(t.Context())
	}
	databases := func() string {
		return server.Value(t, "postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate")
	}
	owned := dumpHead + "CREATE TABLE t (a int);\nALTER TABLE t OWNER TO app;\nCOPY t FROM stdin;\n1\n2\n\\.\n" + dumpTail
	_, err := into(owned, "new", nil)
	if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "the server lacks the role app") || holdfast.Hint(err) != `make it first: CREATE ROLE "app";` {
		t.Errorf("without the role: %v, hint %q", err, holdfast.Hint(err))
	}
	if _, err := into(dumpHead+"CREATE TABLE t (a int);\nCREATE TABLE t (a int);"+dumpTail, "new", nil); err == nil || databases() != "postgres" {
		t.Errorf("a wrong statement: %v; databases %s", err, databases())
	}
	server.Exec(t, "postgres", "CREATE ROLE app")
	where, err := into(owned, "new", nil)
	if err != nil || !strings.Contains(where, `database "new"`) || server.Value(t, "new", "SELECT count(*) FROM t") != "2" {
		t.Errorf("restored at %q, error %v", where, err)
	}
	if got := server.Value(t, "postgres", "SELECT has_database_privilege('app', 'new', 'CONNECT')"); got != "t" {
		t.Errorf("app may connect: %s", got)
	}
	if _, err := into(owned, "new", nil); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), `database "new" exists`) {
		t.Errorf("a target that is taken: %v", err)
	}
	created := dumpHead + "DROP DATABASE app;\nCREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LC_COLLATE = 'C' LC_CTYPE = 'C';\nALTER DATABASE app OWNER TO app;\n\\connect app\nCREATE TABLE u (a int);\n" + dumpTail
	where, err = into(created, "new", func(target *postgres.Target) { target.Overwrite = true })
	if err != nil || !strings.Contains(where, "new_before_") || server.Value(t, "new", "SELECT count(*) FROM u") != "0" {
		t.Errorf("over it: %q, error %v", where, err)
	}
	if got := databases(); strings.Contains(got, "restoring") || strings.Count(got, " ") != 2 {
		t.Errorf("databases %s", got)
	}
}

// TestForeignArchiveDamage cuts and flips archives: what comes out is an error, and never less SQL.
func TestForeignArchiveDamage(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 2000) n", "CREATE INDEX ON t (n)")
	whole := stock(t, server, "pg_dump", "-Fc", "postgres")
	if sql, err := unpack(t, file(whole)); err != nil || !strings.Contains(sql, "2000\t") {
		t.Fatalf("whole: %d bytes, error %v", len(sql), err)
	}
	for n := len(whole) - 1; n > 5; n -= 1 + n/9 {
		if _, err := unpack(t, file(whole[:n])); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
	newer := stock(t, server, "pg_dump", "-Fc", "postgres")
	newer[6]++ // the minor version of the format, behind PGDMP and the major one
	newer[6] += 10
	if _, err := unpack(t, file(newer)); !errors.Is(err, holdfast.ErrCannotTest) || !strings.Contains(err.Error(), "made by a pg_dump newer than pg_restore") {
		t.Errorf("a newer format: %v", err)
	}
	broken := errors.New("broken")
	failing := postgres.Archive{Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(newer[:100]), &breaking{broken})), nil
	}}
	if _, err := unpack(t, failing); !errors.Is(err, broken) {
		t.Errorf("an archive that cannot be read: %v", err)
	}
}

type breaking struct{ err error }

func (b *breaking) Read([]byte) (int, error) { return 0, b.err }
