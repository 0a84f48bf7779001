package pgdump_test

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source/postgres/pgdump"
)

const clusterHead = "--\n-- PostgreSQL database cluster dump\n--\n\nSET client_encoding = 'UTF8';\n"

const clusterTail = "--\n-- PostgreSQL database cluster dump complete\n--\n\n"

// cluster is one as pg_dumpall writes it, with what makes it hard: names of many letters, and rows and bodies that look like
// what stands around them.
const cluster = clusterHead + `
CREATE ROLE "App Owner";
ALTER ROLE "App Owner" WITH LOGIN PASSWORD 'md5 \connect evil';
ALTER ROLE "App Owner" SET work_mem TO '5MB';
GRANT readers TO "App Owner" GRANTED BY postgres;
CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';
GRANT SET ON PARAMETER work_mem TO readers;
DROP ROLE IF EXISTS gone;
UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1';
DROP DATABASE template1;
CREATE DATABASE template1 WITH TEMPLATE = template0;
\connect template1
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;
COMMENT ON EXTENSION plpgsql IS 'x';
CREATE DATABASE "Two ""2""" WITH TEMPLATE = template0 ENCODING = 'UTF8';
ALTER DATABASE "Two ""2""" OWNER TO "App Owner";
\unrestrict abc
\encoding SQL_ASCII
\connect -reuse-previous=on "dbname='Two ""2""'"
\restrict abc
ALTER DATABASE "Two ""2""" CONNECTION LIMIT = 9;
COMMENT ON DATABASE "Two ""2""" IS 'of two';
ALTER ROLE "App Owner" IN DATABASE "Two ""2""" SET role TO 'x';
REVOKE ALL ON DATABASE "Two ""2""" FROM PUBLIC;
CREATE SCHEMA public;
CREATE TABLE public.t (a text);
COPY public.t (a) FROM stdin;
\\connect evil
\connect evil
\.
DO $$
\connect evil
$$;
\connect postgres
SET x = '
\connect evil
';
` + clusterTail

func TestScanCluster(t *testing.T) {
	script, err := scan(cluster)
	if err != nil {
		t.Fatal(err)
	}
	want := []pgdump.Part{
		{Name: "template1", Create: "CREATE DATABASE template1 WITH TEMPLATE = template0;"},
		{Name: `Two "2"`, Create: `CREATE DATABASE "Two ""2""" WITH TEMPLATE = template0 ENCODING = 'UTF8';`, Filled: true, MakesPublic: true,
			Properties: []pgdump.Property{{"ALTER DATABASE ", ` OWNER TO "App Owner";`}, {"ALTER DATABASE ", " CONNECTION LIMIT = 9;"},
				{"COMMENT ON DATABASE ", " IS 'of two';"}, {`ALTER ROLE "App Owner" IN DATABASE `, " SET role TO 'x';"},
				{"REVOKE ALL ON DATABASE ", " FROM PUBLIC;"}}},
		{Name: "postgres"},
	}
	if !reflect.DeepEqual(script.Parts, want) {
		t.Errorf("parts\n%+v\nwant\n%+v", script.Parts, want)
	}
	g := script.Globals
	if len(g.Roles) != 1 || g.Roles[0].Name != "App Owner" || len(g.Roles[0].Alter) != 1 || len(g.Settings) != 1 || len(g.Memberships) != 1 ||
		len(g.Tablespaces) != 1 || len(g.Other) != 1 {
		t.Errorf("globals are %+v", g)
	}
	if len(script.Astray)+len(script.Findings) > 0 {
		t.Errorf("astray are %v, found was %v", script.Astray, script.Findings)
	}
}

func TestScanClusterAstray(t *testing.T) {
	for text, want := range map[string]string{
		clusterHead + "CREATE TABLE t (a int);\n" + clusterTail:                                               "line 6: CREATE that belongs to no one database",
		clusterHead + "create user u;\n" + clusterTail:                                                        "line 6: CREATE that belongs to no one database",
		clusterHead + "COPY t FROM stdin;\n\\.\n" + clusterTail:                                               "line 6: COPY that belongs to no one database",
		clusterHead + "SELECT f();\n" + clusterTail:                                                           "line 6: SELECT that belongs to no one database",
		clusterHead + "GRANT CONNECT ON DATABASE a, b TO c;\n" + clusterTail:                                  "line 6: GRANT ON DATABASE that belongs to no one database",
		"SET x = 1;\nCREATE TABLE t (a int);\n" + clusterHead + clusterTail:                                   "line 2: something before the dump of the cluster that belongs to no one database",
		clusterHead + "CREATE ROLE " + strings.Repeat("x", 17<<20) + ";\n" + clusterTail:                      "line 6: CREATE that belongs to no one database",
		clusterHead + "\\connect a\nCREATE TABLE t (a int);\n" + clusterTail:                                  "",
		clusterHead + "SELECT pg_catalog.set_config('search_path', '', false);\nDROP ROLE x;\n" + clusterTail: "",
	} {
		script, err := scan(text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(script.Astray) > 0 {
			got = script.Astray[0].String()
		}
		if got != want {
			t.Errorf("%.200q: astray %q, want %q", text, got, want)
		}
	}
}

// split reads all parts of a script.
func split(t testing.TB, r io.Reader) string {
	t.Helper()
	filter := pgdump.NewScriptFilter(r, pgdump.Rules{Split: true, DropRestrict: true, DropDatabases: true, DropDrops: true})
	var b strings.Builder
	for name, more := "", true; more; name, more = filter.Next() {
		fmt.Fprintf(&b, "=== %s\n", name)
		if _, err := io.Copy(&b, struct{ io.Reader }{filter}); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestFilterSplits gives every database what is its own, wherever the chunks end.
func TestFilterSplits(t *testing.T) {
	got := split(t, strings.NewReader(cluster))
	want, err := os.ReadFile("testdata/cluster.split")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("split into\n%s", got)
	}
	for name, r := range map[string]io.Reader{
		"byte by byte": iotest.OneByteReader(strings.NewReader(cluster)), "halves": iotest.HalfReader(strings.NewReader(cluster)),
		"the end with the last bytes": iotest.DataErrReader(strings.NewReader(cluster)),
	} {
		if other := split(t, r); other != got {
			t.Errorf("%s: split into\n%s", name, other)
		}
	}
	// A reader that breaks is never taken for the end of a part.
	broken := errTest
	for n := range len(cluster) {
		filter := pgdump.NewScriptFilter(io.MultiReader(strings.NewReader(cluster[:n]), iotest.ErrReader(broken)), pgdump.Rules{Split: true})
		var err error
		for more := true; more && err == nil; _, more = filter.Next() {
			_, err = io.Copy(io.Discard, struct{ io.Reader }{filter})
		}
		if err != broken {
			t.Fatalf("broken after %d bytes: %v", n, err)
		}
	}
}

var errTest = fmt.Errorf("broken")

// FuzzFilterSplits holds what comes out against what comes out byte by byte.
func FuzzFilterSplits(f *testing.F) {
	f.Add(cluster)
	f.Add("\\connect a\n\\connect b")
	f.Add("\\connect a\r\nSELECT '\\connect b\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := scan(text); err != nil {
			return // a filter is for what was found good
		}
		if whole, bytewise := split(t, strings.NewReader(text)), split(t, iotest.OneByteReader(strings.NewReader(text))); whole != bytewise {
			t.Errorf("split into\n%q\nand byte by byte into\n%q", whole, bytewise)
		}
	})
}
