package pgdump_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source/postgres/pgdump"
)

func scan(text string) (pgdump.Script, error) { return pgdump.Scan(strings.NewReader(text)) }

func TestScanFindings(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "SELECT 1;\n\\restrict abc\n\\connect app\n\\connect -reuse-previous=on \"dbname='a b'\"\n\\unrestrict abc\n", nil},
		{"a shell", "SELECT 1;\n\n\\! id\n", []string{`line 3: the psql command \!`}},
		{"a shell without a line end", "SELECT 1;\n\\! id", []string{`line 2: the psql command \!`}},
		{"a shell within a statement", "SELECT\n  1 \\! id\n;\n", []string{`line 1: the psql command \!`}},
		{"a shell behind a statement", "SELECT 1; \\! id\n", []string{`line 1: the psql command \!`}},
		{"two", "\\i x\n\\o | cat\nSELECT 1 \\gexec\n", []string{`line 1: the psql command \i`, `line 2: the psql command \o`, `line 3: the psql command \gexec`}},
		{"another connection", "\\connect - - evil.example.org\n\\c x\n\\connect \"host=evil\"\n", []string{`line 1: the psql command \connect`, `line 2: the psql command \c`, `line 3: the psql command \connect`}},
		{"another connection within a statement", "SELECT 1 \\connect app\n;", []string{`line 1: the psql command \connect`}},
		{"\\copy from a program", "\\copy t from program 'id'\n", []string{`line 1: the psql command \copy`}},
		{"a shell in rows", "COPY t FROM stdin;\n\\! id\n\\.\n", nil},
		{"a shell in a string", "SELECT '\n\\! id\n', $$\n\\! id\n$$, \"\n\\! id\n\" /*\n\\! id\n*/;", nil},
		{"a shell behind a string with a backslash", "SELECT 'a\\';\n\\! id\n", []string{`line 2: the psql command \!`}},
		{"a shell behind a string with escapes", "SELECT E'a\\'\n\\! id\n';", nil},
		{"a program", "\n\nCOPY t FROM PROGRAM 'id';", []string{"line 3: COPY FROM PROGRAM, which runs a program on the server"}},
		{"a program, spread out", "copy public.\"T x\" (a, b)\n to /* so */ program $$id$$ with (format csv);", []string{"line 1: COPY TO PROGRAM, which runs a program on the server"}},
		{"a program without a semicolon", "COPY t FROM PROGRAM 'id'", []string{"line 1: COPY FROM PROGRAM, which runs a program on the server"}},
		{"a query to a program", "COPY (SELECT ')', \"(\" FROM t) TO PROGRAM 'id';", []string{"line 1: COPY TO PROGRAM, which runs a program on the server"}},
		{"a file", "COPY t FROM '/etc/passwd';\nCOPY BINARY t TO E'/tmp/x';\nCOPY t FROM U&'/etc/passwd';", []string{"line 1: COPY FROM a file of the server", "line 2: COPY TO a file of the server", "line 3: COPY FROM a file of the server"}},
		{"standard output", "COPY t TO STDOUT;\nCOPY (SELECT 1) TO stdout WITH CSV;", nil},
		{"a table called program", "COPY program FROM stdin;\n1\n\\.\nCOPY copy.program (\"from\") TO stdout;", nil},
		{"in a function", "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$\nBEGIN\n  COPY t FROM PROGRAM 'id';\nEND $$;",
			[]string{"line 1: COPY FROM PROGRAM in the text of a function or a string, which runs a program on the server"}},
		{"in a function of the standard", "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC SELECT 'copy t to program ''id'''; END;",
			[]string{"line 1: COPY TO PROGRAM in the text of a function or a string, which runs a program on the server"}},
		{"in a block", "DO $x$ BEGIN EXECUTE 'COPY t FROM PROGRAM ' || quote_literal('id'); END $x$;",
			[]string{"line 1: COPY FROM PROGRAM in the text of a function or a string, which runs a program on the server"}},
		{"in a block, with a comment between", "DO $$BEGIN copy t from -- '\n program 'id'; END$$;",
			[]string{"line 1: COPY FROM PROGRAM in the text of a function or a string, which runs a program on the server"}},
		{"by format", "DO 'BEGIN EXECUTE format(''COPY t TO PROGRAM %L'', ''id''); END';",
			[]string{"line 1: COPY TO PROGRAM in the text of a function or a string, which runs a program on the server"}},
		{"a file in a block", "DO $$BEGIN COPY t FROM '/etc/passwd'; END$$;", []string{"line 1: COPY FROM a file of the server in the text of a function or a string"}},
		{"prose", "COMMENT ON TABLE t IS 'Copy of what came from program \"x\"';\nINSERT INTO t VALUES ('copy t from program ''id''');\nSELECT 'a copy from the program';", nil},
		{"how strings are read", "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);", []string{"line 1: a change of how strings are read"}},
		{"search_path", "SELECT pg_catalog.set_config('search_path', '', false);", nil},
		{"an encoding", "SET client_encoding = 'SJIS';", []string{"line 1: a client encoding that hides backslashes within letters"}},
		{"an encoding by psql", "\\encoding UTF8\n\\encoding big5\n\\encoding UTF8 \\! id\n", []string{"line 2: a client encoding that hides backslashes within letters", `line 3: the psql command \encoding`}},
		{"strings as they were", "set standard_conforming_strings to off;\nSELECT '\\'\n\\! id\n';\nSET standard_conforming_strings = 'on';\nSELECT '\\';\n\\! id\n", []string{`line 7: the psql command \!`}},
		{"windows", "SELECT 1;\r\nCOPY t FROM stdin;\r\n1\r\n\\.\r\n\\! id\r\n", []string{`line 5: the psql command \!`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			script, err := scan(c.text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, finding := range script.Findings {
				got = append(got, finding.String())
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestScanFindsWhatIsFarApart(t *testing.T) {
	long := "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\n" + strings.Repeat("  PERFORM 1;\n", 1_600_000) + " COPY t FROM PROGRAM 'id'; END $$;\n"
	script, err := scan(long)
	if err != nil || len(script.Findings) != 1 || !strings.Contains(script.Findings[0].What, "COPY FROM PROGRAM") {
		t.Errorf("found %v, error %v", script.Findings, err)
	}
	script, err = scan("INSERT INTO \"T\" VALUES ('copy t from program ''id''')" + strings.Repeat(",\n(1)", 5_000_000) + ";")
	if err != nil || len(script.Findings) != 0 || !reflect.DeepEqual(script.Uncounted, []string{`"T"`}) {
		t.Errorf("found %v and %v, error %v", script.Findings, script.Uncounted, err)
	}
	many := strings.Repeat("\\! id\n", 1000)
	if script, err = scan(many); err != nil || len(script.Findings) != 100 || len(script.Commands) != 100 {
		t.Errorf("%d findings, %d commands, error %v", len(script.Findings), len(script.Commands), err)
	}
	script, err = scan(strings.Repeat("COPY t TO PROGRAM 'id';\n", 1000) + "\\encoding UTF8\n\\restrict a\n\\connect b\nSELECT 1 \\c x\n;")
	if err != nil || fmt.Sprint(script.Commands) != `[line 1004: the psql command \c]` {
		t.Errorf("commands %v, error %v", script.Commands, err)
	}
}

func TestScanTruncation(t *testing.T) {
	whole := "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\n\\.\nSELECT 1;\n--\n-- PostgreSQL database dump complete\n--\n\n"
	if _, err := scan(whole); err != nil {
		t.Fatal(err)
	}
	trailer := strings.LastIndex(whole, "complete") + len("complete")
	for n := strings.Index(whole, "dump\n") + 5; n < trailer; n++ {
		if _, err := scan(whole[:n]); !errors.Is(err, pgdump.ErrTruncated) {
			t.Errorf("cut to %q: %v", whole[:n], err)
		}
	}
	for text, want := range map[string]string{
		"SELECT 'a": "line 1 within a quoted text", "DO $$\n\n": "line 3 within a quoted text", "SELECT 1 /* ": "within a comment",
		"COPY a.\"B\" (x) FROM stdin;\n1\n": "line 3 within the rows of table a.\"B\"", "COPY t FROM stdin WITH CSV;\n1\n": "within the rows of a table",
		whole[:strings.Index(whole, "SELECT 1;")]: `without the line "-- PostgreSQL database dump complete"`,
	} {
		if _, err := scan(text); !errors.Is(err, pgdump.ErrTruncated) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "SELECT 1", "SELECT 1;", "SELECT 1; -- so", "SELECT \"a\"", "SELECT 'a'"} {
		if _, err := scan(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"COPY t FROM stdin; SELECT 1;\n", "COPY FROM stdin;\n", "COPY t OUT stdin;\n", "COPY t FROM;\n"} {
		if _, err := scan(text); !errors.Is(err, pgdump.ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestScanNames(t *testing.T) {
	script, err := scan(`
-- PostgreSQL database cluster dump
CREATE ROLE made;
ALTER ROLE made WITH SUPERUSER;
GRANT "Group" TO made WITH INHERIT TRUE GRANTED BY grantor;
CREATE TABLESPACE space OWNER made LOCATION '/data';
-- PostgreSQL database dump
-- Dumped from database version 9.6.24
-- Dumped by pg_dump version 15.14 (Debian 15.14-1)
-- PostgreSQL database dump complete
-- PostgreSQL database dump
-- Dumped from database version 15.3
CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'de_DE.UTF-8';
ALTER DATABASE app OWNER TO "App Owner";
\connect app
CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE EXTENSION "uuid-ossp";
CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION s_owner;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT $$ OWNER TO nobody $$';
ALTER FUNCTION s.f(text) OWNER TO f_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE d_for IN SCHEMA s REVOKE ALL ON TABLES FROM d_from;
ALTER DEFAULT PRIVILEGES FOR ROLE d_for IN SCHEMA s GRANT SELECT ON TABLES TO d_to, PUBLIC;
GRANT SELECT("to", b),UPDATE(x) ON TABLE s."from" TO reader, "Writer" WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ADMIN OPTION FOR left_role FROM right_role;
CREATE POLICY p ON t FOR SELECT TO p_role USING ((a = 'x' OR b) );
SET SESSION AUTHORIZATION 'quoted';
SET SESSION AUTHORIZATION DEFAULT;
SET ROLE plain;
CREATE USER MAPPING FOR mapped SERVER remote OPTIONS ("user" 'x');
COPY t (a, b) FROM stdin;
1	x
2	y
\.
COPY u FROM stdin;
\.
COPY u FROM stdin;
1
\.
INSERT INTO s.i VALUES (1);
-- PostgreSQL database dump complete
-- PostgreSQL database cluster dump complete
`)
	if err != nil {
		t.Fatal(err)
	}
	want := "App Owner,Group,Writer,d_for,d_from,d_to,f_owner,grantor,left_role,mapped,p_role,plain,quoted,reader,right_role,s_owner"
	if got := strings.Join(script.Roles, ","); got != want {
		t.Errorf("roles %s\n want %s", got, want)
	}
	got := fmt.Sprintln(script.Dump, script.Cluster, script.Major, script.Server, script.Client, script.Databases, script.Extensions, script.Tablespaces, script.Uncounted, len(script.Findings))
	if want := "true true 15 15.3 15.14 [app] [pg_trgm uuid-ossp] [space] [app: s.i app: u] 0\n"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if !strings.HasPrefix(script.Create, "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING") {
		t.Errorf("the database is made by %q", script.Create)
	}
	if len(script.Tables) != 1 || script.Tables[0].Name != "app: t" || script.Tables[0].Rows != 2 {
		t.Errorf("tables %v", script.Tables)
	}
}

// TestScanCountsAsTheReader: what a foreign dump holds is told like what our own hold.
func TestScanCountsAsTheReader(t *testing.T) { scansAsRead(t, small(t)) }

func scansAsRead(t *testing.T, dump string) {
	t.Helper()
	_, facts, err := read(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	script, err := scan(dump)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, fact := range facts {
		if fact.Class != "table" {
			continue
		}
		if i == len(script.Tables) || script.Tables[i].Name != fact.Name || script.Tables[i].Rows != fact.Rows {
			t.Fatalf("the reader has %v, the scan of %d tables has not", fact, len(script.Tables))
		}
		i++
	}
	if i == 0 || i != len(script.Tables) {
		t.Errorf("the reader has %d tables, the scan %d", i, len(script.Tables))
	}
	for _, finding := range script.Findings {
		t.Errorf("pg_dump's own words are found fault with: %v", finding)
	}
}

func TestScriptFilter(t *testing.T) {
	text := `\restrict abc
SET transaction_timeout = 0;
DROP DATABASE app;
CREATE DATABASE app WITH ENCODING = 'UTF8';
ALTER DATABASE app OWNER TO x;
\unrestrict abc
\connect app
\restrict def
COMMENT ON DATABASE app IS 'it; holds';
GRANT CONNECT ON DATABASE app TO y;
GRANT SELECT ON TABLE t TO y;
select 'ALTER DATABASE app';
COPY t FROM stdin WITH CSV;
"DROP DATABASE app;
"
\.
\unrestrict def
SELECT 2`
	filter := pgdump.NewScriptFilter(strings.NewReader(text), pgdump.Rules{DropSettings: []string{"transaction_timeout"}, DropRestrict: true, DropDatabases: true})
	got, err := io.ReadAll(filter)
	if err != nil {
		t.Fatal(err)
	}
	want := "GRANT SELECT ON TABLE t TO y;\nselect 'ALTER DATABASE app';\nCOPY t FROM stdin WITH CSV;\n\"DROP DATABASE app;\n\"\n\\.\nSELECT 2"
	var left []string
	for line := range strings.Lines(string(got)) {
		if strings.TrimSpace(line) != "" {
			left = append(left, line)
		}
	}
	if strings.Join(left, "") != want {
		t.Errorf("left is %q\nwant %q", strings.Join(left, ""), want)
	}
	if removed := strings.Join(filter.Removed(), ", "); removed != `ALTER DATABASE (1), COMMENT ON DATABASE (1), CREATE DATABASE (1), DROP DATABASE (1), GRANT ON DATABASE (1), SET transaction_timeout (1), \connect (1), \restrict (2), \unrestrict (2)` {
		t.Errorf("removed %s", removed)
	}
}

func TestScriptFilterOfDrops(t *testing.T) {
	long := "ALTER TABLE ONLY public.t DROP CONSTRAINT c;\nDROP TABLE public.t;\nSELECT 1;\nCREATE TABLE public.t (a int);\nDROP TABLE public.t;\nALTER TABLE x DROP COLUMN y;\n"
	for name, r := range map[string]io.Reader{"at once": strings.NewReader(long), "byte by byte": iotest.OneByteReader(strings.NewReader(long))} {
		filter := pgdump.NewScriptFilter(r, pgdump.Rules{DropDrops: true})
		got, err := io.ReadAll(filter)
		if want := "SELECT 1;\nCREATE TABLE public.t (a int);\nDROP TABLE public.t;\nALTER TABLE x DROP COLUMN y;\n"; err != nil || strings.TrimLeft(string(got), "\n") != want {
			t.Errorf("%s: left is %q, error %v", name, got, err)
		}
		if removed := strings.Join(filter.Removed(), ", "); removed != "DROP (2)" {
			t.Errorf("%s: removed %s", name, removed)
		}
	}
}

func TestScanOfParts(t *testing.T) {
	for text, want := range map[string]string{
		"COPY t FROM stdin;\n1\n\\.\n":                                 "true false ",
		"INSERT INTO t VALUES (1);":                                    "true false ",
		"CREATE UNLOGGED TABLE t (a int);INSERT INTO t SELECT 1;":      "false false ",
		"CREATE SCHEMA public;":                                        "false true ",
		"SET client_encoding = 'latin1';SET client_encoding = 'UTF8';": "false false LATIN1",
	} {
		script, err := scan(text)
		if got := fmt.Sprint(script.Tablefree, script.MakesPublic, " ", script.Encoding); err != nil || strings.Join(strings.Fields(got), " ") != strings.TrimSpace(want) {
			t.Errorf("%q: %s, want %s; error %v", text, got, want, err)
		}
	}
	script, err := scan("-- PostgreSQL database cluster dump\n\\connect app\nCOPY t FROM stdin;\n1\n\\.\n\\connect -reuse-previous=on \"dbname='it''s \"\"\\\\x'\"\nCOPY t FROM stdin;\n\\.\n-- PostgreSQL database cluster dump complete\n")
	if err != nil || len(script.Tables) != 2 || script.Tables[0].Name != "app: t" {
		t.Errorf("tables %v, error %v", script.Tables, err)
	}
}

// mark is the byte order mark of UTF-8.
const mark = "\xef\xbb\xbf"

// TestScanOfMark: what an editor of Windows writes before a script is no part of its first statement.
func TestScanOfMark(t *testing.T) {
	text := "\\restrict abc\nSET x = 1;\n\\unrestrict abc\n"
	for name, marked := range map[string]io.Reader{"at once": strings.NewReader(mark + text), "byte by byte": iotest.OneByteReader(strings.NewReader(mark + text))} {
		script, err := pgdump.Scan(marked)
		if err != nil || len(script.Findings) > 0 {
			t.Errorf("%s: found %v, error %v", name, script.Findings, err)
		}
	}
	got, err := io.ReadAll(pgdump.NewScriptFilter(strings.NewReader(mark+text), pgdump.Rules{DropSettings: []string{"x"}}))
	if want := "\\restrict abc\n\\unrestrict abc\n"; err != nil || string(got) != want {
		t.Errorf("left is %q, want %q; error %v", got, want, err)
	}
	// A second one, and a half of one, are bytes of the script.
	for _, text := range []string{mark + mark + "SELECT 1;", mark[:2]} {
		got, err := io.ReadAll(pgdump.NewScriptFilter(strings.NewReader(text), pgdump.Rules{}))
		if want := strings.TrimPrefix(text, mark); err != nil || string(got) != want {
			t.Errorf("left is %q, want %q; error %v", got, want, err)
		}
	}
	broken := errors.New("broken")
	if _, err := pgdump.Scan(io.MultiReader(strings.NewReader("S"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// TestScanOfWhatIsGone: tables that a script drops or renames when it has filled them.
func TestScanOfWhatIsGone(t *testing.T) {
	const filled = "COPY public.\"T\" (a) FROM stdin;\n1\n2\n\\.\nINSERT INTO u VALUES (1);\n"
	for text, want := range map[string]string{
		"DROP TABLE public.\"T\";":                         `public."T"`,
		"drop table if exists x, PUBLIC.\"T\", U cascade;": `public."T" u`,
		"DROP TABLE \"T\"":                                 `public."T"`,
		"DROP TABLE public.t, app.\"T\";":                  "",
		"DROP TABLE app.u;":                                `u`,
		"DROP SCHEMA app, public CASCADE;":                 `public."T"`,
		"ALTER TABLE IF EXISTS ONLY u RENAME TO v;":        `u`,
		"ALTER TABLE public.\"T\" SET SCHEMA app;":         `public."T"`,
		"ALTER SCHEMA public RENAME TO app;":               `public."T"`,
		"ALTER TABLE u RENAME COLUMN a TO b;":              "",
		"ALTER TABLE u RENAME a TO b;":                     "",
		"ALTER TABLE u OWNER TO v; DROP INDEX u;":          "",
		"DROP TABLE u; INSERT INTO u VALUES (1);":          "",
		"DROP TABLE": "", "DROP TABLE .": "", "ALTER TABLE u": "",
	} {
		script, err := scan(filled + text)
		if got := strings.Join(script.Gone, " "); err != nil || got != want {
			t.Errorf("%q: gone are %q, want %q; error %v", text, got, want, err)
		}
		if len(script.Tables) != 1 || script.Tables[0].Rows != 2 || len(script.Uncounted) != 1 {
			t.Errorf("%q: tables %v, not counted %v", text, script.Tables, script.Uncounted)
		}
	}
	script, err := scan("DROP TABLE IF EXISTS public.\"T\";\n" + filled)
	if err != nil || len(script.Gone) > 0 {
		t.Errorf("dropped before: %v, error %v", script.Gone, err)
	}
	script, err = scan("-- PostgreSQL database cluster dump\n\\connect one\n" + filled + "\\connect two\n" + filled + "DROP TABLE u;\n-- PostgreSQL database cluster dump complete\n")
	if err != nil || strings.Join(script.Gone, " ") != "two: u" {
		t.Errorf("of two databases: %v, error %v", script.Gone, err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(small(f)))
	f.Add([]byte("SELECT 1 \\! id\n;COPY t FROM PROGRAM 'x';COPY t FROM stdin;\r\n1\r\n\\.\r\n\\i x"))
	f.Add([]byte("set standard_conforming_strings to off; DO $a$ copy t to program '' $a$; GRANT a TO b GRANTED BY c;"))
	f.Add([]byte("CREATE DATABASE x; \\connect x\nALTER TABLE t OWNER TO \"a\"\"b\"; CREATE POLICY p ON t TO q"))
	f.Add([]byte(mark + "\\restrict a\nCOPY t FROM stdin;\n1\n\\.\nDROP TABLE IF EXISTS x, t CASCADE;ALTER TABLE ONLY t RENAME TO u"))
	f.Add([]byte("COPY (SELECT 1) TO '/x'; COPY BINARY t FROM U&'x' ; REVOKE a FROM b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		script, err := pgdump.Scan(bytes.NewReader(text))
		bytewise, bytewiseErr := pgdump.Scan(iotest.OneByteReader(bytes.NewReader(text)))
		if fmt.Sprint(err) != fmt.Sprint(bytewiseErr) {
			t.Fatalf("at once: %v, byte by byte: %v", err, bytewiseErr)
		}
		if err == nil && !reflect.DeepEqual(script, bytewise) {
			t.Errorf("at once: %+v\nbyte by byte: %+v", script, bytewise)
		}
		if err != nil {
			return
		}
		if same, err := io.ReadAll(pgdump.NewScriptFilter(bytes.NewReader(text), pgdump.Rules{})); err != nil || !bytes.Equal(same, bytes.TrimPrefix(text, []byte(mark))) {
			t.Errorf("a filter without rules changed the script: %v", err)
		}
		// What the strict reader takes, the scan takes, and finds nothing in it that reaches out of psql.
		if _, facts, readErr := read(bytes.NewReader(text)); readErr == nil {
			for _, fact := range facts {
				if fact.Class == "extension" && len(script.Extensions) == 0 {
					t.Errorf("the reader saw %v, the scan did not", fact)
				}
			}
			for _, finding := range script.Findings {
				if strings.Contains(finding.What, "psql") {
					t.Errorf("the reader took what the scan refuses: %v", finding)
				}
			}
		}
	})
}
